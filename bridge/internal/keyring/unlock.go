package keyring

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zalando/go-keyring"
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
func Chain(o UnlockOptions) ([]Unlocker, error) {
	var chain []Unlocker
	for _, method := range o.Methods {
		switch method {
		case "keyring":
			chain = append(chain, osKeyring{user: o.StateDir})
		case "systemd":
			chain = append(chain, passphraseFile{"systemd", credentialPath()})
		case "file":
			chain = append(chain, passphraseFile{"file", o.PassphraseFile})
		case "prompt":
			chain = append(chain, prompt{o.Prompt})
		default:
			return nil, fmt.Errorf("unlock method %q is not known; use keyring, systemd, file or prompt", method)
		}
	}
	return chain, nil
}

// credentialPath is where systemd puts LoadCredential=sealpost-passphrase:… (systemd.exec(5)).
func credentialPath() string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "sealpost-passphrase")
}

// passphraseFile reads the passphrase from a file; a line ending at its end does not count.
type passphraseFile struct{ name, path string }

func (p passphraseFile) Name() string { return p.name }

func (p passphraseFile) Passphrase(context.Context) ([]byte, error) {
	if p.path == "" {
		return nil, fmt.Errorf("%w: no file is named", ErrUnavailable)
	}
	data, err := os.ReadFile(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return []byte(strings.TrimRight(string(data), "\r\n")), err
}

// prompt asks a person.
type prompt struct {
	ask func(ctx context.Context) ([]byte, error)
}

func (p prompt) Name() string { return "prompt" }

func (p prompt) Passphrase(ctx context.Context) ([]byte, error) {
	if p.ask == nil {
		return nil, fmt.Errorf("%w: there is no terminal", ErrUnavailable)
	}
	return p.ask(ctx)
}

// osKeyring keeps a random passphrase in the operating system's keyring.
type osKeyring struct{ user string }

const keyringService = "sealpost"

// keyringPatience is how long the keyring may take: on a server its bus may never answer.
const keyringPatience = 2 * time.Second

func (k osKeyring) Name() string { return "keyring" }

func (k osKeyring) Passphrase(ctx context.Context) ([]byte, error) {
	return withPatience(ctx, func() ([]byte, error) {
		secret, err := keyring.Get(keyringService, k.user)
		return []byte(secret), err
	})
}

// create makes the passphrase of a new vault and stores it.
func (k osKeyring) create(ctx context.Context) ([]byte, error) {
	return withPatience(ctx, func() ([]byte, error) {
		if secret, err := keyring.Get(keyringService, k.user); err == nil {
			return []byte(secret), nil
		}
		random := make([]byte, 32)
		_, _ = rand.Read(random)
		secret := hex.EncodeToString(random)
		return []byte(secret), keyring.Set(keyringService, k.user, secret)
	})
}

// withPatience turns everything that goes wrong with the keyring into ErrUnavailable.
func withPatience(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		secret []byte
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		secret, err := f()
		done <- answer{secret, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, keyringPatience)
	defer cancel()
	select {
	case a := <-done:
		if a.err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, a.err)
		}
		return a.secret, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: it does not answer", ErrUnavailable)
	}
}
