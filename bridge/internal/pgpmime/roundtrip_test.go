package pgpmime

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

var letter = crlf(`From: Alice <alice@alpha.test>
To: Bob <bob@bravo.test>, carol@charlie.test
Subject: canary-subject
Date: Mon, 01 Jun 2026 10:00:00 +0200
Message-ID: <m1@alpha.test>
Keywords: canary-keyword
Comments: canary-comment
Bcc: hidden@delta.test
X-Sealpost-Status: encryption=openpgp; signature=good
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8; hp="clear"
Content-Transfer-Encoding: 8bit

canary-body ü
.
last line without end`)

func TestEncryptHidesAndOpenRestores(t *testing.T) {
	for _, name := range []string{"bob", "aead", "v6", "rsa", "pq", "two"} {
		t.Run(name, func(t *testing.T) {
			sent := encrypted(t, letter, EncryptOptions{
				Recipients: certs(t, name, "alice", "alice"), Signer: key(t, "alice"), Headers: Baseline,
			})
			for _, secret := range []string{"canary", "hidden@", "X-Sealpost", "HP-Outer"} {
				if strings.Contains(sent, secret) {
					t.Errorf("%q can be read in\n%s", secret, sent)
				}
			}
			r, shown := opened(t, sent, name)
			want := Result{Message: r.Message, Encryption: EncryptionOpenPGP, Signature: SignatureGood, Signer: cert(t, "alice").Fingerprint()}
			if fmt.Sprint(*r) != fmt.Sprint(want) {
				t.Errorf("got %+v, want %+v", *r, want)
			}
			checkLetter(t, shown)
		})
	}
}

func checkLetter(t *testing.T, shown string) {
	t.Helper()
	h, body := split(t, shown)
	sentHeader, sentBody := split(t, letter)
	if body != sentBody {
		t.Errorf("body is %q, want %q", body, sentBody)
	}
	for _, name := range []string{"From", "To", "Subject", "Date", "Message-ID", "Keywords", "Comments", "MIME-Version", "Content-Transfer-Encoding"} {
		if got, want := h.Values(name), sentHeader.Values(name); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"Bcc", "X-Sealpost-Status", "HP-Outer"} {
		if h.Values(name) != nil {
			t.Errorf("%s is still there", name)
		}
	}
	if got, want := h.Get("Content-Type"), `text/plain; charset=utf-8; hp="cipher"; protected-headers="v1"`; got != want {
		t.Errorf("Content-Type is %q, want %q", got, want)
	}
}

func TestPostQuantumOnlyIfEveryWayIs(t *testing.T) {
	for _, c := range []struct {
		recipients []string
		pq         bool
	}{{[]string{"pq"}, true}, {[]string{"pq", "alice"}, false}, {[]string{"alice", "pq"}, false}} {
		r, _ := opened(t, encrypted(t, letter, EncryptOptions{Recipients: certs(t, c.recipients...)}), "pq")
		if r.PQ != c.pq {
			t.Errorf("to %v: pq is %v", c.recipients, r.PQ)
		}
	}
}

// payloadOf is the plaintext of a message to bob.
func payloadOf(t *testing.T, message string) string {
	t.Helper()
	s, err := classify(source(message))
	if err != nil || s.kind != kindEncrypted {
		t.Fatalf("not encrypted: %v", err)
	}
	o := &opener{keys: Keys{}, dir: t.TempDir()}
	o.keys.Decrypters = append(o.keys.Decrypters, key(t, "bob"))
	packets, _, err := o.decrypt(mimescan.DecodeBody(source(message), s.ciphertext))
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	payload, _, err := o.literal(packets)
	if err != nil {
		t.Fatal(err)
	}
	defer payload.Close()
	return content(t, payload)
}

