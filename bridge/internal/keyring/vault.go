package keyring

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// Errors of OpenVault and CreateVault. "Locked" and "damaged" are different things,
// and neither ever leads to anything being deleted or replaced.
var (
	ErrLocked  = errors.New("the vault cannot be unlocked")
	ErrDamaged = errors.New("the vault file is damaged")
	ErrNoVault = errors.New("there is no vault yet")
	ErrExists  = errors.New("there is a vault already")
)

// vaultFile is the file in the state folder.
const vaultFile = "vault.json"

// Cost of one guess at the passphrase (RFC 9106 §4, second recommended option), and what is
// accepted from a file: a forged one must not eat the memory.
const (
	argonTime      = 3
	argonMemory    = 64 << 10 // KiB
	maxArgonTime   = 16
	maxArgonMemory = 1 << 20 // KiB
)

// Vault is the unlocked vault. Its master key lives in memory only; Close wipes it.
type Vault struct{ master []byte }

// sealedVault is the file: the master key wrapped under the passphrase.
type sealedVault struct {
	Version int    `json:"version"`
	KDF     string `json:"kdf"`
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memory_kib"`
	Salt    []byte `json:"salt"`
	Wrapped []byte `json:"wrapped"` // XChaCha20-Poly1305: nonce, ciphertext
	Check   string `json:"check"`   // SHA-256 over the rest: a damaged file is not a wrong passphrase
}

// CreateVault writes a new vault file in dir, wrapped under a passphrase of the first
// unlocker that can provide (or, for the OS keyring, store) one. It never overwrites.
func CreateVault(ctx context.Context, dir string, chain []Unlocker) (*Vault, error) {
	path := filepath.Join(dir, vaultFile)
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	passphrase, err := newPassphrase(ctx, chain)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	v := &Vault{master: make([]byte, 32)}
	_, _ = rand.Read(v.master)
	f := &sealedVault{Version: 1, KDF: "argon2id", Time: argonTime, Memory: argonMemory, Salt: make([]byte, 16)}
	_, _ = rand.Read(f.Salt)
	if f.Wrapped, err = wrap(f.key(passphrase), v.master, "sealpost vault"); err != nil {
		return nil, err
	}
	f.Check = f.checksum()
	return v, f.write(path)
}

// newPassphrase asks the chain for the passphrase of a vault that is being made.
func newPassphrase(ctx context.Context, chain []Unlocker) ([]byte, error) {
	var tried []error
	for _, u := range chain {
		passphrase, err := provide(ctx, u)
		if err == nil && len(passphrase) == 0 {
			err = errors.New("the passphrase is empty")
		}
		if err == nil {
			return passphrase, nil
		}
		tried = append(tried, fmt.Errorf("%s: %w", u.Name(), err))
		if !errors.Is(err, ErrUnavailable) {
			break
		}
	}
	return nil, fmt.Errorf("%w: no passphrase for a new one: %w", ErrLocked, oneLine(tried))
}

func provide(ctx context.Context, u Unlocker) ([]byte, error) {
	if keeper, ok := u.(interface {
		create(ctx context.Context) ([]byte, error)
	}); ok {
		return keeper.create(ctx)
	}
	return u.Passphrase(ctx)
}

// OpenVault unlocks the vault in dir with the first passphrase of the chain that fits.
// The error names each way tried and why it failed, and unwraps to ErrLocked,
// ErrDamaged or ErrNoVault.
func OpenVault(ctx context.Context, dir string, chain []Unlocker) (*Vault, error) {
	path := filepath.Join(dir, vaultFile)
	f, err := readVault(path)
	if err != nil {
		return nil, err
	}
	var tried []error
	for _, u := range chain {
		passphrase, err := u.Passphrase(ctx)
		if err == nil {
			master, wrong := unwrap(f.key(passphrase), f.Wrapped, "sealpost vault")
			clear(passphrase)
			if wrong == nil {
				return &Vault{master: master}, nil
			}
			err = errors.New("the passphrase does not fit")
		}
		tried = append(tried, fmt.Errorf("%s: %w", u.Name(), err))
	}
	return nil, fmt.Errorf("%s: %w: %w", path, ErrLocked, oneLine(tried))
}

