package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

func TestSetupCarriesAKey(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			first, second := newRig(t), newRig(t)
			k := first.generate(t, p)
			message := encrypt(t, first.ring, "hello")
			page, code, err := first.ring.Setup("", time.Now())
			if err != nil || !IsSetup(page) || bytes.Contains(page, []byte(code)) || bytes.Contains(page, []byte("PRIVATE KEY")) {
				t.Fatal(err)
			}
			typed := strings.ReplaceAll(string(code), "-", " ") + "\n"
			key, err := OpenSetup(page, typed)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(key, []byte("\nAutocrypt-Prefer-Encrypt: mutual\n")) {
				t.Error("the preference is missing")
			}
			taken, err := second.ring.Import(t.Context(), key, nil, []string{alice}, time.Now())
			if err != nil || taken[0].Fingerprint != k.Fingerprint || taken[0].Profile != p {
				t.Fatalf("%+v, %v", taken, err)
			}
			if decrypt(t, second.ring, message) != "hello" {
				t.Error("the copy does not open mail")
			}
		})
	}
}

func TestBadSetups(t *testing.T) {
	r := newRig(t)
	r.generate(t, Compatible)
	page, code, err := r.ring.Setup("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := newSetupCode()
	if err != nil || other == code {
		t.Fatal(err)
	}
	cut := bytes.Replace(page, page[len(page)/2:len(page)/2+50], nil, 1)
	for name, c := range map[string]struct {
		page []byte
		code string
		want error
	}{
		"another code":   {page, string(other), ErrSetupCode},
		"damaged":        {cut, string(code), nil},
		"short code":     {page, string(code[:20]), nil},
		"letters":        {page, strings.Repeat("abcd-", 9), nil},
		"nothing":        {nil, string(code), ErrNoSetup},
		"something else": {[]byte("-----BEGIN PGP MESSAGE-----\n\nabcd\n-----END PGP MESSAGE-----"), string(code), ErrNoSetup},
	} {
		if key, err := OpenSetup(c.page, c.code); err == nil || key != nil || c.want != nil && !errors.Is(err, c.want) ||
			len(c.code) > 4 && strings.Contains(err.Error(), c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExampleOfAutocrypt opens what we did not write.
func TestExampleOfAutocrypt(t *testing.T) {
	message, err := os.ReadFile("testdata/setup/autocrypt-1.1.eml")
	if err != nil {
		t.Fatal(err)
	}
	key, err := OpenSetup(message, "1742-0185-6197-1303-7016-8412-3581-4441-0597")
	if err != nil {
		t.Fatal(err)
	}
	entities, err := readSecretKeys(key)
	if err != nil || len(entities) != 1 || fmt.Sprintf("%X", entities[0].PrimaryKey.Fingerprint) != "EB85BB5FA33A75E15E944E63F231550C4F47E38E" || entities[0].PrivateKey == nil {
		t.Error(entities, err)
	}
	if _, err := OpenSetup(message, strings.Repeat("1742-", 8)+"1742"); !errors.Is(err, ErrSetupCode) {
		t.Errorf("another code: %v", err)
	}
}

// TestSetupsThatNeedNoCode: the code is all that says who made the key, so what opens without it, or may have been changed since,
// is refused; so is what costs more to try than we have.
func TestSetupsThatNeedNoCode(t *testing.T) {
	code := strings.Repeat("1234-", 8) + "1234"
	locked := func(c *packet.Config, text []byte) []byte {
		var b bytes.Buffer
		w, err := openpgp.SymmetricallyEncrypt(&b, []byte(code), nil, c)
		if err == nil {
			_, err = w.Write(text)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	plain := append([]byte{0xcb, 10, 'b', 0, 0, 0, 0, 0}, "key!"...) // literal data (RFC 9580 §5.9)
	argon2 := func(c *s2k.Argon2Config) *packet.Config {
		return &packet.Config{DefaultCipher: packet.CipherAES128, S2KConfig: &s2k.Config{S2KMode: s2k.Argon2S2K, Argon2Config: c}}
	}
	cheap := locked(argon2(&s2k.Argon2Config{NumberOfPasses: 1, DegreeOfParallelism: 1, Memory: 64}), []byte("key!"))
	dear := bytes.Clone(cheap)
	dear[2+2+1+16+2] = 31 // header, version and cipher, type, salt, passes and parallelism
	modern := argon2(&s2k.Argon2Config{NumberOfPasses: 1, DegreeOfParallelism: 1, Memory: 64})
	modern.AEADConfig = &packet.AEADConfig{}
	cheap6 := locked(modern, []byte("key!"))
	dear6 := bytes.Clone(cheap6)
	dear6[2+5+1+16] = 255 // the passes, after version, count, cipher, mode and length
	zip := &packet.Config{DefaultCompressionAlgo: packet.CompressionZLIB, CompressionConfig: &packet.CompressionConfig{Level: 9}}
	usual := locked(&packet.Config{}, []byte("key!"))
	for name, c := range map[string]struct {
		packets []byte
		opens   bool
	}{
		"as usual":                 {usual, true},
		"by Argon2":                {cheap, true},
		"Argon2 with 2 TiB":        {dear, false},
		"version 6":                {cheap6, true},
		"255 passes in version 6":  {dear6, false},
		"in clear":                 {plain, false},
		"nothing":                  {nil, false},
		"tag 9":                    {append(bytes.Clone(usual[:usual[1]+2]), 0xc9, 4, 1, 2, 3, 4), false},
		"two ways in":              {append(bytes.Clone(usual[:usual[1]+2]), usual...), false},
		"no way in":                {usual[usual[1]+2:], false},
		"longer than is looked at": {locked(zip, make([]byte, maxImport+1)), false},
	} {
		var page bytes.Buffer
		w, err := armor.Encode(&page, "PGP MESSAGE", map[string]string{"Passphrase-Format": "numeric9x4"})
		if err == nil {
			_, err = w.Write(c.packets)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		key, err := OpenSetup(page.Bytes(), code)
		if !c.opens && !errors.Is(err, ErrNoSetup) && !errors.Is(err, ErrSetupCode) {
			t.Errorf("%s: %v", name, err)
		}
		if (err == nil) != c.opens || c.opens != (string(key) == "key!") {
			t.Errorf("%s: %.20q, %v", name, key, err)
		}
	}
}

func FuzzOpenSetup(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP MESSAGE-----\nPassphrase-Format: numeric9x4\nPassphrase-Begin: 12\n\nww0ECQMC\n-----END PGP MESSAGE-----"))
	f.Fuzz(func(t *testing.T, page []byte) {
		if key, err := OpenSetup(page, strings.Repeat("1234-", 9)); err != nil && key != nil {
			t.Error("a key and an error")
		}
	})
}
