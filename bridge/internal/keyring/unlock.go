package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/zalando/go-keyring"
)

// Unlocker is one way to get the vault's passphrase.
type Unlocker interface {
	// Name as in the configuration: keyring, systemd, file, prompt.
	Name() string
	// Passphrase returns it, or ErrUnavailable (wrapped, with the reason) if this way
	// does not exist here, so that the next is tried. The slice is wiped after use.
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
			chain = append(chain, osKeyring{o.StateDir, noBus, patience()})
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

// maxPassphrase bounds what is read from a file, in bytes.
const maxPassphrase = 64 << 10

// passphraseFile reads the passphrase from a file; a line ending at its end does not count.
type passphraseFile struct{ name, path string }

func (p passphraseFile) Name() string { return p.name }

func (p passphraseFile) Passphrase(context.Context) ([]byte, error) {
	if p.path == "" {
		return nil, fmt.Errorf("%w: no file is named", ErrUnavailable)
	}
	f, err := os.Open(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPassphrase+1))
	if err == nil && len(data) > maxPassphrase {
		err = fmt.Errorf("%s is larger than %d bytes; this does not look like a passphrase", p.path, maxPassphrase)
	}
	return bytes.TrimRight(data, "\r\n"), err
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
	passphrase, err := p.ask(ctx)
	return bytes.Clone(passphrase), err // the vault wipes what it gets
}

// osKeyring keeps a random passphrase in the operating system's keyring.
type osKeyring struct {
	user     string
	missing  func() error  // why there is no keyring to ask, if that is known
	patience time.Duration // how long it may take
}

const keyringService = "sealpost"

// patience is how long the keyring may take: where nobody can be asked to unlock it, it must not
// hold up the start; where somebody can, that person is typing a password.
func patience() time.Duration {
	graphical := runtime.GOOS == "darwin" || runtime.GOOS == "windows" || os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	if graphical {
		return time.Minute
	}
	return 2 * time.Second
}

// noBus finds out that there is no session bus before the library does: godbus would start a
// bus of its own (dbus-launch), which then stays behind.
func noBus() error {
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		return nil
	}
	if address := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); address != "" && address != "autolaunch:" {
		return nil
	}
	runtimeDir := os.Getenv("XDG_RUNTIME_DIR")
	if runtimeDir == "" {
		runtimeDir = fmt.Sprintf("/run/user/%d", os.Getuid())
	}
	for _, name := range []string{"bus", "dbus-session"} {
		if _, err := os.Stat(filepath.Join(runtimeDir, name)); err == nil {
			return nil
		}
	}
	return errors.New("there is no session bus")
}

func (k osKeyring) Name() string { return "keyring" }

func (k osKeyring) Passphrase(ctx context.Context) ([]byte, error) {
	return k.ask(ctx, func() ([]byte, error) {
		secret, err := keyring.Get(keyringService, k.user)
		return []byte(secret), err
	})
}

// create makes the passphrase of a new vault and stores it.
func (k osKeyring) create(ctx context.Context) ([]byte, error) {
	return k.ask(ctx, func() ([]byte, error) {
		secret, err := keyring.Get(keyringService, k.user)
		if !errors.Is(err, keyring.ErrNotFound) {
			return []byte(secret), err // a locked keyring may well hold one: nothing is replaced
		}
		random := make([]byte, 32)
		_, _ = rand.Read(random)
		secret = hex.EncodeToString(random)
		return []byte(secret), keyring.Set(keyringService, k.user, secret)
	})
}

// ask turns everything that goes wrong with the keyring into ErrUnavailable.
func (k osKeyring) ask(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	if err := k.missing(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	type answer struct {
		secret []byte
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		secret, err := f()
		done <- answer{secret, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, k.patience)
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