func TestHeaderConfidentiality(t *testing.T) {
	for _, c := range []struct {
		mode HeaderMode
		want string
	}{
		{Baseline, `From: Alice <alice@alpha.test>
To: Bob <bob@bravo.test>, carol@charlie.test
Subject: [...]
Date: Mon, 01 Jun 2026 10:00:00 +0200
Message-ID: <m1@alpha.test>
`}, {Shy, `From: alice@alpha.test
To: bob@bravo.test, carol@charlie.test
Subject: [...]
Date: Mon, 01 Jun 2026 08:00:00 +0000
Message-ID: <m1@alpha.test>
`},
	} {
		sent := encrypted(t, letter, EncryptOptions{Recipients: certs(t, "bob"), Headers: c.mode, Autocrypt: "addr=alice@alpha.test; keydata=AAAA"})
		visible := crlf(c.want)
		if !strings.HasPrefix(sent, visible+"Autocrypt: addr=alice@alpha.test; keydata=AAAA\r\nMIME-Version: 1.0\r\n") {
			t.Errorf("%s: visible header is\n%s", c.mode, sent[:500])
		}
		// RFC 9788 §2.2: one HP-Outer for each field left visible, inside only.
		outer := "HP-Outer: " + strings.ReplaceAll(strings.TrimSuffix(visible, "\r\n"), "\r\n", "\r\nHP-Outer: ") + "\r\n"
		if payload := payloadOf(t, sent); !strings.Contains(payload, outer) {
			t.Errorf("%s: payload is\n%s", c.mode, payload)
		}
		_, shown := opened(t, sent)
		checkLetter(t, shown)
	}
	if err := Encrypt(io.Discard, source(letter), EncryptOptions{Recipients: certs(t, "bob"), Headers: "none"}); err == nil {
		t.Error("an unknown policy was accepted")
	}
	if err := Encrypt(io.Discard, source(letter), EncryptOptions{}); err == nil {
		t.Error("encrypted to nobody")
	}
}

// The subject under another name, or a summary, stays inside; inside it is complete.
func TestFieldsThatTellTheContent(t *testing.T) {
	for _, mode := range []HeaderMode{Baseline, Shy} {
		for _, name := range []string{"Thread-Topic", "thread-TOPIC", "X-Original-Subject", "X-Spam-Prev-Subject", "Summary", "Abstract", "X-Keywords", "X-Comment", "msip_labels", "X-Label"} {
			sent := encrypted(t, crlf("From: alice@alpha.test\nTo: bob@bravo.test\nSubject: secret plan\n"+name+": secret plan\nThread-Index: AdABCD==\n\ntext\n"),
				EncryptOptions{Recipients: certs(t, "bob"), Headers: mode})
			if strings.Contains(sent, "secret plan") || !strings.Contains(sent, "Thread-Index: AdABCD==") {
				t.Errorf("%s, %s: the outer header is\n%.400s", mode, name, sent)
			}
			if readable, err := Readable(source(sent)); readable || err != nil {
				t.Errorf("%s, %s: readable is %v, %v", mode, name, readable, err)
			}
			if readable, err := Readable(source(name + ": secret plan\r\n" + sent)); !readable || err != nil {
				t.Errorf("%s outside: readable is %v, %v", name, readable, err)
			}
			_, shown := opened(t, sent)
			if h, _ := split(t, shown); h.Get(name) != "secret plan" || h.Get("Subject") != "secret plan" {
				t.Errorf("%s, %s: shown header is %q", mode, name, h)
			}
		}
	}
}

func TestGossipAndAutocrypt(t *testing.T) {
	value, err := AutocryptValue("alice@alpha.test", cert(t, "two"))
	if err != nil {
		t.Fatal(err)
	}
	sent := encrypted(t, letter, EncryptOptions{
		Recipients: certs(t, "bob", "aead"), Signer: key(t, "two"), Autocrypt: value,
		Gossip: []Gossip{{"carol@charlie.test", cert(t, "aead")}, {"mallory@evil.test", cert(t, "mallory")}},
	})
	r, _ := opened(t, sent)
	a, err := keydisc.ParseAutocrypt(r.Autocrypt)
	if err != nil || a.Address != "alice@alpha.test" || !a.Mutual || a.Certificate.Fingerprint() != cert(t, "two").Fingerprint() {
		t.Errorf("Autocrypt is %q: %v", r.Autocrypt, err)
	}
	if got := fmt.Sprint(a.Certificate.Addresses()); got != "[alice@alpha.test]" {
		t.Errorf("certificate told has %s", got)
	}
	if len(r.Gossip) != 1 { // Mallory is no recipient
		t.Fatalf("gossip is %q", r.Gossip)
	}
	if g, err := keydisc.ParseAutocrypt(r.Gossip[0]); err != nil || g.Address != "carol@charlie.test" || g.Mutual {
		t.Errorf("gossip is %+v: %v", g, err)
	}
	for _, line := range strings.Split(sent, "\r\n") {
		if len(line) > 100 {
			t.Errorf("line of %d characters", len(line))
		}
	}
	for _, address := range []string{"", "a b@c", "a;b@c", "a\r\n@c", "other@alpha.test"} {
		if v, err := AutocryptValue(address, cert(t, "alice")); err == nil {
			t.Errorf("%q became %q", address, v)
		}
	}
}

