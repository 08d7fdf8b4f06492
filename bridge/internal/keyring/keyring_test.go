package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest/database"
	"github.com/sealpost/sealpost/bridge/store"
)

// rig is a ring on a database of its own.
type rig struct {
	db    *store.DB
	vault *Vault
	ring  *Ring
}

const alice = "alice@alpha.test"

func newRig(t *testing.T) *rig {
	t.Helper()
	v := &Vault{master: make([]byte, 32)}
	_, _ = rand.Read(v.master)
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r := &rig{db: db, vault: v}
	r.ring = r.open(t)
	return r
}

func (r *rig) open(t *testing.T) *Ring {
	t.Helper()
	ring, err := Open(t.Context(), r.db, r.vault, alice)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func (r *rig) generate(t *testing.T, p Profile) Key {
	t.Helper()
	k, err := r.ring.Generate(t.Context(), p, []string{alice, "a@alpha.test"}, time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEmptyRing(t *testing.T) {
	r := newRig(t)
	for name, f := range map[string]func() error{
		"Certificate": func() error { _, err := r.ring.Certificate(); return err },
		"Signer":      func() error { _, err := r.ring.Signer(); return err },
		"SealKey":     func() error { _, err := r.ring.SealKey(); return err },
		"Export":      func() error { _, err := r.ring.Export("", nil); return err },
	} {
		if err := f(); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), alice) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, _, err := r.ring.Decrypters(); err != nil || len(list) != 0 || len(r.ring.List()) != 0 {
		t.Error(list, err)
	}
}

// A new key works, is what the profile says, and is there after a restart.
func TestGenerate(t *testing.T) {
	for _, p := range profiles {
		t.Run(string(p), func(t *testing.T) {
			r := newRig(t)
			k := r.generate(t, p)
			if !k.Primary || k.Profile != p || !slices.Equal(k.Addresses, []string{"a@alpha.test", alice}) || len(k.Fingerprint) != map[bool]int{false: 40, true: 64}[kinds[p].v6] {
				t.Errorf("%+v", k)
			}
			if years := k.Expires.Sub(k.Created).Hours() / 24 / 365; years != 3 {
				t.Errorf("lasts %v years", years)
			}
			if list := r.open(t).List(); len(list) != 1 || !list[0].Expires.Equal(k.Expires) || list[0].Fingerprint != k.Fingerprint || list[0].Profile != p {
				t.Errorf("after a restart: %+v", list)
			}
			c, err := r.ring.Certificate()
			if err != nil || c.PostQuantum(time.Now()) != (p == PQC || p == PQCV6) {
				t.Error("post-quantum is wrong", err)
			}
			for _, address := range k.Addresses {
				if err := c.Check(address, time.Now()); err != nil {
					t.Error(err)
				}
			}
			algorithms(t, r.ring, p)
			wantSEIPD(t, r.ring, map[bool]int{false: 1, true: 2}[kinds[p].v6])
		})
	}
}

func algorithms(t *testing.T, r *Ring, p Profile) {
	t.Helper()
	e, err := r.Signer()
	if err != nil {
		t.Fatal(err)
	}
	got := []packet.PublicKeyAlgorithm{e.PrimaryKey.PubKeyAlgo}
	for _, s := range e.Subkeys {
		got = append(got, s.PublicKey.PubKeyAlgo)
	}
	want := map[Profile][]packet.PublicKeyAlgorithm{
		Compatible: {packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoECDH},
		V6:         {packet.PubKeyAlgoEd25519, packet.PubKeyAlgoX25519},
		PQC:        {packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoECDH, packet.PubKeyAlgoMlkem768X25519},
		PQCV6:      {packet.PubKeyAlgoMldsa65Ed25519, packet.PubKeyAlgoMlkem768X25519},
	}[p]
	if !slices.Equal(got, want) || e.PrimaryKey.Version != map[bool]int{false: 4, true: 6}[kinds[p].v6] {
		t.Errorf("algorithms %v, want %v", got, want)
	}
	if _, id := e.PrimaryIdentity(time.Now(), nil); id.Name != "<"+alice+">" {
		t.Errorf("the primary user ID is %s", id.Name)
	}
}

// wantSEIPD: gpg 2.2 cannot read anything newer than version 1, and version 6 keys ask for version 2.
func wantSEIPD(t *testing.T, r *Ring, want int) {
	t.Helper()
	message := encrypt(t, r, "hello")
	reader := packet.NewReader(bytes.NewReader(message))
	for {
		p, err := reader.Next()
		if err != nil {
			t.Fatal("no encrypted data:", err)
		}
		if data, ok := p.(*packet.SymmetricallyEncrypted); ok {
			if data.Version != want {
				t.Errorf("SEIPD version %d", data.Version)
			}
			break
		}
	}
	if got := decrypt(t, r, message); got != "hello" {
		t.Errorf("decrypted %q", got)
	}
}

func encrypt(t *testing.T, r *Ring, text string) []byte {
	t.Helper()
	return encryptAt(t, r, text, time.Now())
}

func encryptAt(t *testing.T, r *Ring, text string, at time.Time) []byte {
	t.Helper()
	c, err := r.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	to, err := c.Entity()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := r.Signer()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := openpgp.Encrypt(&b, []*openpgp.Entity{to}, nil, []*openpgp.Entity{signer}, nil,
		&packet.Config{AEADConfig: &packet.AEADConfig{}, Time: func() time.Time { return at }})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decrypt(t *testing.T, r *Ring, message []byte) string {
	t.Helper()
	keys, _, err := r.Decrypters()
	if err != nil {
		t.Fatal(err)
	}
	md, err := openpgp.ReadMessage(bytes.NewReader(message), keys, nil, &packet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(md.UnverifiedBody)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestGenerateRefuses(t *testing.T) {
	r := newRig(t)
	for name, f := range map[string]func() (Key, error){
		"unknown profile": func() (Key, error) { return r.ring.Generate(t.Context(), "v3", []string{alice}, time.Now(), false) },
		"no address":      func() (Key, error) { return r.ring.Generate(t.Context(), Compatible, nil, time.Now(), false) },
		"bad address": func() (Key, error) {
			return r.ring.Generate(t.Context(), Compatible, []string{"<a>"}, time.Now(), false)
		},
	} {
		if k, err := f(); err == nil {
			t.Errorf("%s: %+v", name, k)
		}
	}
	if len(r.ring.List()) != 0 {
		t.Error("a key was made")
	}
}

// Keys rest sealed; rows cannot be exchanged, and another vault opens nothing.
func TestKeysAtRest(t *testing.T) {
	r := newRig(t)
	r.generate(t, Compatible)
	r.generate(t, Compatible)
	r.ring.mu.RLock()
	secret := bytes.Clone(r.ring.keys[0].secret)
	r.ring.mu.RUnlock()
	var sealed []byte
	if err := r.db.Read().QueryRow(`SELECT sealed FROM own_key LIMIT 1`).Scan(&sealed); err != nil || bytes.Contains(sealed, secret[8:24]) {
		t.Error("a key rests unsealed", err)
	}
	if _, err := Open(t.Context(), r.db, &Vault{master: make([]byte, 32)}, alice); err == nil {
		t.Error("another vault opened it")
	}
	err := r.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE own_key SET sealed = (SELECT sealed FROM own_key b WHERE b.fingerprint <> own_key.fingerprint)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), r.db, r.vault, alice); err == nil {
		t.Error("exchanged keys were opened")
	}
}

func TestAccountsAreApart(t *testing.T) {
	r := newRig(t)
	r.generate(t, Compatible)
	bob, err := Open(t.Context(), r.db, r.vault, "bob@alpha.test")
	if err != nil || len(bob.List()) != 0 {
		t.Fatal(err)
	}
	if same, err := Open(t.Context(), r.db, r.vault, "ALICE@alpha.test"); err != nil || len(same.List()) != 1 {
		t.Error("the case of the address matters", err)
	}
}

func TestConcurrentUseAndClose(t *testing.T) {
	r := newRig(t)
	r.generate(t, Compatible)
	message := encrypt(t, r.ring, "hello")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				_ = encrypt(t, r.ring, "hello")
				if got := decrypt(t, r.ring, message); got != "hello" {
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := r.ring.Signer()
				if err != nil && !errors.Is(err, ErrNoKey) {
					t.Error(err)
				}
			}
		})
	}
	r.ring.Close()
	cancel()
	wg.Wait()
	if _, err := r.ring.Signer(); !errors.Is(err, ErrNoKey) || len(r.ring.List()) != 0 {
		t.Error("a closed ring has keys", err)
	}
}

func TestSecrets(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	s := NewSecrets(r.db, r.vault)
	if _, err := s.Get(ctx, "x"); !errors.Is(err, ErrNoSecret) {
		t.Error(err)
	}
	if value, err := s.Lookup(ctx, "x"); value != nil || err != nil {
		t.Error(value, err)
	}
	for _, value := range []string{"first", "second", ""} {
		if err := s.Set(ctx, "x", []byte(value)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get(ctx, "x"); err != nil || string(got) != value {
			t.Errorf("%q %v", got, err)
		}
	}
	if err := errors.Join(s.Set(ctx, "y", []byte("of y")), s.Delete(ctx, "x"), s.Delete(ctx, "never")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "x"); !errors.Is(err, ErrNoSecret) {
		t.Error("not deleted", err)
	}
	_ = r.db.Write(ctx, func(tx *sql.Tx) error { _, err := tx.Exec(`UPDATE secret SET name = 'z'`); return err })
	if _, err := s.Lookup(ctx, "z"); err == nil || errors.Is(err, ErrNoSecret) || strings.Contains(err.Error(), "of y") {
		t.Error("a secret under another's name:", err)
	}
}
