package contacts

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

// What organisations say about certificates, and what follows from it. The order of precedence: the user's own act
// (verify, accept, import after the list was known, block), then a list in force, then the rest. A list never replaces a pin that was
// used, nor one that the user has chosen.

// List is an organisation's signed list and how long it is trusted.
type List struct {
	keydisc.ListSource
	MaxAge time.Duration // a list that was signed longer ago vouches for nothing
}

func (l List) authority() keydisc.Fingerprint { return l.Authority.Fingerprint() }

// inForce says whether what was signed at that time vouches now.
func (l List) inForce(signed, now time.Time) bool {
	return !signed.IsZero() && now.Sub(signed) < l.MaxAge
}

// vouch is the word of one list for one certificate of an address.
type vouch struct {
	list        string // its URL
	fingerprint keydisc.Fingerprint
	certificate *keydisc.Certificate // nil: the list only names it
	unusable    bool                 // it cannot be encrypted to: expired, or revoked
	lapsed      bool                 // the list is too old: it does not vouch, but what it contested stays contested
}

// voucher is the URL of the list that vouches for the pin; "" if there is none.
func (r *record) voucher() string {
	for _, v := range r.vouches {
		if r.pinned != nil && v.fingerprint == r.pinned.Fingerprint() && !v.lapsed {
			return v.list
		}
	}
	return ""
}

// listed says whether a list vouches for the certificate.
func (r *record) listed(f keydisc.Fingerprint) bool {
	return slices.ContainsFunc(r.vouches, func(v vouch) bool { return v.fingerprint == f && !v.lapsed })
}

// rival is what contests the pin.
type rival struct {
	fingerprint keydisc.Fingerprint
	certificate *keydisc.Certificate // nil: a list names it, but it was not found yet
	source      Source
}

// rival is the certificate that contests the pin until the user decides; nil if none does. A list's comes before what the network or
// mail show, and of those none counts against a pin that a list vouches for.
func (r *record) rival() *rival {
	if r.pinned == nil || r.voucher() != "" {
		return nil
	}
	if listed := r.listedRival(); listed != nil {
		return listed
	}
	if r.pending == nil {
		return nil
	}
	return &rival{r.pending.Fingerprint(), r.pending, r.pendingSource}
}

// listedRival is what a list vouches for in place of the pin. Keeping the list away until it is too old does not settle it.
func (r *record) listedRival() *rival {
	isPin := func(v vouch) bool { return v.fingerprint == r.pinned.Fingerprint() }
	if !r.verified.IsZero() || slices.ContainsFunc(r.vouches, isPin) {
		return nil
	}
	for _, v := range r.vouches {
		if !v.unusable && !slices.Contains(r.dismissed, v.fingerprint) {
			return &rival{v.fingerprint, v.certificate, SourceList}
		}
	}
	return nil
}

// adopt takes certificates from lists: as the first pin, as news of the pin, or in place of a pin that came from where
// anybody can write, or from a list, as long as nothing was encrypted to it.
func (r *record) adopt(at time.Time) error {
	for _, v := range r.vouches {
		if v.certificate == nil {
			continue
		}
		if _, err := r.merge(v.certificate); err != nil {
			return err
		}
	}
	replaceable := r.pinned == nil || r.verified.IsZero() && r.lastUsed.IsZero() && r.voucher() == "" && (r.hearsay() || r.source == SourceList)
	if !replaceable || r.blocked {
		return nil
	}
	for _, v := range r.vouches {
		if v.certificate != nil && !v.lapsed && !slices.Contains(r.dismissed, v.fingerprint) && v.certificate.Check(r.address, at) == nil {
			r.pin(v.certificate, SourceList, at)
			r.pending, r.pendingSource = nil, ""
			return nil
		}
	}
	return nil
}

// awaited is a list that may speak about the address and was never taken in: until then nobody knows what it says. nil if there
// is none.
func (b *Book) awaited(ctx context.Context, address string) error {
	for _, l := range b.configured() {
		if !l.Covers(address) {
			continue
		}
		s, err := loadList(ctx, b.options.DB.Read(), l)
		if err != nil {
			return err
		}
		if s.signed.IsZero() {
			return fmt.Errorf("the list %s, which may name a certificate, was not taken in yet; sealpost status says why", l.URL)
		}
	}
	return nil
}

// load reads the record of a normalised address as it is now, with what lists in force say.
func (b *Book) load(ctx context.Context, q querier, address string) (record, error) {
	r, err := load(ctx, q, address)
	r.every = b.options.VerifyEvery
	if err != nil || len(b.configured()) == 0 {
		return r, err
	}
	r.vouches, err = b.vouches(ctx, q, address)
	return r, err
}

func (b *Book) loadAll(ctx context.Context, q querier) ([]record, error) {
	records, err := loadAll(ctx, q)
	for i := range records {
		if err == nil {
			records[i].every = b.options.VerifyEvery
			records[i].vouches, err = b.vouches(ctx, q, records[i].address)
		}
	}
	return records, err
}

// vouches are what the lists in force say of an address.
func (b *Book) vouches(ctx context.Context, q querier, address string) (all []vouch, err error) {
	now := b.options.Now()
	for _, l := range b.configured() {
		if !l.Covers(address) {
			continue
		}
		rows, err := q.QueryContext(ctx, `SELECT v.address, v.fingerprint, v.certificate, l.signed FROM vouch v JOIN vouching_list l USING (url, authority)
			WHERE v.address = ? AND v.url = ? AND v.authority = ? ORDER BY v.fingerprint`, address, l.URL, string(l.authority()))
		if err != nil {
			return nil, err
		}
		said, err := scanVouches(rows, l, now)
		if err != nil {
			return nil, err
		}
		all = append(all, said...)
	}
	return all, nil
}

func scanVouches(rows *sql.Rows, l List, now time.Time) (all []vouch, err error) {
	defer rows.Close()
	for rows.Next() {
		v := vouch{list: l.URL}
		var address string
		var certificate []byte
		var signed int64
		if err := rows.Scan(&address, &v.fingerprint, &certificate, &signed); err != nil {
			return nil, err
		}
		v.lapsed = !l.inForce(fromNano(signed), now)
		if v.certificate, err = parse(certificate); err != nil {
			return nil, fmt.Errorf("certificate of %s in the list %s: %w", address, l.URL, err)
		}
		v.unusable = v.certificate != nil && v.certificate.Check(address, now) != nil
		all = append(all, v)
	}
	return all, rows.Err()
}
