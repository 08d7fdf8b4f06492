package keyring

import (
	"context"
	"errors"
)

// Errors of OpenVault and CreateVault. "Locked" and "damaged" are different things,
// and neither ever leads to anything being deleted or replaced.
var (
	ErrLocked  = errors.New("the vault cannot be unlocked")
	ErrDamaged = errors.New("the vault file is damaged")
	ErrNoVault = errors.New("there is no vault yet")
	ErrExists  = errors.New("there is a vault already")
)

// Unlocker is one way to get the vault's passphrase.
type Unlocker interface {
	// Name as in the configuration: keyring, systemd, file, prompt.
	Name() string
	// Passphrase returns it, or ErrUnavailable (wrapped, with the reason) if this way
	// does not exist here, so that the next is tried.
	Passphrase(ctx context.Context) ([]byte, error)
}

// ErrUnavailable says that an Unlocker has nothing to offer on this machine.
var ErrUnavailable = errors.New("not available here")

// UnlockOptions configure Chain.
type UnlockOptions struct {
	Methods        []string // keyring, systemd, file, prompt, in this order
	StateDir       string   // names the entry in the operating system's keyring
	PassphraseFile string
	Prompt         func(ctx context.Context) ([]byte, error) // nil: no terminal
}

// Chain makes the unlockers in the order of the configuration.
func Chain(o UnlockOptions) ([]Unlocker, error) { panic("stub") }

// Vault is the unlocked vault. Its master key lives in memory only.
type Vault struct{}

// CreateVault writes a new vault file in dir, wrapped under a passphrase of the first
// unlocker that can provide (or, for the OS keyring, store) one. It never overwrites.
func CreateVault(ctx context.Context, dir string, chain []Unlocker) (*Vault, error) { panic("stub") }

// OpenVault unlocks the vault in dir with the first passphrase of the chain that fits.
// The error names each way tried and why it failed, and unwraps to ErrLocked,
// ErrDamaged or ErrNoVault.
func OpenVault(ctx context.Context, dir string, chain []Unlocker) (*Vault, error) { panic("stub") }

// DatabaseKey is the 32-byte key for store.Open.
func (v *Vault) DatabaseKey() []byte { panic("stub") }

// Seal and Unseal wrap a small secret for the database (XChaCha20-Poly1305; name is
// authenticated with it, so that two secrets cannot be exchanged).
func (v *Vault) Seal(name string, plaintext []byte) ([]byte, error)    { panic("stub") }
func (v *Vault) Unseal(name string, ciphertext []byte) ([]byte, error) { panic("stub") }

// Secrets keeps named small secrets (provider and local passwords, tokens, TLS keys) in
// the database, sealed.
type Secrets struct{}
