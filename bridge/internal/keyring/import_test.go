package keyring

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/keydisc"
)

// The seal key follows the key to another device; the newer key of a ring is not its primary by itself.
func TestExportToAnotherDevice(t *testing.T) {
	for _, passphrase := range []string{"", "open sesame"} {
		first, second := newRig(t), newRig(t)
		k := first.generate(t, PQC)
		other := second.generate(t, Compatible)
		exported, err := first.ring.Export(k.Fingerprint, []byte(passphrase))
		if err != nil || !bytes.HasPrefix(exported, []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n")) {
			t.Fatal(err)
		}
		message := encrypt(t, first.ring, "before")
		added, err := second.ring.Import(t.Context(), exported, []byte(passphrase), []string{"Alice@Alpha.test"}, time.Now())
		if err != nil || len(added) != 1 || added[0].Fingerprint != k.Fingerprint || added[0].Profile != PQC || !added[0].Primary {
			t.Fatalf("%v %+v", err, added)
		}
		if got := decrypt(t, second.open(t), message); got != "before" {
			t.Error(got)
		}
		sameSealKeys(t, first.ring, second.open(t), other.Fingerprint)
		if _, err := first.ring.Signer(); err != nil {
			t.Error("exporting has locked the key in use:", err)
		}
		if got := decrypt(t, first.ring, message); got != "before" {
			t.Error("exporting has locked the key in use")
		}
	}
}

func sameSealKeys(t *testing.T, first, second *Ring, past keydisc.Fingerprint) {
	t.Helper()
	a, err1 := first.SealKey()
	b, err2 := second.SealKey()
	all, err3 := second.SealKeys()
	if err := errors.Join(err1, err2, err3); err != nil || len(a) != 32 || !bytes.Equal(a, b) {
		t.Fatal("another seal key", err)
	}
	if len(all) != 2 || !bytes.Equal(all[0], a) || bytes.Equal(all[1], a) {
		t.Error("past seal keys are wrong")
	}
	if list := second.List(); len(list) != 2 || !list[0].Primary || list[1].Primary || list[1].Fingerprint != past {
		t.Errorf("%+v", list)
	}
}