// oneLine joins errors with semicolons: a refusal is one line.
func oneLine(errs []error) error {
	text := ""
	for i, err := range errs {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	return errors.New(text)
}

func readVault(path string) (*sealedVault, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNoVault)
	}
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return parseVault(path, data)
}

func parseVault(path string, data []byte) (*sealedVault, error) {
	var f sealedVault
	err := json.Unmarshal(data, &f)
	if err == nil && f.Version > 1 {
		return nil, fmt.Errorf("%s: %w: a newer version of Sealpost has made it; use that version", path, ErrLocked)
	}
	if err != nil || f.Check != f.checksum() {
		return nil, fmt.Errorf("%s: %w", path, ErrDamaged)
	}
	if f.Version != 1 || f.KDF != "argon2id" || f.Time == 0 || f.Time > maxArgonTime || f.Memory > maxArgonMemory {
		return nil, fmt.Errorf("%s: %w: it asks for a key derivation this version does not do", path, ErrDamaged)
	}
	return &f, nil
}

// key derives the wrapping key. What Argon2 needs is given back at once: it is a good part of what
// the program may use.
func (f *sealedVault) key(passphrase []byte) []byte {
	defer debug.FreeOSMemory()
	return argon2.IDKey(passphrase, f.Salt, f.Time, f.Memory, 1, chacha20poly1305.KeySize)
}

func (f *sealedVault) checksum() string {
	unchecked := *f
	unchecked.Check = ""
	data, err := json.Marshal(unchecked)
	if err != nil {
		return "" // cannot happen: plain fields
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// write makes the file, durable before it appears, and never over another.
func (f *sealedVault) write(path string) error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "vault-*")
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(data)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = appear(temporary.Name(), path)
	}
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	return nil
}

// appear gives a finished file its name, durably. Unlike a rename, a link fails if the name is
// taken; some file systems have no links.
func appear(temporary, path string) error {
	err := os.Link(temporary, path)
	if err != nil && !errors.Is(err, os.ErrExist) {
		if _, taken := os.Lstat(path); taken == nil {
			return os.ErrExist
		}
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Close wipes the master key. The vault must not be used afterwards.
func (v *Vault) Close() { clear(v.master) }

// DatabaseKey is the 32-byte key for store.Open.
func (v *Vault) DatabaseKey() []byte { return v.derive("database") }

// GatewayID names the installation in trace fields: the same at all gateways that share the vault, and nobody else's.
func (v *Vault) GatewayID() string { return hex.EncodeToString(v.derive("gateway-id")[:8]) }

// derive makes a key for one purpose from the master key (RFC 5869).
func (v *Vault) derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, v.master, nil, "sealpost "+purpose, 32)
	if err != nil {
		panic(err) // the length is a constant that HKDF allows
	}
	return key
}

// Seal and Unseal wrap a small secret for the database (XChaCha20-Poly1305; name is
// authenticated with it, so that two secrets cannot be exchanged).
func (v *Vault) Seal(name string, plaintext []byte) ([]byte, error) {
	return wrap(v.derive("secrets"), plaintext, name)
}

// Unseal is the inverse of Seal.
func (v *Vault) Unseal(name string, ciphertext []byte) ([]byte, error) {
	return unwrap(v.derive("secrets"), ciphertext, name)
}

func wrap(key, plaintext []byte, name string) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plaintext)+aead.Overhead())
	_, _ = rand.Read(nonce) // 24 random bytes never repeat
	return aead.Seal(nonce, nonce, plaintext, []byte(name)), nil
}

func unwrap(key, ciphertext []byte, name string) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	if len(ciphertext) < aead.NonceSize() {
		return nil, errors.New("secret is truncated")
	}
	return aead.Open(nil, ciphertext[:aead.NonceSize()], ciphertext[aead.NonceSize():], []byte(name))
}