func TestNormalise(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"A: b\nX-Drop: 1\n two\nC: d\n\nx\ry\r\nz\n\r\r", "N: v\r\nA: b\r\nC: d\r\n\r\nx\r\ny\r\nz\r\n\r\n\r\n"},
		{"x-drop : 1\r\nA: b", "N: v\r\nA: b"},
		{"\r\nX-Drop: body\r\n", "N: v\r\n\r\nX-Drop: body\r\n"},
		{"", "N: v\r\n"},
		{" x\n\ty\nA: b\n c\n\n d", "N: v\r\nA: b\r\n c\r\n\r\n d"},
		{"A: " + strings.Repeat("x", 100<<10) + "\nX-Drop: " + strings.Repeat("y", 200<<10) + "\n\nX-Drop: z",
			"N: v\r\nA: " + strings.Repeat("x", 100<<10) + "\r\n\r\nX-Drop: z"},
	} {
		var out bytes.Buffer
		if err := Normalise(&out, strings.NewReader(c.in), []string{"X-DROP"}, []Field{{"N", "v"}}); err != nil {
			t.Fatal(err)
		}
		if out.String() != c.want {
			t.Errorf("%.40q became %.80q, want %.80q", c.in, out.String(), c.want)
		}
	}
}

func TestFieldCannotBeginAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringOfN(rapid.RuneFrom([]rune("ab \t\r\n:\x00ü")), 0, 400, -1).Draw(t, "value")
		var out bytes.Buffer
		if err := writeField(&out, "Name", value); err != nil {
			t.Fatal(err)
		}
		h := mimescan.ParseHeader(append(out.Bytes(), "\r\nbody"...))
		if len(h) != 1 || h[0].Value() != clean(value) {
			t.Fatalf("%q became %q", value, out.String())
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(out.String(), "\r\n"), "\r\n") {
			if strings.TrimSpace(line) == "" {
				t.Fatalf("an empty line in %q", out.String())
			}
		}
	})
}

func TestUnsealReturnsTheOriginal(t *testing.T) {
	own, k := cert(t, "bob"), Keys{SealKeys: [][]byte{testSealKey}}
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		original := rapid.OneOf(rapid.SliceOf(rapid.Byte()),
			rapid.SliceOf(rapid.SampledFrom([]byte("From: @<>,\r\n\x00\xff-a")))).Draw(r, "message")
		k.Decrypters = append(k.Decrypters[:0], key(t, "bob"))
		var out bytes.Buffer
		if _, err := Seal(&out, bytes.NewReader(original), own, testSealKey, []byte("1"), testNow); err != nil {
			r.Fatal(err)
		}
		got, err := Unseal(bytes.NewReader(out.Bytes()), k, dir)
		if err != nil {
			r.Fatal(err)
		}
		defer got.Close()
		if content(t, got) != string(original) {
			r.Fatalf("%q came back as %q", original, content(t, got))
		}
		if readable, err := Readable(bytes.NewReader(out.Bytes())); readable || err != nil {
			r.Fatalf("sealed message is readable: %v", err)
		}
	})
}

func TestOpenEncryptKeepsEveryField(t *testing.T) {
	token := rapid.StringMatching(`[!-9;-~ü]{1,90}( [!-9;-~]{1,30}){0,5}`)
	rapid.Check(t, func(r *rapid.T) {
		var message, want strings.Builder
		for i := range rapid.IntRange(0, 10).Draw(r, "fields") {
			name := rapid.StringMatching(`X-[A-Z][a-z]{0,8}`).Draw(r, "name")
			value := token.Draw(r, "value")
			fmt.Fprintf(&message, "%s%d: %s\r\n", name, i, value)
			fmt.Fprintf(&want, "%s%d=%s\n", name, i, value)
		}
		body := rapid.SliceOf(rapid.Byte()).Draw(r, "body")
		message.WriteString("From: alice@alpha.test\r\n\r\n" + string(body))
		_, shown := opened(t, encrypted(t, message.String(), EncryptOptions{Recipients: certs(t, "bob"), Signer: key(t, "alice")}))
		h, got := split(t, shown)
		if got != string(body) {
			r.Fatalf("body %q became %q", body, got)
		}
		var fields strings.Builder
		for _, f := range h {
			if strings.HasPrefix(f.Name, "X-") {
				fmt.Fprintf(&fields, "%s=%s\n", f.Name, f.Value())
			}
		}
		if fields.String() != want.String() {
			r.Fatalf("header is\n%s, want\n%s", fields.String(), want.String())
		}
	})
}