func TestImportTwiceIsOnce(t *testing.T) {
	r := newRig(t)
	k := r.generate(t, Compatible)
	exported, err := r.ring.Export(k.Fingerprint, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ring.Import(t.Context(), append(exported, exported...), nil, []string{alice}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := len(r.open(t).List()); got != 1 || len(r.ring.List()) != 1 {
		t.Errorf("%d keys", got)
	}
}

// TestFileOfSeveralKeys: blocks one after another, as from cat; the same key twice, with something of its own in each copy.
func TestFileOfSeveralKeys(t *testing.T) {
	one, two := newRig(t), newRig(t)
	first := one.generate(t, Compatible)
	export := func(r *rig, f keydisc.Fingerprint) []byte {
		t.Helper()
		exported, err := r.ring.Export(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		return exported
	}
	file := export(one, first.Fingerprint)
	if _, err := two.ring.Import(t.Context(), file, nil, []string{alice}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for i, r := range []*rig{one, two} {
		if _, err := r.ring.Rotate(t.Context(), "", first.Created.Add(time.Duration(i+1)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	second := two.generate(t, V6)
	file = slices.Concat([]byte("Made by a mail program.\n\n"), export(one, first.Fingerprint), []byte("\n"), export(two, first.Fingerprint), export(two, second.Fingerprint))
	r := newRig(t)
	if _, err := r.ring.Import(t.Context(), file, nil, []string{alice}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, ring := range []*Ring{r.ring, r.open(t)} {
		if list := ring.List(); len(list) != 2 || list[0].Fingerprint != first.Fingerprint || list[1].Fingerprint != second.Fingerprint || len(subkeys(t, ring)) != 3 {
			t.Errorf("%d subkeys of %+v", len(subkeys(t, ring)), list)
		}
	}
	cut := file[:len(file)-100]
	if _, err := newRig(t).ring.Import(t.Context(), cut, nil, []string{alice}, time.Now()); err == nil {
		t.Error("a file that is cut off was taken for whole")
	}
}

// TestCopyKeepsItsStanding: importing a newer copy of a past key does not put it into use; what the copy says of its revocation counts.
func TestCopyKeepsItsStanding(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			here, there := newRig(t), newRig(t)
			old := here.generate(t, p)
			exchange := func(from, to *rig) {
				t.Helper()
				exported, err := from.ring.Export(old.Fingerprint, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := to.ring.Import(t.Context(), exported, nil, []string{alice}, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			exchange(here, there)
			used, err := here.ring.Generate(t.Context(), p, []string{alice}, time.Now(), true)
			if err != nil {
				t.Fatal(err)
			}
			exchange(there, here)
			if list := here.ring.List(); list[0].Fingerprint != used.Fingerprint || len(list) != 2 {
				t.Errorf("another key is in use: %+v", list)
			}
			if err := here.ring.Prefer(t.Context(), old.Fingerprint, time.Now()); err != nil {
				t.Fatal(err)
			}
			message := encrypt(t, here.ring, "hello")
			if _, err := there.ring.Revoke(t.Context(), "", Compromised, "", time.Now(), true); err != nil {
				t.Fatal(err)
			}
			exchange(there, here)
			for _, ring := range []*Ring{here.ring, here.open(t)} {
				if list := ring.List(); list[0].Fingerprint != used.Fingerprint || !list[1].Revoked || len(list) != 2 {
					t.Errorf("%+v", list)
				}
			}
			if text := decrypt(t, here.ring, message); text != "hello" {
				t.Errorf("older mail: %q", text)
			}
		})
	}
}

// TestRevocationIsLearnt: another device has revoked the key in use; another one of the ring takes its place.
func TestRevocationIsLearnt(t *testing.T) {
	here, there := newRig(t), newRig(t)
	lost := here.generate(t, Compatible)
	next := here.generate(t, Compatible)
	backup, err := here.ring.secretCopy(lost.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.ring.add(t.Context(), backup, true); err != nil {
		t.Fatal(err)
	}
	if _, err := there.ring.Revoke(t.Context(), "", Compromised, "", time.Now(), true); err != nil {
		t.Fatal(err)
	}
	published, err := there.ring.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := here.ring.Learn(t.Context(), published, time.Now()); err != nil || !changed {
		t.Fatal(changed, err)
	}
	for _, ring := range []*Ring{here.ring, here.open(t)} {
		if list := ring.List(); list[0].Fingerprint != next.Fingerprint || !list[0].Primary || !list[1].Revoked || list[1].Primary {
			t.Errorf("%+v", list)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	r := newRig(t)
	exported := func(change func(e *openpgp.Entity), at time.Time) []byte {
		e, err := kinds[Compatible].generate([]string{alice}, at)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(e)
		}
		secret, err := serialize(e)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	lock := func(e *openpgp.Entity) { _ = e.EncryptPrivateKeys([]byte("right"), nil) }
	public := func() []byte {
		var b bytes.Buffer
		e, _ := kinds[Compatible].generate([]string{alice}, time.Now())
		_ = e.Serialize(&b)
		return b.Bytes()
	}
	whole := exported(nil, time.Now())
	for name, c := range map[string]struct {
		data      []byte
		addresses []string
		want      string
	}{
		"nothing":       {nil, nil, "no key"},
		"not a key":     {[]byte("hello"), nil, "no OpenPGP key"},
		"huge":          {make([]byte, maxImport+1), nil, "larger"},
		"cut off":       {whole[:len(whole)/3], nil, "no OpenPGP key"},
		"public":        {public(), nil, "without its secret key"},
		"wrong address": {whole, []string{"bob@alpha.test"}, "it is for alice@alpha.test"},
		"wrong pass":    {exported(lock, time.Now()), nil, "does not unlock"},
		"expired":       {exported(nil, time.Now().Add(-keyLife-time.Hour)), nil, "expired"},
		"revoked":       {exported(func(e *openpgp.Entity) { _ = e.Revoke(packet.KeyCompromised, "", nil) }, time.Now()), nil, "revoked"},
		"only signs":    {exported(func(e *openpgp.Entity) { e.Subkeys = nil }, time.Now()), nil, "cannot decrypt"},
		"good and bad":  {append(bytes.Clone(whole), public()...), nil, "without its secret key"},
		"rest cut off":  {append(bytes.Clone(whole), 0xff), nil, "no OpenPGP key"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.addresses == nil {
				c.addresses = []string{alice}
			}
			added, err := r.ring.Import(t.Context(), c.data, []byte("wrong"), c.addresses, time.Now())
			if err == nil || !strings.Contains(err.Error(), c.want) || len(added) != 0 || strings.Contains(err.Error(), "wrong") {
				t.Errorf("%v %+v", err, added)
			}
		})
	}
	locked := exported(lock, time.Now())
	if _, err := r.ring.Import(t.Context(), locked, nil, []string{alice}, time.Now()); err == nil || !strings.Contains(err.Error(), "passphrase") {
		t.Error(err)
	}
	if _, err := r.ring.Import(t.Context(), locked, []byte("right"), []string{alice}, time.Now()); err != nil {
		t.Error(err)
	}
}

// lockArgon2 locks a key with the memory-hard S2K; the last octets of the specifiers are then
// changed, which nothing notices before the passphrase is tried.
func lockArgon2(t *testing.T, version6 bool, change func(specifier []byte)) []byte {
	t.Helper()
	e, err := openpgp.NewEntity("", "", alice, &packet.Config{V6Keys: version6, Algorithm: packet.PubKeyAlgoEd25519})
	if err != nil {
		t.Fatal(err)
	}
	config := &packet.Config{
		AEADConfig: &packet.AEADConfig{},
		S2KConfig:  &s2k.Config{S2KMode: s2k.Argon2S2K, Argon2Config: &s2k.Argon2Config{NumberOfPasses: 1, DegreeOfParallelism: 1, Memory: 64}},
	}
	if err := e.EncryptPrivateKeys([]byte("right"), config); err != nil {
		t.Fatal(err)
	}
	secret, err := serialize(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []*packet.PrivateKey{e.PrivateKey, e.Subkeys[0].PrivateKey} {
		specifier, err := s2kSpecifier(key)
		if err != nil || specifier[0] != argon2S2K {
			t.Fatal("no specifier", specifier, err)
		}
		at := bytes.Index(secret, specifier[:argon2Size])
		change(secret[at : at+argon2Size])
	}
	return secret
}

func TestExpensivePassphraseIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(specifier []byte)
		want   string
	}{
		"as it is": {func([]byte) {}, ""},
		"memory":   {func(s []byte) { s[19] = 31 }, "1 GiB"},
		"passes":   {func(s []byte) { s[17] = 255 }, "16 passes"},
		"no harm":  {func(s []byte) { s[19]++ }, "does not unlock"},
	} {
		for _, version6 := range []bool{false, true} {
			r := newRig(t)
			_, err := r.ring.Import(t.Context(), lockArgon2(t, version6, c.change), []byte("right"), []string{alice}, time.Now())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s, version 6 %v: %v", name, version6, err)
			}
		}
	}
}

func FuzzImport(f *testing.F) {
	e, err := kinds[Compatible].generate([]string{alice}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	secret, err := serialize(e)
	if err != nil {
		f.Fatal(err)
	}
	armored, err := armorBlock(openpgp.PrivateKeyType, secret)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(secret)
	f.Add(armored)
	f.Fuzz(func(t *testing.T, data []byte) {
		entities, err := readSecretKeys(data)
		if err != nil {
			return
		}
		for _, e := range entities {
			if unlock(e, nil) != nil {
				continue
			}
			if k, err := importable(e, nil, []string{alice}, time.Now()); err == nil && len(k.sealKey) != 32 {
				t.Error("imported without a seal key")
			}
		}
	})
}

// TestCopiesOfAKeyGrowTogether: a key is changed on two devices; each takes the other's copy and loses nothing of its own.
func TestCopiesOfAKeyGrowTogether(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			first, second := newRig(t), newRig(t)
			k := first.generate(t, p)
			take := func(from, to *rig) {
				t.Helper()
				exported, err := from.ring.Export(k.Fingerprint, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := to.ring.Import(t.Context(), exported, nil, []string{alice}, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			take(first, second)
			for i, r := range []*rig{first, second} {
				if _, err := r.ring.Rotate(t.Context(), "", k.Created.Add(time.Duration(i+1)*time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := second.ring.Maintain(t.Context(), []string{alice, "new@alpha.test"}, time.Now()); err != nil {
				t.Fatal(err)
			}
			messages := [][]byte{encryptAt(t, first.ring, "first", k.Created.Add(time.Hour)), encryptAt(t, second.ring, "second", k.Created.Add(time.Hour))}
			take(first, second)
			take(second, first)
			for name, r := range map[string]*rig{"first": first, "second": second} {
				if n := len(subkeys(t, r.ring)); n != len(kinds[p].encryption)+2 {
					t.Errorf("%s: %d subkeys", name, n)
				}
				if decrypt(t, r.open(t), messages[0]) != "first" || decrypt(t, r.open(t), messages[1]) != "second" {
					t.Errorf("%s cannot read all", name)
				}
				c, err := r.ring.Certificate()
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Check("new@alpha.test", time.Now().Add(time.Hour)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestSubkeyOfAnotherDeviceIsDerived: of a subkey that another device has made only the public part is known here.
func TestSubkeyOfAnotherDeviceIsDerived(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			r := newRig(t)
			k := r.generate(t, p)
			before, err := r.ring.secretCopy(k.Fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.ring.Rotate(t.Context(), "", k.Created.Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			message := encryptAt(t, r.ring, "hello", k.Created.Add(time.Hour))
			published, err := r.ring.Certificate()
			if err != nil {
				t.Fatal(err)
			}
			other := newRig(t)
			if _, err := other.ring.add(t.Context(), before, true); err != nil {
				t.Fatal(err)
			}
			if changed, err := other.ring.Learn(t.Context(), published, time.Now()); err != nil || !changed {
				t.Fatal(changed, err)
			}
			if text := decrypt(t, other.open(t), message); text != "hello" {
				t.Errorf("%q", text)
			}
			if changed, err := other.ring.Learn(t.Context(), published, time.Now()); err != nil || changed {
				t.Error("learnt twice", changed, err)
			}
		})
	}
}
