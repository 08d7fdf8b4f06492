package smtpd

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge"
)

// fakeRelay gives the message to a fake account and refuses late@ afterwards and elsewhere@ beforehand.
type fakeRelay struct {
	*fake
	bare, unreachable bool // of what comes next
	untrusted         bool // the MTA
}

func (f *fakeRelay) Relay(ctx context.Context, e bridge.Envelope, message io.Reader, apart bool) (bridge.Refusals, error) {
	if err := f.Submit(ctx, e, message); err != nil {
		return nil, err
	}
	refused := bridge.Refusals{}
	for _, to := range e.To {
		if strings.HasPrefix(to, "late@") && apart {
			refused[to] = &bridge.Refusal{Reason: bridge.ReasonProvider, Code: 452, Enhanced: [3]int{4, 2, 2}, Text: "mailbox full"}
		}
	}
	return refused, nil
}

func (f *fakeRelay) CheckRecipient(address string) error {
	if strings.HasPrefix(address, "elsewhere@") {
		return &bridge.Refusal{Reason: bridge.ReasonRelay, Text: "relaying denied"}
	}
	return nil
}

func (f *fakeRelay) Offers(_ context.Context, extension string) (bool, error) {
	if f.unreachable {
		return false, errors.New("connection refused")
	}
	return !f.bare || extension == "8BITMIME", nil
}

func (f *fakeRelay) Trusts(netip.Addr) bool { return !f.untrusted }

// startRelay starts the listener of a gateway: lmtp; untrusted: the client is; bare, unreachable: what comes next is.
func startRelay(t *testing.T, words []string) *rig {
	return startWith(t, func(o *Options, f *fake) {
		has := func(word string) bool { return slices.Contains(words, word) }
		o.LMTP, o.Relay = has("lmtp"), &fakeRelay{fake: f, bare: has("bare"), unreachable: has("unreachable"), untrusted: has("untrusted")}
	})
}
