package keydisc

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/keydisc/internal/dnssec"
	"github.com/sealpost/sealpost/keydisc/internal/dnssec/dnssectest"
)

func TestOpenPGPKeyName(t *testing.T) {
	const hugh = "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._openpgpkey.example.com." // RFC 7929 §3
	const arger = "ärger"
	for address, want := range map[string]string{
		"hugh@example.com": hugh, "  hugh@Example.COM ": hugh, `"hugh"@example.com`: hugh, `"h\ugh"@example.com`: hugh,
		"hugh@bücher.example":             strings.Replace(hugh, "example.com", "xn--bcher-kva.example", 1),
		"hugh@xn--bcher-kva.example":      strings.Replace(hugh, "example.com", "xn--bcher-kva.example", 1),
		"a\u0308rger@example.com":         nameOf(t, arger+"@example.com"), // composed and not
		`"a@b c"@example.com`:             "941e436a2611e3b12f48d4e3408b9fd65ca9f77db3041392bfd398cb._openpgpkey.example.com.",
		"":                                "",
		"hugh":                            "",
		"@example.com":                    "",
		"hugh@":                           "",
		"hugh@*.example.com":              "",
		"hugh@[127.0.0.1]":                "",
		"hugh@example.com, x@y.test":      "",
		"Hugh <hugh@example.com>":         "",
		"hugh@" + strings.Repeat("a", 64): "",
		"hugh@" + strings.Repeat("abc.", 50) + "test": "",
	} {
		got, err := openpgpkeyName(address)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v", address, got, err)
		}
	}
	if nameOf(t, "Hugh@example.com") == hugh {
		t.Error("the name is of the local part as written")
	}
}

