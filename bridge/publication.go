package bridge

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// Place is where a certificate is published.
type Place string

// The places. A Web Key Directory that the user runs himself needs no protocol: see keydisc.WKDTree.
const (
	PlaceWKS Place = "wks" // the Web Key Directory of the address's domain, through its Web Key Service
	PlaceVKS Place = "vks" // the verifying key server
)

// PublicationState says how far a publication is.
type PublicationState string

// The states of a Publication.
const (
	PublicationRequested PublicationState = "requested" // waits for the service's question (wks) or for the user to open a link (vks)
	PublicationConfirmed PublicationState = "confirmed" // the question was answered, the directory does not show it yet
	PublicationPublished PublicationState = "published" // it was found there
	PublicationFailed    PublicationState = "failed"
)

// Publication is a certificate of the account at one place.
type Publication struct {
	Account     string
	Address     string // that it is published for
	Place       Place
	Fingerprint keydisc.Fingerprint
	State       PublicationState
	Reason      string    // why it failed, or what is missing; one sentence for the user
	Changed     time.Time // when it came into this state
	Next        time.Time // when it is tried or looked at again; zero: not by itself
}

// publication is what the database holds of one.
type publication struct {
	Publication
	attempts    int    // since Changed
	digest      []byte // of the certificate as last handed over; see digestOf
	wanted      bool   // by the user, and not handed over yet: a mail with a link may be caused
	service     string // submission address
	certificate []byte // its
	validity    uint32 // of the INBOX before the service was asked
	nextUID     imap.UID
	nonces      []string // that were answered
}

// pending says whether a Web Key Service may still ask.
func (p *publication) pending() bool {
	return p.Place == PlaceWKS && (p.State == PublicationRequested || p.State == PublicationConfirmed)
}

// enter notes a new state.
func (p *publication) enter(s PublicationState, reason string, now time.Time) {
	p.State, p.Reason, p.Changed, p.Next, p.attempts = s, reason, now, time.Time{}, 0
}

// again sets the time of the next look or attempt: a minute, then twice as long each time, at most six hours. It is
// never sooner than atLeast.
func (p *publication) again(now time.Time, atLeast time.Duration) {
	wait := min(time.Minute<<min(p.attempts, 10), 6*time.Hour)
	p.Next = now.Add(max(wait, atLeast))
	p.attempts++
}

// publications are the rows of the database.
type publications struct{ db *store.DB }

const publicationColumns = `account, address, place, fingerprint, state, reason, changed, next, attempts, digest, wanted, service, certificate, validity, next_uid, nonces`

func (t publications) save(ctx context.Context, p *publication) error {
	return t.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO publication (`+publicationColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			p.Account, p.Address, p.Place, p.Fingerprint, p.State, p.Reason, nanoseconds(p.Changed), nanoseconds(p.Next), p.attempts,
			notNil(p.digest), p.wanted, p.service, notNil(p.certificate), p.validity, p.nextUID, strings.Join(p.nonces, " "))
		return err
	})
}

// of are the publications of an account, by address and place.
func (t publications) of(ctx context.Context, account string) ([]*publication, error) {
	rows, err := t.db.Read().QueryContext(ctx, `SELECT `+publicationColumns+` FROM publication WHERE account = ? ORDER BY address, place`, account)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []*publication
	for rows.Next() {
		p, changed, next, nonces := &publication{}, int64(0), int64(0), ""
		if err := rows.Scan(&p.Account, &p.Address, &p.Place, &p.Fingerprint, &p.State, &p.Reason, &changed, &next, &p.attempts,
			&p.digest, &p.wanted, &p.service, &p.certificate, &p.validity, &p.nextUID, &nonces); err != nil {
			return nil, err
		}
		p.Changed, p.Next, p.nonces = timeOf(changed), timeOf(next), strings.Fields(nonces)
		all = append(all, p)
	}
	return all, rows.Err()
}

// get is one of them; a new one if there is none.
func (t publications) get(ctx context.Context, account, address string, place Place) (*publication, error) {
	all, err := t.of(ctx, account)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(p *publication) bool { return p.Address == address && p.Place == place })
	if i >= 0 {
		return all[i], nil
	}
	return &publication{Publication: Publication{Account: account, Address: address, Place: place}}, nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds).UTC()
}

// permanentError is why trying again by itself does not help.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// isTemporary says whether an attempt that failed so may succeed later. What is not known to be final is tried again.
func isTemporary(err error) bool {
	var final permanentError
	var server *keydisc.ServerError
	var unusable *keydisc.UnusableError
	var refusal *Refusal
	switch {
	case errors.As(err, &final), errors.As(err, &unusable):
		return false
	case errors.As(err, &refusal):
		return refusal.Code < 500
	case errors.As(err, &server):
		return server.Temporary()
	}
	return true
}
