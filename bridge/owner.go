package bridge

import (
	"context"
	"slices"

	"github.com/sealpost/sealpost/bridge/internal/keyring"
)

// Owner is somebody whose keys are here: the user of an account, or a user of the gateway. Safe for concurrent use.
type Owner struct {
	home     *Bridge
	ring     *keyring.Ring
	address  string                      // names him in the database and in the log of decisions
	names    []string                    // in user IDs, normalised
	imported func(context.Context) error // nil, or: a key was added, which may open mail that could not be opened
	changed  func(context.Context) error // a key was made or changed
}

// Address of the owner.
func (o *Owner) Address() string { return o.address }

// Addresses are the owner's address and aliases, normalised.
func (o *Owner) Addresses() []string { return slices.Clone(o.names) }

// Owns says whether an address is one of the owner's.
func (o *Owner) Owns(address string) bool {
	return slices.Contains(o.names, normalized(address))
}
