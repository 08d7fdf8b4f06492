// Package export is legal discovery: a query over what the mailboxes of this device say once opened, and an export that
// opposing counsel and a court can check.
//
//	ask       every message gets one outcome (ask.go); the mirror's search narrows, the text decides
//	write     matching families: originals, ciphertext, attachments, text; copies of the same are noted (family.go)
//	tabulate  load files, accounting, report (tables.go, dat.go, edrm.go, mbox.go, report.go)
//	close     custody log, list of all files with SHA-256, the device's signature over it (close.go)
//	verify    offline, from the folder and the certificate alone (verify.go)
//
// Everything that is counted is counted from rows in the database, one a message; an export that was cut off goes on from them.
package export

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/export/query"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/bridge/store"
)

// Signer is the key of the device's account that signs an export.
type Signer struct {
	Address     string
	Fingerprint string
	Certificate []byte // armored
	// Sign writes an armored detached signature over data.
	Sign func(w io.Writer, data io.Reader) error
}

// Options of a Desk.
type Options struct {
	DB         *store.DB
	Audit      *audit.Log
	Custodians []Custodian
	Holds      *Holds // nil: none
	// Announce tells those who must know that an export of an account's mail begins; without them knowing none is made. nil: nobody has to.
	Announce func(ctx context.Context, account, what string) error
	Signer   func(address string) (Signer, error)
	// Encrypt makes an OpenPGP message to certificates out of what is written; Close ends it.
	Encrypt func(w io.Writer, certificates []byte) (io.WriteCloser, error)
	// CheckSignature is that of VerifyOptions: an export is verified before it counts as done.
	CheckSignature CheckSignature
	Version        string
	Now            func() time.Time
}

// Desk is where exports are made. Safe for concurrent use.
type Desk struct{ o Options }

// New makes a Desk.
func New(o Options) *Desk { return &Desk{o} }

// Request is what a user asks for.
type Request struct {
	Query        string   `json:"query"`
	Since        string   `json:"since,omitempty"` // days in Timezone, or moments (RFC 3339); both inclusive
	Until        string   `json:"until,omitempty"`
	Timezone     string   `json:"timezone"`
	Custodians   []string `json:"custodians"` // addresses; none: all accounts
	Formats      []string `json:"formats"`    // eml, mbox, dat, edrm; eml is always there
	Bates        string   `json:"bates,omitempty"`
	Marks        []Mark   `json:"marks,omitempty"`
	Certificates []byte   `json:"encrypt_to,omitempty"` // counsel's; armored or not
	Directory    string   `json:"-"`                    // absolute
}

// Formats are the values of Request.Formats.
var Formats = []string{"eml", "mbox", "dat", "edrm"}

// ErrRequest says that a request cannot be carried out as it is written.
var ErrRequest = errors.New("the request cannot be carried out")

// question is the request in terms of Ask.
func (d *Desk) question(r *Request) (Question, error) {
	q, err := r.parse()
	if err == nil {
		q.Custodians, err = d.custodians(r)
	}
	q.Archive = d.o.Holds
	return q, err
}

// Check says what is wrong with a request as it is written, wherever it is sent to. The error wraps ErrRequest.
func (r Request) Check() error {
	if _, err := r.parse(); err != nil {
		return err
	}
	for _, f := range r.Formats {
		if !slices.Contains(Formats, f) {
			return fmt.Errorf("%w: format %q is not one of %s", ErrRequest, f, strings.Join(Formats, ", "))
		}
	}
	if r.Bates != "" && !batesPrefix.MatchString(r.Bates) {
		return fmt.Errorf("%w: a Bates prefix is at most 32 letters, digits, points, dashes and underscores", ErrRequest)
	}
	return nil
}

