package keyring

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

var profiles = []Profile{Compatible, V6, PQC, PQCV6}

// day is a time so many days after a key was made.
func day(k Key, n int) time.Time { return k.Created.Add(time.Duration(n) * 24 * time.Hour) }

func subkeys(t *testing.T, r *Ring) (fingerprints []string) {
	t.Helper()
	entity, err := r.Signer()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range entity.Subkeys {
		fingerprints = append(fingerprints, string(s.PublicKey.Fingerprint))
	}
	return fingerprints
}

// TestDevicesMakeTheSameSubkeys: two devices with one key never talk to each other; a third one gets the first year's backup
// after four years.
func TestDevicesMakeTheSameSubkeys(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			first, second, third := newRig(t), newRig(t), newRig(t)
			k, err := first.ring.Generate(t.Context(), p, []string{alice}, time.Now().Add(-5*365*24*time.Hour), false)
			if err != nil {
				t.Fatal(err)
			}
			backup, err := first.ring.secretCopy(k.Fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []*rig{second, third} {
				if _, err := r.ring.add(t.Context(), backup, true); err != nil {
					t.Fatal(err)
				}
			}
			for _, days := range []int{100, 364, 366, 700, 1000, 1100, 1500} { // Maintain runs often on the first device
				maintained(t, first, day(k, days))
			}
			maintained(t, second, day(k, 800))
			maintained(t, second, day(k, 1500))
			maintained(t, third, day(k, 1500))
			want := subkeys(t, first.ring)
			if len(want) != len(kinds[p].encryption)*5 {
				t.Errorf("%d subkeys after four years", len(want))
			}
			for _, r := range []*rig{second, third} {
				got := subkeys(t, r.ring)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Error("two devices with the same key have made different subkeys")
				}
			}
		})
	}
}

// TestOpensToTheNextSubkey: another device, with a clock or a daemon ahead of ours, has renewed the key; mail to the new subkey comes
// before we have looked after our copy.
func TestOpensToTheNextSubkey(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			early, late := newRig(t), newRig(t)
			k := early.generate(t, p)
			backup, err := early.ring.secretCopy(k.Fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := late.ring.add(t.Context(), backup, true); err != nil {
				t.Fatal(err)
			}
			for year := 1; year <= 2; year++ {
				maintained(t, early, day(k, 365*year))
				text := strconv.Itoa(year)
				if got := decrypt(t, late.ring, encryptAt(t, early.ring, text, day(k, 365*year).Add(time.Hour))); got != text {
					t.Errorf("year %d: %q", year, got)
				}
				if n := len(subkeys(t, late.ring)); n != year*len(kinds[p].encryption) {
					t.Errorf("%d subkeys are told of in year %d", n, year)
				}
				maintained(t, late, day(k, 365*year))
			}
		})
	}
}

func maintained(t *testing.T, r *rig, at time.Time) []Key {
	t.Helper()
	changed, err := r.ring.Maintain(t.Context(), []string{alice}, at)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// secretCopy is a key as another device gets it.
func (r *Ring) secretCopy(f keydisc.Fingerprint) (ownKey, error) {
	entity, err := r.unlocked(f)
	if err != nil {
		return ownKey{}, err
	}
	return reread(entity, Key{Profile: r.List()[0].Profile})
}

// TestKeysDoNotRunOut: with Maintain now and then a key can be encrypted to for ten years, and without it not for ever.
func TestKeysDoNotRunOut(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			r, neglected := newRig(t), newRig(t)
			var k Key
			for _, each := range []*rig{r, neglected} {
				var err error
				if k, err = each.ring.Generate(t.Context(), p, []string{alice}, time.Now(), false); err != nil {
					t.Fatal(err)
				}
			}
			for days := 0; days <= 3650; days += 50 {
				maintained(t, r, day(k, days))
				c, err := r.ring.Certificate()
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Check(alice, day(k, days+1)); err != nil {
					t.Fatalf("day %d: %v", days+1, err)
				}
			}
			if changed := maintained(t, r, day(k, 3650)); len(changed) != 0 {
				t.Error("changed with nothing to do")
			}
			c, err := neglected.ring.Certificate()
			if err != nil {
				t.Fatal(err)
			}
			var unusable *keydisc.UnusableError
			if err := c.Check(alice, day(k, 430)); !errors.As(err, &unusable) || unusable.Reason != keydisc.ReasonExpired {
				t.Errorf("after 430 days without maintenance: %v", err)
			}
		})
	}
}

