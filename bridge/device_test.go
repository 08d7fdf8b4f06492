package bridge

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// lane is a bridge of alice's with a camera that writes to herself and to bob.
func lane(t *testing.T, w *world, change func(*Options)) *Device {
	t.Helper()
	o := w.options(alice, t.TempDir())
	o.Devices = []DeviceOptions{{Name: "camera", Account: alice, Recipients: []string{alice, bob, dave}, Rate: Rate{1000, time.Hour}}}
	if change != nil {
		change(&o)
	}
	a := w.open(o)
	d, ok := a.bridge.Device("camera")
	if !ok {
		t.Fatal("no device")
	}
	return d
}

func crlfOf(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

// TestWhatDevicesSend: each file is a message as some device sends it. It arrives encrypted, opens, and is signed under the
// account's name.
func TestWhatDevicesSend(t *testing.T) {
	files, err := filepath.Glob("testdata/devices/*.eml")
	if err != nil || len(files) < 6 {
		t.Fatal(len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			w := newWorld(t)
			d := lane(t, w, nil)
			sent, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Submit(t.Context(), Envelope{From: "camera@192.168.1.20", To: []string{bob}}, strings.NewReader(string(sent))); err != nil {
				t.Fatal(err)
			}
			got := w.provider.Submissions()
			if len(got) != 1 || strings.Contains(string(got[0].Bytes), "canary") || !strings.Contains(string(got[0].Bytes), "BEGIN PGP MESSAGE") {
				t.Fatalf("%d messages; the first:\n%s", len(got), got[0].Bytes)
			}
			text := opensTo(t, w.open(w.options(bob, t.TempDir())), string(got[0].Bytes))
			for _, want := range []string{"canary", `From: "camera" <alice@alpha.test>`} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing in\n%s", want, text)
				}
			}
		})
	}
}

// TestDeviceSignsAsItself: a device with an address has a key of its own. The account's user and others verify it, the account's key
// says nothing of it, and an answer to it can be opened.
func TestDeviceSignsAsItself(t *testing.T) {
	const camera = "camera@zulu.test"
	w := newWorld(t)
	d := lane(t, w, func(o *Options) { o.Devices[0].Address = camera })
	for range 2 {
		if err := d.Submit(t.Context(), Envelope{To: []string{alice, bob}}, strings.NewReader(crlfOf("Subject: motion\nReply-To: x@y\n\ncanary\n"))); err != nil {
			t.Fatal(err)
		}
	}
	owner, ok, err := d.bridge.DeviceOwner(t.Context(), camera)
	if !ok || err != nil {
		t.Fatal(err)
	}
	keys, accounts := owner.Keys(), d.account.Keys()
	if len(keys) != 1 || len(accounts) != 1 || keys[0].Fingerprint == accounts[0].Fingerprint {
		t.Fatalf("the device has the keys %v, the account %v", keys, accounts)
	}
	b := w.open(w.options(bob, t.TempDir()))
	for _, sent := range w.provider.Submissions() {
		if sent.From != alice {
			t.Errorf("the envelope is from %s", sent.From)
		}
		for reader, trust := range map[*Account]string{d.account: "verified", b: "pinned"} {
			text := opensTo(t, reader, string(sent.Bytes))
			want := "encryption=openpgp; signature=good; signer=" + string(keys[0].Fingerprint) + "; trust=" + trust
			if !strings.Contains(text, want) || !strings.Contains(text, `From: "camera" <`+camera+`>`) || !strings.Contains(text, "Reply-To: "+alice) {
				t.Errorf("%s reads:\n%s", reader.Address(), text)
			}
		}
	}
	if err := b.Submit(t.Context(), Envelope{From: bob, To: []string{camera}}, strings.NewReader(message(bob, camera, "answer", secretBody))); err != nil {
		t.Fatal(err)
	}
	all := w.provider.Submissions()
	answer := string(all[len(all)-1].Bytes)
	if strings.Contains(answer, secretBody) || !strings.Contains(opensTo(t, d.account, answer), secretBody) {
		t.Errorf("an answer to the device is clear, or nobody's:\n%s", answer)
	}
	if _, known, err := d.bridge.contacts.Get(t.Context(), camera); known || err != nil {
		t.Error("the device is a contact")
	}
}

