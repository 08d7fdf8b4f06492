package keydisc

import (
	"net/url"
	"testing"
)

func TestNormalizeAddress(t *testing.T) {
	for in, want := range map[string]string{
		"Bob@Bravo.Test":           "bob@bravo.test",
		" bob+tag@bravo.test ":     "bob+tag@bravo.test",
		"ÄRGER@bravo.test":         "Ärger@bravo.test",
		"x@BÜCHER.example":         "x@xn--bcher-kva.example",
		"x@xn--bcher-kva.EXAMPLE":  "x@xn--bcher-kva.example",
		"":                         "",
		"bob":                      "",
		"bob@":                     "",
		"@bravo.test":              "",
		"a@b@bravo.test":           "",
		"Bob <bob@bravo.test>":     "",
		"bob@bravo.test, c@d.e":    "",
		"bob@bravo.test\r\nX: y":   "",
		`"a> NOTIFY=x"@bravo.test`: "",
	} {
		got, err := NormalizeAddress(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestAddressOf(t *testing.T) {
	for in, want := range map[string]string{
		"Bob Bravo <Bob@bravo.test>":                  "bob@bravo.test",
		"bob@bravo.test":                              "bob@bravo.test",
		"<bob@bravo.test>":                            "bob@bravo.test",
		"bob@bravo.test <mallory@other.test>":         "mallory@other.test",
		"Mallory <mallory@other.test> bob@bravo.test": "",
		"Bob (at home)":                               "",
		"<mallory@other.test> <bob@bravo.test>":       "bob@bravo.test",
		"Bob <bob@bravo.test":                         "",
	} {
		if got := addressOf(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// An address cannot lead a lookup to another path or host than its own.
func TestAddressesInURLs(t *testing.T) {
	for _, address := range []string{"x@evil.test/a", "x@evil.test?a", "x@evil.test#a", "x@a_b.test", "x@[127.0.0.1]", "x@evil.test:8443"} {
		if a, _, err := WKDLocations(address); err == nil {
			t.Errorf("%s: %+v", address, a)
		}
	}
	advanced, _, err := WKDLocations("a/../b&l=c@bravo.test")
	if err == nil {
		t.Errorf("two dots in a row are no local part: %+v", advanced)
	}
	advanced, _, err = WKDLocations("a/b&l=c@bravo.test")
	if err != nil {
		t.Fatal(err)
	}
	if got := advanced.url("a/b&l=c").Query(); len(got) != 1 || got.Get("l") != "a/b&l=c" {
		t.Error(got)
	}
	f, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.vksURL("by-email", "a/b?c#d@bravo.test"); got.EscapedPath() != "/vks/v1/by-email/a%2Fb%3Fc%23d@bravo.test" || got.RawQuery != "" || got.Host != vksHost {
		t.Error(got)
	}
	if _, err := url.Parse(f.vksURL("by-email", "bob@bravo.test").String()); err != nil {
		t.Error(err)
	}
}

func TestPublicOnly(t *testing.T) {
	for address, public := range map[string]bool{
		"9.9.9.9:443": true, "[2620:fe::fe]:443": true,
		"127.0.0.1:443": false, "10.1.2.3:443": false, "172.16.0.1:443": false, "192.168.1.1:443": false, "169.254.169.254:443": false,
		"100.64.0.1:443": false, "0.0.0.0:443": false, "224.0.0.1:443": false, "255.255.255.255:443": false, "198.18.0.1:443": false,
		"[::1]:443": false, "[::]:443": false, "[fe80::1]:443": false, "[fc00::1]:443": false, "[ff02::1]:443": false,
		"[::ffff:127.0.0.1]:443": false, "[64:ff9b::7f00:1]:443": false, "[2002:7f00:1::]:443": false, "[::127.0.0.1]:443": false, "nonsense": false,
	} {
		if err := publicOnly("tcp", address, nil); (err == nil) != public {
			t.Errorf("%s: %v", address, err)
		}
	}
}
