package keydisc

import (
	"strings"
	"testing"
)

// The published vectors: certificates of testdata, with the numbers that safetynumber.py gives.
func TestSafetyNumberVectors(t *testing.T) {
	for _, v := range []struct{ address, name, otherAddress, other, want string }{
		{"alice@alpha.test", "alice", "bob@bravo.test", "bob", "087422547099805355596765437330653827476641095603899787805260"},
		{"ALICE@alpha.test", "alice", "bob@BRAVO.test", "bob", "087422547099805355596765437330653827476641095603899787805260"},
		{"alice@alpha.test", "alice", "bob@bravo.test", "bob2", "087422547099805355596765437330439905074134691015534488166612"},
		{"alice@alpha.test", "alice", "robert@other.test", "bob", "087422547099805355596765437330855206370049542216024795260919"},
	} {
		n, err := NewSafetyNumber(v.address, load(t, v.name), v.otherAddress, load(t, v.other))
		if err != nil || string(n) != v.want {
			t.Errorf("%s %s: %q, %v", v.name, v.other, string(n), err)
		}
		mirrored, err := NewSafetyNumber(v.otherAddress, load(t, v.other), v.address, load(t, v.name))
		if err != nil || mirrored != n {
			t.Errorf("%s %s: the other side has %q, %v", v.name, v.other, string(mirrored), err)
		}
	}
}

// A certificate with other user IDs, subkeys or expiry is the same key.
func TestSafetyNumberFollowsThePrimaryKey(t *testing.T) {
	number := func(name string) SafetyNumber {
		n, err := NewSafetyNumber("alice@alpha.test", load(t, "alice"), "x@y.test", load(t, name))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if number("lapsed") != number("extended") {
		t.Error("extending a key changes its number")
	}
	if number("bob") == number("bob2") {
		t.Error("another key has the same number")
	}
}

func TestSafetyNumberMatches(t *testing.T) {
	n := SafetyNumber(strings.Repeat("0123456789", 6))
	for text, want := range map[string]string{
		string(n):                                "yes",
		n.String():                               "yes",
		n.QR():                                   "yes",
		" sealpost1:" + n.String():               "yes",
		strings.ReplaceAll(n.String(), " ", "-"): "yes",
		strings.Repeat("0123456788", 6):          "no",
		string(n[:59]) + "8":                     "no",
		string(n[:59]):                           "error",
		string(n) + "0":                          "error",
		"":                                       "error",
		strings.Repeat("٣", 30):                  "error",
		"SEALPOST2:" + string(n):                 "error",
	} {
		same, err := n.Matches(text)
		got := map[bool]string{true: "yes", false: "no"}[same]
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if want := "01234 56789 01234 56789\n"; !strings.HasPrefix(n.String(), want) || strings.Count(n.String(), "\n") != 2 {
		t.Errorf("%s", n)
	}
}
