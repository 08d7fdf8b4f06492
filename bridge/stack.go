package bridge

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

// Stack is what is known of the user's communication as a whole: how it is protected, and where it is not.
type Stack struct {
	Made           time.Time       `json:"made"`
	Since          time.Time       `json:"since"` // from when on decisions count
	Accounts       []AccountStack  `json:"accounts"`
	Correspondents []Correspondent `json:"correspondents"` // by address
	Days           []DayDecisions  `json:"days"`           // every day from Since to Made, UTC
	Outbox         int             `json:"outbox"`
	Findings       []Finding       `json:"findings"` // what needs attention, then what is good to know
}

// AccountStack is one account's part.
type AccountStack struct {
	Address   string         `json:"address"`
	Provider  string         `json:"provider"` // online, offline, auth-failed
	Problem   string         `json:"problem,omitempty"`
	Mailboxes []MailboxStack `json:"mailboxes"`
	Transport []Hop          `json:"transport"`
	Keys      []KeyStack     `json:"keys"`
	Visible   []string       `json:"visible"` // what the provider sees all the same
}

// MailboxStack says how the messages of a mailbox rest at the provider. Those that have not been opened yet are of
// no kind.
type MailboxStack struct {
	Name       string `json:"name"`
	Messages   int    `json:"messages"`
	Ciphertext int    `json:"ciphertext"` // end to end, sealed, or ciphertext that cannot be opened here
	EndToEnd   int    `json:"end_to_end"`
	Sealed     int    `json:"sealed"`
	Failed     int    `json:"failed"`
	Clear      int    `json:"clear"`
	Unopened   int    `json:"unopened"`
	Seals      bool   `json:"seals"` // mail that arrives clear is sealed there
}

// Hop is how one of the provider's servers is reached; without TLS, and before the first connection, the last three
// are zero.
type Hop struct {
	Protocol string     `json:"protocol"` // imap, smtp
	Server   string     `json:"server"`   // host:port
	Security string     `json:"security"` // tls, starttls, insecure
	TLS      string     `json:"tls"`      // such as "TLS 1.3"
	Cipher   string     `json:"cipher"`
	Ends     *time.Time `json:"certificate_expires"`
}

// KeyStack is one of the user's own keys.
type KeyStack struct {
	Fingerprint string     `json:"fingerprint"`
	Addresses   []string   `json:"addresses"`
	Profile     string     `json:"profile"`
	Created     time.Time  `json:"created"`
	Expires     *time.Time `json:"expires"`
	Primary     bool       `json:"primary"`
	Revoked     bool       `json:"revoked,omitempty"`
	PQ          bool       `json:"pq"`
	Problem     string     `json:"problem,omitempty"` // why nobody can encrypt to it
}

// Correspondent is an address with a certificate, or one that mail went to or was refused for.
type Correspondent struct {
	Address     string     `json:"address"`
	Fingerprint string     `json:"fingerprint"` // "": no certificate
	Source      string     `json:"source"`
	Trust       string     `json:"trust"`
	Expires     *time.Time `json:"expires"`
	PQ          bool       `json:"pq"`
	Pending     string     `json:"pending,omitempty"` // fingerprint of the certificate that waits for a decision
	Blocked     bool       `json:"blocked,omitempty"`
	Problem     string     `json:"problem,omitempty"` // why the certificate cannot be used
	Decisions
}

// Decisions count messages to recipients.
type Decisions struct {
	Encrypted int `json:"encrypted"`
	Clear     int `json:"clear"`
	Refused   int `json:"refused"`
}

// DayDecisions are those of one day.
type DayDecisions struct {
	Day time.Time `json:"day"` // its beginning, UTC
	Decisions
}

// MaxStackDays bounds the window of Stack.
const MaxStackDays = 3650

// Stack collects the facts, with the decisions of the last days (1 to MaxStackDays, today included). Nobody is asked
// over the network.
func (b *Bridge) Stack(ctx context.Context, days int) (Stack, error) {
	now := b.now().UTC()
	s := Stack{
		Made: now, Since: now.Truncate(24*time.Hour).AddDate(0, 0, 1-min(max(days, 1), MaxStackDays)),
		Accounts: []AccountStack{}, Correspondents: []Correspondent{}, // [] in JSON, not null
	}
	for _, a := range b.accounts {
		account, err := a.stack(ctx, now)
		if err != nil {
			return s, err
		}
		s.Accounts = append(s.Accounts, account)
	}
	if err := b.correspondents(ctx, &s); err != nil {
		return s, err
	}
	waiting, err := b.outbox.List(ctx)
	s.Outbox = len(waiting)
	s.Findings = findings(&s, waiting)
	return s, err
}