// parse reads query, dates and zone.
func (r *Request) parse() (Question, error) {
	zone, err := time.LoadLocation(r.Timezone)
	if err != nil || r.Timezone == "Local" {
		return Question{}, fmt.Errorf("%w: %q is no time zone; write one like Europe/Berlin", ErrRequest, r.Timezone)
	}
	if r.Timezone == "" {
		r.Timezone = "UTC"
	}
	q := Question{}
	if strings.TrimSpace(r.Query) != "" {
		if q.Query, err = query.Parse(r.Query, zone); err != nil {
			return q, fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	for _, limit := range []struct {
		text  string
		until bool
		to    *time.Time
	}{{r.Since, false, &q.Since}, {r.Until, true, &q.Until}} {
		if limit.text == "" {
			continue
		}
		if *limit.to, err = query.ParseWhen(limit.text, limit.until, zone); err != nil {
			return q, fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	return q, nil
}

// custodians are those of the request, each once, and under the names of the accounts.
func (d *Desk) custodians(r *Request) ([]Custodian, error) {
	if len(r.Custodians) == 0 {
		for _, c := range d.o.Custodians {
			r.Custodians = append(r.Custodians, c.Address)
		}
		slices.Sort(r.Custodians)
	}
	var chosen []Custodian
	var names []string
	for _, address := range r.Custodians {
		at := slices.IndexFunc(d.o.Custodians, func(c Custodian) bool { return mirror.Fold(c.Address) == mirror.Fold(address) })
		if at < 0 {
			return nil, fmt.Errorf("%w: %s is not an account of this device", ErrRequest, address)
		}
		if c := d.o.Custodians[at]; !slices.ContainsFunc(chosen, func(o Custodian) bool { return o.Address == c.Address }) {
			chosen, names = append(chosen, c), append(names, c.Address)
		}
	}
	r.Custodians = names
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%w: there is no account", ErrRequest)
	}
	return chosen, nil
}

var batesPrefix = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$`)

// underWay are the folders of exports: the state folder's lock keeps other processes out.
var underWay sync.Map

// run is one export under way.
type run struct {
	*Desk
	Request
	job      *job
	sink     *sink
	signer   Signer
	terms    []*query.Term
	marks    marks
	used     map[string]bool // ids of marks
	withheld map[string]Mark // by identity: what is withheld by the digest of one copy
	stale    []string
	resumed  bool
	progress Progress
	question Question
	files    []File   // that are no document's
	sources  []Source // of a merged export
}

// Export writes the export, or goes on with one that was cut off. Errors of the request wrap ErrRequest; without the
// provider it is mirror.ErrOffline: it can be repeated, and goes on.
func (d *Desk) Export(ctx context.Context, r Request, p Progress) (*Accounting, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(r.Directory) {
		return nil, fmt.Errorf("%w: %q is no absolute path", ErrRequest, r.Directory)
	}
	q, err := d.question(&r)
	if err != nil {
		return nil, err
	}
	if _, busy := underWay.LoadOrStore(r.Directory, true); busy {
		return nil, fmt.Errorf("an export to %s is under way; wait for it", r.Directory)
	}
	defer underWay.Delete(r.Directory)
	x := &run{Desk: d, Request: r, progress: p, marks: marksOf(r.Marks), used: map[string]bool{}, withheld: map[string]Mark{}}
	if q.Query != nil {
		x.terms = query.Terms(q.Query)
	}
	if err := x.open(ctx); err != nil {
		return nil, err
	}
	if err := d.announce(ctx, x.Custodians, "An export", r.Since, r.Until); err != nil {
		return nil, err
	}
	x.question, q.EachTerm = q, true
	q.Stale = func(custodian, mailbox string) { x.stale = append(x.stale, custodian+" "+mailbox) }
	if err = x.findWithheld(ctx, q); err == nil {
		err = x.write(ctx, q)
	}
	if err != nil {
		return nil, fmt.Errorf("export to %s, which goes on where it stopped if it is repeated: %w", r.Directory, err)
	}
	accounting, err := x.tabulate(ctx)
	if err == nil {
		err = x.close(ctx, accounting)
	}
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", r.Directory, err)
	}
	return accounting, nil
}

// announce says of whose mail an export is made, and of what time, not what is looked for.
func (d *Desk) announce(ctx context.Context, accounts []string, what, since, until string) error {
	if d.o.Announce == nil {
		return nil
	}
	text := fmt.Sprintf("%s for legal discovery of the mail of %s begins on this device at %s.", what, strings.Join(accounts, ", "), d.o.Now().UTC().Format(time.RFC3339))
	if since != "" || until != "" {
		text += fmt.Sprintf(" It is about the time from %s to %s.", cmp.Or(since, "the beginning"), cmp.Or(until, "now"))
	}
	for _, account := range accounts {
		if err := d.o.Announce(ctx, account, text); err != nil {
			return fmt.Errorf("nothing is exported, because those who have to know could not be told: %w", err)
		}
	}
	return nil
}

// open finds or makes the job and its folder, which must be empty at first.
func (x *run) open(ctx context.Context) (err error) {
	if x.signer.Sign == nil {
		if x.signer, err = x.o.Signer(x.Custodians[0]); err != nil {
			return err
		}
	}
	x.sink = &sink{dir: x.Directory}
	if len(x.Certificates) > 0 {
		x.sink.encrypt = func(w io.Writer) (io.WriteCloser, error) { return x.o.Encrypt(w, x.Certificates) }
		try, err := x.sink.encrypt(io.Discard)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRequest, err)
		}
		_ = try.Close()
	}
	request, err := json.Marshal(x.Request)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(x.Directory, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(x.Directory)
	if err != nil {
		return err
	}
	if x.job, err = openJob(ctx, x.o.DB, x.Directory, string(request), x.o.Now(), len(entries) == 0); err != nil {
		return err
	}
	x.resumed = x.job.rows > 0
	return x.begin(ctx, request)
}

// begin writes the first entries of the custody log, and takes away what a crash left that no row knows.
func (x *run) begin(ctx context.Context, request []byte) error {
	if err := x.clean(ctx); err != nil {
		return err
	}
	event, detail := "query", string(request)
	if x.resumed {
		event, detail = "resumed", fmt.Sprintf("%d messages had been looked at", x.job.rows)
	}
	if err := x.job.record(ctx, x.o.Now(), event, detail); err != nil {
		return err
	}
	return x.o.Audit.Append(ctx, audit.Entry{Account: strings.Join(x.Custodians, ","), Event: "export", Decision: event, Detail: "to " + x.Directory})
}

// clean removes files of the export that no row knows: of families whose rows were not written any more.
func (x *run) clean(ctx context.Context) error {
	known := map[string]bool{}
	err := x.job.each(ctx, func(r row) error {
		for _, record := range r.Records {
			for _, f := range record.Files {
				known[f.Path] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, dir := range []string{"native", "text", "ciphertext"} {
		entries, err := os.ReadDir(filepath.Join(x.Directory, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if !known[dir+"/"+e.Name()] {
				if err := os.Remove(filepath.Join(x.Directory, dir, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// write asks and writes the families that match.
func (x *run) write(ctx context.Context, q Question) error {
	err := q.Ask(ctx, x.progress, func(a *Answer) error {
		r := row{Custodian: a.Custodian, Mailbox: a.Mailbox, Validity: a.UIDValidity, UID: uint32(a.UID), Outcome: a.Outcome, Reason: a.Reason, Kept: a.Departed()}
		if x.resumed {
			if known, err := x.job.known(ctx, r); known || err != nil {
				return err
			}
		}
		r.Hits = numbersOf(x.terms, a.Hits)
		if a.Outcome == Matching {
			if err := x.family(ctx, a, &r); err != nil {
				return err
			}
		}
		return x.job.add(ctx, r)
	})
	if err != nil {
		return errors.Join(err, x.job.flush(context.WithoutCancel(ctx)))
	}
	return x.job.flush(ctx)
}
