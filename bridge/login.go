package bridge

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sealpost/sealpost/bridge/internal/keyring"
)

// logins slows down guessing: after a burst each account's failed logins are answered one
// per second.
type logins struct {
	mu     sync.Mutex
	limits map[string]*rate.Limiter
}

func (l *logins) limiter(username string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limits == nil {
		l.limits = map[string]*rate.Limiter{}
	}
	if l.limits[username] == nil {
		l.limits[username] = rate.NewLimiter(rate.Every(time.Second), 5)
	}
	return l.limits[username]
}

// Login checks a client's credentials for IMAP or submission: an account's address (or
// alias) and the local password made for it. It compares in constant time and slows down
// guessing; the error is ErrCredentials, or says why no password could be read.
func (b *Bridge) Login(ctx context.Context, username, password string) (*Account, error) {
	a, known := b.Account(username)
	name := ""
	var want string
	if known {
		name = a.Address()
		var err error
		if want, err = a.LocalPassword(ctx); err != nil {
			return nil, err
		}
	}
	if subtle.ConstantTimeCompare([]byte(password), []byte(want)) == 1 && known {
		return a, nil
	}
	if err := b.logins.limiter(name).Wait(ctx); err != nil {
		return nil, err
	}
	b.log.Warn("login refused", "known_account", known)
	return nil, ErrCredentials
}

// LocalPassword is what the mail client uses towards Sealpost; made on first use. It is not
// the provider's.
func (a *Account) LocalPassword(ctx context.Context) (string, error) {
	name := localPassword(a.Address())
	password, err := a.bridge.secrets.Get(ctx, name)
	if err == nil {
		return string(password), nil
	}
	if !errors.Is(err, keyring.ErrNoSecret) {
		return "", fmt.Errorf("local password of %s: %w", a.Address(), err)
	}
	var random [15]byte
	_, _ = rand.Read(random[:])
	made := strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
	return made, a.bridge.secrets.Set(ctx, name, []byte(made))
}

// SetProviderPassword keeps the password for the provider in the vault.
func (b *Bridge) SetProviderPassword(ctx context.Context, address, password string) error {
	return b.secrets.Set(ctx, providerPassword(address), []byte(password))
}

func (b *Bridge) password(ctx context.Context, name string) (string, error) {
	secret, err := b.secrets.Get(ctx, name)
	if errors.Is(err, keyring.ErrNoSecret) {
		return "", errors.New("no password for the provider is stored; run sealpost init with --password-file")
	}
	return string(secret), err
}