func TestLaneIsNarrow(t *testing.T) {
	const text = "From: x@y\nSubject: [clear] motion\nX-Sealpost-Policy: clear\n\nmotion\n"
	for name, c := range map[string]struct {
		to     []string
		change func(*Options)
		reason Reason
	}{
		"somebody else":             {[]string{bob, carol}, nil, ReasonPolicy},
		"no certificate":            {[]string{dave}, nil, ReasonNoCertificate},
		"one without a certificate": {[]string{bob, dave}, nil, ReasonNoCertificate},
		"a policy of never": {[]string{dave}, func(o *Options) {
			o.Policy = Policy{Default: Never, AllowSplit: true, TagClear: "[clear]", Rules: []Rule{{Match: "*", Encrypt: Never}}}
		}, ReasonNoCertificate},
		"too much": {[]string{bob}, func(o *Options) { o.Devices[0].Rate = Rate{1, time.Hour} }, ReasonRate},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := lane(t, w, c.change)
			if c.reason == ReasonRate {
				if err := d.Submit(t.Context(), Envelope{To: c.to}, strings.NewReader(crlfOf(text))); err != nil {
					t.Fatal(err)
				}
			}
			before := len(w.provider.Submissions())
			err := d.Submit(t.Context(), Envelope{To: c.to}, strings.NewReader(crlfOf(text)))
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Reason != c.reason {
				t.Errorf("%v", err)
			}
			if n := len(w.provider.Submissions()); n != before {
				t.Errorf("%d messages went out", n-before)
			}
		})
	}
}