// TestNewSubkeysOpen: what is encrypted to a key after each of its changes opens, also what was before.
func TestNewSubkeysOpen(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			r := newRig(t)
			k := r.generate(t, p)
			messages := [][]byte{encrypt(t, r.ring, "0")}
			if _, err := r.ring.Rotate(t.Context(), k.Fingerprint, k.Created.Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if n := len(subkeys(t, r.ring)); n != len(kinds[p].encryption)+1 {
				t.Errorf("%d subkeys after one rotation", n)
			}
			messages = append(messages, encryptAt(t, r.ring, "1", k.Created.Add(2*time.Second)))
			reopened := r.open(t)
			for i, m := range messages {
				if text := decrypt(t, reopened, m); text != string(rune('0'+i)) {
					t.Errorf("message %d: %q", i, text)
				}
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			r := newRig(t)
			old := r.generate(t, p)
			message := encrypt(t, r.ring, "hello")
			if _, err := r.ring.Revoke(t.Context(), "", Compromised, "stolen", time.Now(), false); !errors.Is(err, ErrLastKey) {
				t.Fatalf("the only key was revoked: %v", err)
			}
			next := r.generate(t, p)
			revoked, err := r.ring.Revoke(t.Context(), old.Fingerprint, Compromised, "stolen", time.Now(), false)
			if err != nil || !revoked.Revoked || revoked.Primary {
				t.Fatalf("%+v, %v", revoked, err)
			}
			list := r.open(t).List()
			if list[0].Fingerprint != next.Fingerprint || !list[0].Primary || list[0].Revoked || !list[1].Revoked || list[1].Primary {
				t.Errorf("%+v", list)
			}
			c, err := r.ring.CertificateOf(old.Fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			var unusable *keydisc.UnusableError
			if err := c.Check(alice, time.Now()); !errors.As(err, &unusable) || unusable.Reason != keydisc.ReasonRevoked {
				t.Errorf("the revoked certificate: %v", err)
			}
			if text := decrypt(t, r.ring, message); text != "hello" {
				t.Errorf("older mail: %q", text)
			}
			for name, f := range map[string]func() (Key, error){
				"revoke again": func() (Key, error) {
					return r.ring.Revoke(t.Context(), old.Fingerprint, Retired, "", time.Now(), false)
				},
				"rotate": func() (Key, error) { return r.ring.Rotate(t.Context(), old.Fingerprint, time.Now()) },
				"extend": func() (Key, error) { return r.ring.Extend(t.Context(), old.Fingerprint, time.Time{}, time.Now()) },
			} {
				if _, err := f(); !errors.Is(err, ErrRevoked) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if err := r.ring.Prefer(t.Context(), old.Fingerprint, time.Now()); !errors.Is(err, ErrUnusable) || r.ring.List()[0].Fingerprint != next.Fingerprint {
				t.Errorf("a revoked key is used again: %v", err)
			}
			if changed := maintained(t, r, time.Now().Add(400*24*time.Hour)); len(changed) != 1 {
				t.Errorf("maintained: %+v", changed)
			}
		})
	}
}

// TestRingsOfOneDatabase: gateways share it, and each has read the keys before the others changed them.
func TestRingsOfOneDatabase(t *testing.T) {
	r := newRig(t)
	k := r.generate(t, Compatible)
	one, two := r.open(t), r.open(t)
	for i, ring := range []*Ring{one, two} {
		if _, err := ring.Rotate(t.Context(), "", k.Created.Add(time.Duration(i+1)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(subkeys(t, r.open(t))); n != 3 {
		t.Errorf("%d subkeys after two rotations", n)
	}
	next, err := one.Generate(t.Context(), V6, []string{alice}, time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Revoke(t.Context(), k.Fingerprint, Compromised, "", time.Now(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Extend(t.Context(), k.Fingerprint, time.Time{}, time.Now()); !errors.Is(err, ErrRevoked) {
		t.Errorf("a key that another gateway has revoked was extended: %v", err)
	}
	if _, err := r.ring.Maintain(t.Context(), []string{alice}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, ring := range map[string]*Ring{"one": one, "two": two, "the first": r.ring, "opened anew": r.open(t)} {
		if list := ring.List(); len(list) != 2 || list[0].Fingerprint != next.Fingerprint || !list[0].Primary || list[1].Primary || !list[1].Revoked {
			t.Errorf("%s: %+v", name, list)
		}
	}
	one.Close()
	if _, err := one.Rotate(t.Context(), "", time.Now()); !errors.Is(err, ErrNoKey) || len(one.List()) != 0 {
		t.Errorf("a closed ring has keys: %v", err)
	}
}

// TestClosingDamagesNothing: closing wipes the keys in memory, but not while they are being stored.
func TestClosingDamagesNothing(t *testing.T) {
	r := newRig(t)
	r.generate(t, Compatible)
	message := encrypt(t, r.ring, "hello")
	ring, closed := r.open(t), make(chan struct{})
	err := ring.update(t.Context(), func(keys []ownKey) ([]ownKey, error) {
		go func() { ring.Close(); close(closed) }()
		for range 100_000 { // time enough to close, if it does not wait
			runtime.Gosched()
		}
		return keys, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-closed
	if text := decrypt(t, r.open(t), message); text != "hello" || len(ring.List()) != 0 {
		t.Errorf("%q, %+v", text, ring.List())
	}
}

// TestPreferLosesNothing: a key is changed and made the primary one at the same time.
func TestPreferLosesNothing(t *testing.T) {
	r := newRig(t)
	r.generate(t, Compatible)
	other := r.generate(t, Compatible)
	const rotations = 20
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range rotations {
			if _, err := r.ring.Rotate(t.Context(), other.Fingerprint, other.Created.Add(time.Duration(i+1)*time.Second)); err != nil {
				t.Error(err)
			}
		}
	})
	for range rotations {
		if err := r.ring.Prefer(t.Context(), other.Fingerprint, other.Created); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if n := len(subkeys(t, r.open(t))); n != 1+rotations {
		t.Errorf("%d subkeys after %d rotations", n, rotations)
	}
}

func TestExtend(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			r := newRig(t)
			k := r.generate(t, p)
			until := time.Now().Add(20 * 365 * 24 * time.Hour).Truncate(time.Second)
			later := time.Now().Add(time.Second)
			longer, err := r.ring.Extend(t.Context(), "", until, later)
			if err != nil || longer.Expires.Sub(until).Abs() > time.Second || longer.Fingerprint != k.Fingerprint {
				t.Fatalf("%v instead of %v, %v", longer.Expires, until, err)
			}
			if longer, err = r.ring.Extend(t.Context(), "", time.Time{}, later.Add(time.Second)); err != nil || !longer.Expires.IsZero() {
				t.Fatalf("%+v, %v", longer, err)
			}
			if _, err := r.ring.Extend(t.Context(), "", time.Now().Add(-time.Hour), time.Now()); err == nil {
				t.Error("extended into the past")
			}
			before := r.ring.List()[0]
			for _, years := range []int{137, 300, 5000} { // the lifetime is 32 bits of seconds (RFC 9580 §5.2.3.13)
				if _, err := r.ring.Extend(t.Context(), "", time.Now().AddDate(years, 0, 0), later); err == nil || !r.ring.List()[0].Expires.Equal(before.Expires) {
					t.Errorf("%d years became %v", years, r.ring.List()[0].Expires)
				}
			}
		})
	}
}

// TestAddressesAreAdded: an alias that comes later gets a user ID, in keys that we have made.
func TestAddressesAreAdded(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			r := newRig(t)
			k := r.generate(t, p)
			changed, err := r.ring.Maintain(t.Context(), []string{alice, "new@alpha.test"}, day(k, 30))
			if err != nil || len(changed) != 1 {
				t.Fatalf("%+v, %v", changed, err)
			}
			c, err := r.ring.Certificate()
			if err != nil {
				t.Fatal(err)
			}
			for _, address := range []string{alice, "a@alpha.test", "new@alpha.test"} {
				if err := c.Check(address, day(k, 31)); err != nil {
					t.Error(err)
				}
			}
			if !c.Expires().Equal(k.Expires) {
				t.Errorf("it ends %v instead of %v", c.Expires(), k.Expires)
			}
		})
	}
}

func TestSubkeySeedsDiffer(t *testing.T) {
	r := newRig(t)
	r.generate(t, PQC)
	entity, err := r.ring.Signer()
	if err != nil {
		t.Fatal(err)
	}
	seen := [][]byte{}
	for _, algorithm := range kinds[PQC].encryption {
		for _, at := range []int64{0, 1} {
			seed, err := seedOf(entity, algorithm, time.Unix(at, 0))
			if err != nil || slices.ContainsFunc(seen, func(s []byte) bool { return bytes.Equal(s, seed) }) {
				t.Fatal("the same seed for two subkeys", err)
			}
			seen = append(seen, seed)
		}
	}
}
