package contacts

import (
	"context"

	"github.com/sealpost/sealpost/keydisc"
)

// Known is Lookup without asking anybody: what is pinned counts, and that nothing is pinned is taken for an answer. It is for mail
// for which nobody is asked, of lists and of others.
func (b *Book) Known(ctx context.Context, address string) Lookup {
	normal, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return unknown(address, err)
	}
	r, _, err := b.recall(ctx, normal)
	if err != nil {
		return unknown(normal, err)
	}
	return Lookup{Contact: r.contact(), Usable: r.usable(b.options.Now()), Conclusive: true}
}