// TestDeviceMailWaits: the device does not try again; what is encrypted waits for the provider.
func TestDeviceMailWaits(t *testing.T) {
	w := newWorld(t)
	d := lane(t, w, nil)
	defer w.provider.Inject(bridgetest.Fault{Protocol: "smtp", Command: "CONNECT", Drop: true})()
	if err := d.Submit(t.Context(), Envelope{To: []string{bob}}, strings.NewReader(crlfOf("Subject: canary\n\ncanary\n"))); err != nil {
		t.Fatal(err)
	}
	b := d.account.bridge
	if n, _, err := b.outbox.Waiting(t.Context()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	var found int
	if err := b.db.Read().QueryRow(`SELECT count(*) FROM outbox_body WHERE instr(data, 'canary') > 0`).Scan(&found); err != nil || found != 0 {
		t.Errorf("the outbox holds clear text: %d, %v", found, err)
	}
}

func TestDeviceLogin(t *testing.T) {
	d := lane(t, newWorld(t), nil)
	b := d.account.bridge
	password, err := d.Password(t.Context())
	if err != nil || len(password) < 20 {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, password string }{{"camera", ""}, {"camera", password + "x"}, {"other", password}, {"", ""}, {alice, password}} {
		if _, err := b.LoginDevice(t.Context(), c.name, c.password); !errors.Is(err, ErrCredentials) {
			t.Errorf("%q: %v", c.name, err)
		}
	}
	if got, err := b.LoginDevice(t.Context(), "camera", password); err != nil || got != d {
		t.Error(err)
	}
	if _, err := b.Login(t.Context(), alice, password); !errors.Is(err, ErrCredentials) {
		t.Errorf("the device's password opens the account: %v", err)
	}
}

// TestDeviceBehaviour: what is told of a device, and that it is told once.
func TestDeviceBehaviour(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	usual := Client{IP: "192.168.1.20", Hello: "cam"}
	s := DeviceState{Name: "camera"}
	for i := range 20 {
		if told := s.changes(usual, 1000); len(told) != 0 {
			t.Fatalf("message %d: %v", i, told)
		}
		s = s.next(start.Add(time.Duration(i)*time.Hour), usual, 1000)
	}
	if s.Pause < 50*time.Minute || s.Pause > 70*time.Minute || s.Messages != 20 {
		t.Fatalf("%+v", s)
	}
	for name, c := range map[string]struct {
		client Client
		size   int64
		silent bool
		want   string
	}{
		"as usual":         {usual, 5000, false, ""},
		"another address":  {Client{"10.0.0.9", "cam"}, 1000, false, "10.0.0.9 instead of 192.168.1.20"},
		"another greeting": {Client{"192.168.1.20", "evil\r\nSubject: x"}, 1000, false, `"evil\r\nSubject: x" instead of "cam"`},
		"far larger":       {usual, 50_000, false, "50000 bytes"},
		"back again":       {usual, 1000, true, "again"},
	} {
		state := s
		state.Silent = c.silent
		told := strings.Join(state.changes(c.client, c.size), " ")
		if c.want == "" && told != "" || !strings.Contains(told, c.want) {
			t.Errorf("%s: %q", name, told)
		}
	}
	d := &Device{}
	if p := d.patience(s); p != leastSilence {
		t.Errorf("patience %v", p)
	}
	d.options.SilentAfter = time.Hour
	if p := d.patience(s); p != time.Hour {
		t.Errorf("patience %v", p)
	}
}

// TestSilenceIsToldOnce, in the account's INBOX, sealed.
func TestSilenceIsToldOnce(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	d := lane(t, w, func(o *Options) { o.Now = func() time.Time { return now } })
	b := d.account.bridge
	if err := d.Submit(t.Context(), Envelope{To: []string{bob}}, strings.NewReader("Subject: x\r\n\r\nx\r\n")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.tellSilence(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(25 * time.Hour)
	for range 3 {
		if err := b.tellSilence(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	notes := 0
	for _, m := range w.provider.Stored(alice) {
		if m.Mailbox == "INBOX" {
			notes++
			if strings.Contains(string(m.Bytes), "camera") {
				t.Errorf("the note is readable at the provider:\n%s", m.Bytes)
			}
		}
	}
	if notes != 1 {
		t.Errorf("%d notes", notes)
	}
}

// TestDeviceMailWaitsWholeOrNotAtAll: two hidden recipients are two ciphertexts; where the outbox cannot take both it takes none, and
// the device is told to try again.
func TestDeviceMailWaitsWholeOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	d := lane(t, w, func(o *Options) { o.Devices[0].Recipients = []string{alice, bob, carol} })
	b := d.account.bridge
	defer w.provider.Inject(bridgetest.Fault{Protocol: "smtp", Command: "CONNECT", Drop: true})()
	text := "To: undisclosed\r\nSubject: x\r\n\r\nx\r\n"
	if err := b.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`CREATE TRIGGER full BEFORE INSERT ON outbox WHEN (SELECT count(*) FROM outbox) > 0 BEGIN SELECT RAISE(ABORT, 'full'); END`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	err := d.Submit(t.Context(), Envelope{To: []string{bob, carol}}, strings.NewReader(text))
	if !errors.As(err, &refusal) || refusal.Reason != ReasonLocal {
		t.Errorf("%v", err)
	}
	if n, _, err := b.outbox.Waiting(t.Context()); n != 0 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	if err := b.db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(`DROP TRIGGER full`); return err }); err != nil {
		t.Fatal(err)
	}
	if err := d.Submit(t.Context(), Envelope{To: []string{bob, carol}}, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := b.outbox.Waiting(t.Context()); n != 2 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
}

// TestAlertIsNotForgotten: while the provider is away a change cannot be told; then it is, at the next message.
func TestAlertIsNotForgotten(t *testing.T) {
	w := newWorld(t)
	d := lane(t, w, nil)
	send := func(from Client) {
		t.Helper()
		if err := d.Submit(t.Context(), Envelope{To: []string{bob}, Client: from}, strings.NewReader("Subject: x\r\n\r\nx\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	notes := func() (n int) {
		for _, m := range w.provider.Stored(alice) {
			if m.Mailbox == "INBOX" {
				n++
			}
		}
		return n
	}
	send(Client{"192.168.1.20", "cam"})
	remove := w.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: "APPEND", Reply: "NO [OVERQUOTA] full"})
	send(Client{"10.0.0.9", "cam"})
	remove()
	if n := notes(); n != 0 {
		t.Fatalf("%d notes", n)
	}
	send(Client{"10.0.0.9", "cam"})
	send(Client{"10.0.0.9", "cam"})
	if n := notes(); n != 1 {
		t.Errorf("%d notes", n)
	}
}
