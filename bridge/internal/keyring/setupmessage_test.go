package keyring

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
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

func FuzzOpenSetup(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP MESSAGE-----\nPassphrase-Format: numeric9x4\nPassphrase-Begin: 12\n\nww0ECQMC\n-----END PGP MESSAGE-----"))
	f.Fuzz(func(t *testing.T, page []byte) {
		if key, err := OpenSetup(page, strings.Repeat("1234-", 9)); err != nil && key != nil {
			t.Error("a key and an error")
		}
	})
}