func (a *Account) stack(ctx context.Context, now time.Time) (AccountStack, error) {
	state, problem := a.State()
	s := AccountStack{Address: a.Address(), Provider: string(state), Transport: []Hop{}, Keys: []KeyStack{}, Mailboxes: []MailboxStack{},
		Visible: visible(a.options.Headers)}
	if problem != nil {
		s.Problem = problem.Error()
	}
	for _, t := range a.provider.Transports() {
		s.Transport = append(s.Transport, hop(t))
	}
	for _, k := range a.Keys() {
		s.Keys = append(s.Keys, a.keyStack(k, now))
	}
	counted, err := a.mirror.Protection(ctx)
	for _, p := range counted {
		s.Mailboxes = append(s.Mailboxes, mailboxStack(p, a.sealsIn(p.Mailbox)))
	}
	return s, err
}

func hop(t upstream.Transport) Hop {
	return Hop{Protocol: t.Protocol, Server: t.Host, Security: t.Security, TLS: t.Version, Cipher: t.Cipher, Ends: orNil(t.Ends)}
}

func mailboxStack(p mirror.Protection, seals bool) MailboxStack {
	return MailboxStack{
		Name: p.Mailbox, Messages: p.Messages, Ciphertext: p.Encrypted + p.Sealed + p.Failed, EndToEnd: p.Encrypted,
		Sealed: p.Sealed, Failed: p.Failed, Clear: p.Clear, Unopened: p.Unopened, Seals: seals,
	}
}

func (a *Account) keyStack(k Key, now time.Time) KeyStack {
	s := KeyStack{
		Fingerprint: string(k.Fingerprint), Addresses: k.Addresses, Profile: string(k.Profile), Created: k.Created.UTC(),
		Expires: orNil(k.Expires), Primary: k.Primary, Revoked: k.Revoked,
	}
	c, err := a.ring.CertificateOf(k.Fingerprint)
	if err == nil {
		s.PQ = c.PostQuantum(now)
		err = c.Check(a.Address(), now)
	}
	if err != nil {
		s.Problem = err.Error()
	}
	return s
}

// correspondents joins the contacts with the log of decisions.
func (b *Bridge) correspondents(ctx context.Context, s *Stack) error {
	known, err := b.contacts.List(ctx)
	if err != nil {
		return err
	}
	found := map[string]*Correspondent{}
	for _, c := range known {
		found[c.Address] = correspondentOf(c, s.Made)
	}
	days := map[time.Time]*Decisions{}
	err = b.audit.Newest(ctx, 0, func(e audit.Entry) bool {
		if e.Time.Before(s.Since) {
			return false
		}
		if e.Event == "submit" {
			b.count(e, found, days, s.Made)
		}
		return true
	})
	for _, c := range found {
		s.Correspondents = append(s.Correspondents, *c)
	}
	slices.SortFunc(s.Correspondents, func(x, y Correspondent) int { return cmp.Compare(x.Address, y.Address) })
	for day := s.Since; !day.After(s.Made); day = day.AddDate(0, 0, 1) {
		one := DayDecisions{Day: day}
		if counted := days[day]; counted != nil {
			one.Decisions = *counted
		}
		s.Days = append(s.Days, one)
	}
	return err
}

// count adds one decision to its recipient's and its day's.
func (b *Bridge) count(e audit.Entry, found map[string]*Correspondent, days map[time.Time]*Decisions, now time.Time) {
	address, day := normalized(e.Recipient), e.Time.UTC().Truncate(24*time.Hour)
	if found[address] == nil {
		found[address] = &Correspondent{Address: address, Trust: string(contacts.Unknown)}
		if own, ok := b.ownContact(address); ok {
			found[address] = correspondentOf(own, now)
		}
	}
	if days[day] == nil {
		days[day] = &Decisions{}
	}
	found[address].add(e.Decision)
	days[day].add(e.Decision)
}

func (d *Decisions) add(decision string) {
	switch decision {
	case Encrypt.String():
		d.Encrypted++
	case Cleartext.String():
		d.Clear++
	default:
		d.Refused++
	}
}

func correspondentOf(c contacts.Contact, now time.Time) *Correspondent {
	one := &Correspondent{Address: c.Address, Source: string(c.Source), Trust: string(c.Trust), Pending: string(c.Pending), Blocked: c.Blocked}
	if c.Certificate == nil {
		return one
	}
	one.Fingerprint, one.Expires = string(c.Certificate.Fingerprint()), orNil(c.Certificate.Expires())
	one.PQ = c.Certificate.PostQuantum(now)
	var unusable *keydisc.UnusableError
	if errors.As(c.Certificate.Check(c.Address, now), &unusable) {
		one.Problem = unusable.Error()
	}
	return one
}

// orNil is nil for the zero time: null in JSON.
func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