func nameOf(t *testing.T, address string) string {
	t.Helper()
	name, err := openpgpkeyName(address)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// openpgpkey is a line of a master file, for the address and the content.
func openpgpkey(t *testing.T, address string, content []byte) string {
	t.Helper()
	return nameOf(t, address) + " TYPE61 \\# " + fmt.Sprintf("%d %x\n", len(content), content)
}

// signed serves a root, "test.", a zone that is not signed, and "bravo.test." with the text.
func signed(t *testing.T, text string) (*dnssectest.Server, *dane) {
	t.Helper()
	s, err := dnssectest.Serve(now, dnssectest.Zone{Name: "."}, dnssectest.Zone{Name: "test."},
		dnssectest.Zone{Name: "plain.test.", Unsigned: true, Text: openpgpkey(t, "bob@plain.test", []byte("forged"))},
		dnssectest.Zone{Name: "bravo.test.", Text: text})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	d, err := newDANE(dnssec.Options{Servers: []string{s.Addr}, Anchors: s.Anchors, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

func TestDANE(t *testing.T) {
	bob := load(t, "bob").Bytes()
	text := openpgpkey(t, "bob@bravo.test", bob) + openpgpkey(t, "Carol@bravo.test", []byte("carol")) +
		openpgpkey(t, "two@bravo.test", []byte("one")) + openpgpkey(t, "two@bravo.test", []byte("two")) +
		openpgpkey(t, "empty@bravo.test", nil) + openpgpkey(t, "large@bravo.test", bytes.Repeat([]byte("large"), 10_000)) +
		nameOf(t, "alias@bravo.test") + " CNAME " + nameOf(t, "bob@bravo.test") + "\n" +
		nameOf(t, "stranger@bravo.test") + " CNAME " + nameOf(t, "bob@plain.test") + "\n"
	for i := range maxOpenPGPKeys + 1 {
		text += openpgpkey(t, "many@bravo.test", []byte{byte(i)})
	}
	_, d := signed(t, text)
	for address, want := range map[string]struct {
		data string
		err  bool
	}{
		"bob@bravo.test": {string(bob), false}, "Bob@Bravo.Test": {string(bob), false}, `"bob"@bravo.test`: {string(bob), false},
		"alias@bravo.test": {string(bob), false}, "Carol@bravo.test": {"carol", false}, "carol@bravo.test": {"", false},
		"nobody@bravo.test": {"", false}, "bob@nowhere.test": {"", false}, "large@bravo.test": {strings.Repeat("large", 10_000), false},
		"bob@plain.test": {"", false}, "stranger@bravo.test": {"", false},
		"empty@bravo.test": {"", true}, "many@bravo.test": {"", true}, "bob": {"", true},
	} {
		data, err := d.find(t.Context(), address)
		if string(data) != want.data || (err != nil) != want.err || (data == nil) != (want.data == "") {
			t.Errorf("%s: %d bytes, %v", address, len(data), err)
		}
	}
	if data, err := d.find(t.Context(), "two@bravo.test"); err != nil || len(data) != 6 {
		t.Errorf("%q, %v", data, err)
	}
	if certificates, err := ParseCertificates(mustFind(t, d, "bob@bravo.test")); err != nil || len(certificates) != 1 {
		t.Errorf("%v, %v", certificates, err)
	}
}

// A Finder trusts the anchors it is given, and no others.
func TestFindByDANE(t *testing.T) {
	s, _ := signed(t, openpgpkey(t, "bob@bravo.test", load(t, "bob").Bytes()))
	var anchors []string
	for _, ds := range s.Anchors {
		anchors = append(anchors, ds.String())
	}
	for _, c := range []struct {
		anchors    []string
		found      int
		conclusive bool
	}{{anchors, 1, true}, {nil, 0, false}} {
		f, err := New(Options{Methods: []Method{DANE}, DNS: []string{s.Addr}, DNSAnchors: c.anchors, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		answer := f.Find(t.Context(), "bob@bravo.test")
		if len(answer.Found) != c.found || answer.Conclusive != c.conclusive {
			t.Errorf("%d anchors: %+v", len(c.anchors), answer)
		}
		if c.found > 0 && (answer.Found[0].Source != DANE || !answer.Found[0].Authenticated) {
			t.Errorf("%+v", answer.Found[0])
		}
	}
	for _, bad := range []string{"", "nonsense", ". 0 IN A 127.0.0.1"} {
		if _, err := New(Options{Methods: []Method{DANE}, DNSAnchors: []string{bad}}); err == nil {
			t.Errorf("anchor %q", bad)
		}
	}
}

func mustFind(t *testing.T, d *dane, address string) []byte {
	t.Helper()
	data, err := d.find(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What the network does to the answers never leads to certificates, nor to "there is none"; and no
// error names the person.
func TestDANEFailsClosed(t *testing.T) {
	s, d := signed(t, openpgpkey(t, "bob@bravo.test", []byte("bob")))
	forged := &dns.OPENPGPKEY{PublicKey: base64.StdEncoding.EncodeToString([]byte("forged"))}
	for name, change := range map[string]func(m *dns.Msg){
		"forged": func(m *dns.Msg) {
			forged.Hdr = dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeOPENPGPKEY, Class: dns.ClassINET, Ttl: 300}
			m.Answer = []dns.RR{forged}
		},
		"authenticated by the server": func(m *dns.Msg) { m.AuthenticatedData, m.Answer, m.Ns = true, m.Answer[1:], nil },
		"nothing":                     func(m *dns.Msg) { m.Answer, m.Ns = nil, nil },
		"no such name":                func(m *dns.Msg) { m.Rcode, m.Answer, m.Ns = dns.RcodeNameError, nil, nil },
		"server failure":              func(m *dns.Msg) { m.Rcode, m.Answer, m.Ns = dns.RcodeServerFailure, nil, nil },
		"signatures gone":             func(m *dns.Msg) { m.Answer = m.Answer[:len(m.Answer)-1] },
	} {
		s.Break(func(q dns.Question, _ string, m *dns.Msg) bool {
			if q.Qtype == dns.TypeOPENPGPKEY {
				change(m)
			}
			return true
		})
		data, err := d.find(t.Context(), "bob@bravo.test")
		if data != nil || err == nil {
			t.Errorf("%s: %q", name, data)
		} else if strings.Contains(err.Error(), "bob") || strings.Contains(err.Error(), nameOf(t, "bob@bravo.test")[:20]) || !strings.Contains(err.Error(), "bravo.test") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The name in lower case is asked for only once it is certain that the other has nothing.
func TestDANEVariants(t *testing.T) {
	s, d := signed(t, openpgpkey(t, "bob@bravo.test", []byte("bob")))
	s.Break(func(q dns.Question, _ string, m *dns.Msg) bool {
		if q.Name == nameOf(t, "Bob@bravo.test") {
			m.Rcode = dns.RcodeServerFailure
		}
		return true
	})
	if data, err := d.find(t.Context(), "Bob@bravo.test"); data != nil || err == nil {
		t.Errorf("%q", data)
	}
}

func FuzzOpenPGPKeyName(f *testing.F) {
	for _, address := range []string{"hugh@example.com", `"a b"@example.com`, "x@bücher.example", "x@*.test", `"\`, "@", "x@a..b"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		name, err := openpgpkeyName(address)
		if err != nil {
			return
		}
		labels := dns.SplitDomainName(name)
		if len(labels) < 3 || len(labels[0]) != 56 || labels[1] != "_openpgpkey" || strings.ContainsAny(name, `*\ "@/`) {
			t.Errorf("%q: %s", address, name)
		}
	})
}
