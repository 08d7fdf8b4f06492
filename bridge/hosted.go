package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/sync/singleflight"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
)

const (
	// maxRings bounds the keys in memory: a company may have 100,000 users, of whom a few write at a time.
	maxRings = 2000
	// ringLasts is how soon a gateway sees what another one, or a command beside it, has done to a user's keys.
	ringLasts = time.Minute
)

// ErrNotHosted says that an address is in none of the gateway's domains.
var ErrNotHosted = errors.New("the gateway does not host this address")

// hosted are the keys of the gateway's users, or of devices, each wrapped by the vault's master key. A user's first key is made when he first
// sends: nobody else can have one made. Safe for concurrent use.
type hosted struct {
	bridge  *Bridge
	rings   *expirable.LRU[string, openRing]
	kept    *expirable.LRU[string, string] // what the database held when a ring was maintained last, see keyring.Stamp
	opening singleflight.Group
}

// openRing is a ring and what the database held when it was read, see keyring.Stamp.
type openRing struct {
	*keyring.Ring
	stamp string
}

func newHosted(b *Bridge) *hosted {
	return &hosted{
		bridge: b, rings: expirable.NewLRU[string, openRing](maxRings, nil, ringLasts),
		kept: expirable.NewLRU[string, string](maxRings, nil, ringLasts),
	}
}

// ring of a user; it may be empty. Then it is not kept in memory: another gateway may make his first key at any moment.
func (h *hosted) ring(ctx context.Context, address string) (*keyring.Ring, error) {
	address = normalized(address)
	if r, ok := h.rings.Get(address); ok {
		return r.Ring, nil
	}
	r, err, _ := h.opening.Do(address, func() (any, error) { return h.open(context.WithoutCancel(ctx), address) })
	if err != nil {
		return nil, err
	}
	return r.(*keyring.Ring), nil
}

func (h *hosted) open(ctx context.Context, address string) (*keyring.Ring, error) {
	stamp, err := keyring.Stamp(ctx, h.bridge.db, address)
	if err != nil {
		return nil, err
	}
	r, err := keyring.Open(ctx, h.bridge.db, h.bridge.vault, address)
	if err == nil && len(r.List()) > 0 {
		h.rings.Add(address, openRing{r, stamp})
	}
	return r, err
}

// latest is the ring as the database has it now, for what is opened only once: the sender may have a key that another gateway has just made.
func (h *hosted) latest(ctx context.Context, address string) (*keyring.Ring, error) {
	address = normalized(address)
	stamp, err := keyring.Stamp(ctx, h.bridge.db, address)
	if err != nil {
		return nil, err
	}
	if r, ok := h.rings.Get(address); ok && r.stamp != stamp {
		h.rings.Remove(address)
	}
	return h.ring(ctx, address)
}

// sending is the ring of a user who sends, with a key in it.
func (h *hosted) sending(ctx context.Context, address string) (*keyring.Ring, error) {
	address = normalized(address)
	ring, err := h.ring(ctx, address)
	if err != nil {
		return nil, err
	}
	if len(ring.List()) > 0 {
		return ring, h.maintain(ctx, ring, address)
	}
	_, err, _ = h.opening.Do("first "+address, func() (any, error) {
		return nil, h.first(context.WithoutCancel(ctx), ring, address)
	})
	if err != nil {
		return nil, err
	}
	return h.ring(ctx, address) // another caller's may have been the one that was filled
}

// maintain looks after the keys of a ring once in a while, and at once if the database holds something else than then: what
// somebody has revoked signs nothing any more.
func (h *hosted) maintain(ctx context.Context, ring *keyring.Ring, address string) error {
	stamp, err := keyring.Stamp(ctx, h.bridge.db, address)
	if err != nil {
		return err
	}
	if known, ok := h.kept.Get(address); ok && known == stamp {
		return nil
	}
	if _, err = ring.Maintain(ctx, namesOf(address), h.bridge.now()); err == nil {
		h.kept.Add(address, stamp)
	}
	return err
}

// first makes a user's first key; if another gateway was faster, its key is taken.
func (h *hosted) first(ctx context.Context, ring *keyring.Ring, address string) error {
	if len(ring.List()) > 0 {
		return nil
	}
	made, err := ring.GenerateFirst(ctx, keyring.Compatible, namesOf(address), h.bridge.now())
	if err != nil || !made {
		return err
	}
	certificate, err := ring.Certificate()
	if err != nil {
		return err
	}
	if err := h.enrol(ctx, address); err != nil {
		return err
	}
	return h.bridge.audit.Append(ctx, audit.Entry{
		Time: h.bridge.now(), Account: address, Event: "key", Fingerprint: string(certificate.Fingerprint()), Detail: "generated at first use",
	})
}

// User is the owner of a hosted address's keys. ErrNotHosted if the address is in none of the gateway's domains.
func (g *Gateway) User(ctx context.Context, address string) (*Owner, error) {
	if !g.Hosts(address) {
		return nil, fmt.Errorf("%s: %w", address, ErrNotHosted)
	}
	return g.users.owner(ctx, address)
}

func (h *hosted) owner(ctx context.Context, address string) (*Owner, error) {
	ring, err := h.ring(ctx, address)
	if err != nil {
		return nil, err
	}
	enrol := func(ctx context.Context) error { return h.enrol(ctx, address) }
	return &Owner{home: h.bridge, ring: ring, address: normalized(address), names: namesOf(address), changed: enrol}, nil
}

// lend adds the keys of some to those that open a message, until giveBack, which is never nil.
func (h *hosted) lend(ctx context.Context, keys *pgpmime.Keys, owners ...string) (giveBack func(), err error) {
	var lent []func()
	giveBack = func() {
		for _, done := range lent {
			done()
		}
	}
	for _, owner := range owners {
		ring, err := h.latest(ctx, owner)
		if err != nil {
			return giveBack, err
		}
		more, done, err := ring.Decrypters()
		if err != nil {
			return giveBack, err
		}
		keys.Decrypters, lent = append(keys.Decrypters, more...), append(lent, done)
	}
	return giveBack, nil
}

// Users are the addresses that have keys here.
func (g *Gateway) Users(ctx context.Context) ([]string, error) {
	all, err := keyring.Accounts(ctx, g.bridge.db)
	return slices.DeleteFunc(all, func(address string) bool { return !g.Hosts(address) }), err
}

// lookup is the certificate of a user, for mail to him.
func (h *hosted) lookup(ctx context.Context, address string) contacts.Lookup {
	all, err := h.certificates(ctx, address)
	switch {
	case errors.Is(err, ErrNoKey):
		return contacts.Lookup{Usable: contacts.ErrNone, Conclusive: true}
	case err != nil:
		return contacts.Lookup{Usable: contacts.ErrNone, Cause: err}
	}
	return contacts.Lookup{Contact: ownContact(address, all[0]), Usable: checkOwn(all[0], h.bridge.now()), Conclusive: true}
}

// contacts are those with whose certificates a signature by a user may be checked: past keys', too.
func (h *hosted) contacts(ctx context.Context, address string) (all []contacts.Contact) {
	ring, err := h.ring(ctx, address)
	if err != nil {
		h.bridge.log.Warn("the keys of a user could not be read", "address", address, "cause", err)
		return nil
	}
	for _, c := range ring.Certificates() {
		all = append(all, ownContact(address, c))
	}
	if c, _, err := h.submitted(ctx, address); err == nil && c != nil {
		all = append(all, ownContact(address, c))
	}
	return all
}
