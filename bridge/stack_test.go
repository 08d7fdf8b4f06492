package bridge

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/outbox"
	"github.com/sealpost/sealpost/keydisc"
)

// Every mailbox is counted by what the provider can read, every decision for its recipient and its day.
func TestStack(t *testing.T) {
	w := newWorld(t)
	w.seal = Seal{}
	a := w.start(alice)
	for _, m := range []string{message(dave, alice, "in clear", "Hello"), message(dave, alice, "ciphertext", "x", "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b") + foreignCiphertext} {
		if _, err := w.provider.Deliver(alice, "INBOX", []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	for _, to := range []string{bob, dave, strings.ToUpper(bob[:1]) + bob[1:]} {
		if err := submit(t, a, message(alice, to, "for "+to, "Hello"), to); err != nil {
			t.Fatal(err)
		}
	}
	yesterday := time.Now().Add(-24 * time.Hour)
	if err := a.bridge.audit.Append(t.Context(), audit.Entry{Event: "submit", Recipient: dave, Decision: "refuse", Time: yesterday}); err != nil {
		t.Fatal(err)
	}
	var s Stack
	eventually(t, "all is opened", func() bool {
		var err error
		if s, err = a.bridge.Stack(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(s.Accounts[0].Mailboxes, func(m MailboxStack) bool { return m.Name == "INBOX" })
		return i >= 0 && s.Accounts[0].Mailboxes[i] == MailboxStack{Name: "INBOX", Messages: 2, Ciphertext: 1, Failed: 1, Clear: 1}
	})
	got := map[string]Decisions{}
	for _, c := range s.Correspondents {
		got[c.Address] = c.Decisions
		if (c.Fingerprint != "") != (c.Address == bob) || (c.Source == "wkd") != (c.Address == bob) {
			t.Errorf("%+v", c)
		}
	}
	if len(got) != 2 || got[bob] != (Decisions{Encrypted: 2}) || got[dave] != (Decisions{Clear: 1, Refused: 1}) {
		t.Errorf("%v", got)
	}
	if len(s.Days) != 2 || s.Days[0].Decisions != (Decisions{Refused: 1}) || s.Days[1].Decisions != (Decisions{Encrypted: 2, Clear: 1}) {
		t.Errorf("%+v", s.Days)
	}
	if s, err := a.bridge.Stack(t.Context(), 1); err != nil || len(s.Days) != 1 || slices.ContainsFunc(s.Correspondents, func(c Correspondent) bool { return c.Refused > 0 }) {
		t.Errorf("yesterday counts for today: %v %+v", err, s)
	}
}

// foreignCiphertext is for nobody's key here.
const foreignCiphertext = "--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n" +
	"-----BEGIN PGP MESSAGE-----\r\n\r\nwV4DXV4FKo30jtQSAQdA\r\n-----END PGP MESSAGE-----\r\n--b--\r\n"

// Nothing is connected, asked or changed for it.
func TestStackAsksNobody(t *testing.T) {
	w := newWorld(t)
	a := w.open(w.options(alice, t.TempDir()))
	certificates, err := keydisc.ParseCertificates(bridgetest.PublicKey(bob))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.bridge.ImportContacts(t.Context(), certificates); err != nil {
		t.Fatal(err)
	}
	before := w.provider.Logins()
	if _, err := a.bridge.Stack(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	if after := w.provider.Logins(); after != before || len(w.wkd.Requests()) != 0 {
		t.Errorf("%d logins, requests %v", after-before, w.wkd.Requests())
	}
}

// testdata/findings.txt: what is found in a stack, a case a line.
func TestFindings(t *testing.T) {
	text, err := os.ReadFile("testdata/findings.txt")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	cases := findingCases(now)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		name, want, _ := strings.Cut(strings.TrimRight(line, "\n"), " =")
		want = strings.TrimSpace(want)
		c, ok := cases[name]
		if !ok {
			t.Fatalf("there is no case %q", name)
		}
		delete(cases, name)
		c.stack.Made = now
		c.stack.Findings = findings(&c.stack, c.waiting)
		var got []string
		for _, f := range c.stack.Findings {
			got = append(got, fmt.Sprintf("%s: %s: %s", f.Level, f.Subject, f.What))
			if f.Remedy == "" {
				t.Errorf("%s: no remedy", name)
			}
		}
		if all := strings.Join(got, " | "); all != want {
			t.Errorf("%s:\n got %s\nwant %s", name, all, want)
		}
		if c.stack.NeedsAttention() != strings.Contains(want, "attention: ") {
			t.Errorf("%s: attention %v", name, c.stack.NeedsAttention())
		}
	}
	for name := range cases {
		t.Errorf("%s is not in the file", name)
	}
}

type findingCase struct {
	stack   Stack
	waiting []outbox.Message
}

// findingCases differ each in one thing from a stack with nothing to find in it.
func findingCases(now time.Time) map[string]findingCase {
	in := func(days int) *time.Time { at := now.AddDate(0, 0, days); return &at }
	account := func(change func(*AccountStack)) findingCase {
		a := AccountStack{Address: alice, Provider: "online", Keys: []KeyStack{{Primary: true, Expires: in(500)}, {Problem: "it has expired"}}}
		change(&a)
		return findingCase{stack: Stack{Accounts: []AccountStack{a}}}
	}
	mailbox := func(m MailboxStack) findingCase {
		m.Name = "INBOX"
		return account(func(a *AccountStack) { a.Mailboxes = []MailboxStack{m} })
	}
	hop := func(h Hop) findingCase {
		h.Protocol, h.Server = "imap", "mail.alpha.test:993"
		return account(func(a *AccountStack) { a.Transport = []Hop{h} })
	}
	contact := func(c Correspondent) findingCase {
		c.Address = bob
		return findingCase{stack: Stack{Correspondents: []Correspondent{c}}}
	}
	waiting := func(since time.Duration) findingCase {
		return findingCase{waiting: []outbox.Message{{ID: 3, Account: alice, Queued: now.Add(-since), LastError: "451 later"}}}
	}
	known := Correspondent{Fingerprint: "F", Trust: "pinned", Expires: in(500)}
	with := func(change func(*Correspondent)) findingCase { c := known; change(&c); return contact(c) }
	both := mailbox(MailboxStack{Messages: 3, Clear: 2, Failed: 1, Seals: true})
	both.stack.Correspondents = []Correspondent{{Address: bob, Fingerprint: "F", Pending: "G", Trust: "changed"}}
	return map[string]findingCase{
		"nothing":                     account(func(*AccountStack) {}),
		"provider away":               account(func(a *AccountStack) { a.Provider, a.Problem = "offline", "it does not answer" }),
		"no key":                      account(func(a *AccountStack) { a.Keys = nil }),
		"own key expired":             account(func(a *AccountStack) { a.Keys[0].Problem = "it has expired" }),
		"own key ends soon":           account(func(a *AccountStack) { a.Keys[0].Expires = in(59) }),
		"own key never ends":          account(func(a *AccountStack) { a.Keys[0].Expires = nil }),
		"clear where it is sealed":    mailbox(MailboxStack{Messages: 3, Clear: 2, Seals: true}),
		"clear where it is not":       mailbox(MailboxStack{Messages: 3, Clear: 1}),
		"cannot be opened":            mailbox(MailboxStack{Messages: 3, Failed: 1, Seals: true}),
		"not opened yet":              mailbox(MailboxStack{Messages: 3, Unopened: 3, Seals: true}),
		"all ciphertext":              mailbox(MailboxStack{Messages: 3, Ciphertext: 3, Seals: true}),
		"without TLS":                 hop(Hop{Security: "insecure"}),
		"server's certificate ends":   hop(Hop{Security: "tls", Ends: in(6)}),
		"server's certificate lasts":  hop(Hop{Security: "tls", Ends: in(8)}),
		"waits long":                  waiting(61 * time.Minute),
		"waits":                       waiting(59 * time.Minute),
		"contact":                     contact(known),
		"contact changed":             with(func(c *Correspondent) { c.Pending = "G" }),
		"contact blocked and changed": with(func(c *Correspondent) { c.Pending, c.Blocked = "G", true }),
		"contact weak":                with(func(c *Correspondent) { c.Problem = "it is too weak" }),
		"contact ends soon":           with(func(c *Correspondent) { c.Expires = in(29) }),
		"clear with certificate":      with(func(c *Correspondent) { c.Clear = 2 }),
		"clear without certificate":   contact(Correspondent{Decisions: Decisions{Clear: 1}}),
		"refused":                     contact(Correspondent{Decisions: Decisions{Refused: 1}}),
		"attention first":             both,
	}
}
