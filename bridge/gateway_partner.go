package bridge

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/keydisc"
)

// Between two companies with gateways no user needs a key: mail to a partner's domain is encrypted to the domain's certificate, and opened by the
// partner's gateway. It is for recipients who have no certificate of their own; whoever has one is written to with that.

// sourcePartner marks a partner's domain certificate.
const sourcePartner contacts.Source = "partner"

// domainRing names the keys of a domain: "@alpha.test". User IDs name domainUser there.
func domainRing(domain string) string { return "@" + domain }

// domainUser is the local part in the user ID of a domain's key.
const domainUser = "gateway"

// partnerOf is the certificate for a whole domain; nil if there is none.
func (g *Gateway) partnerOf(address string) *keydisc.Certificate {
	return g.options.Company.Partners[domainOf(normalized(address))]
}

// ownsCertificate says whether the recipient's certificate is his, not his company's or one that does not name him.
func (r recipient) ownsCertificate() bool {
	return r.lookup.Source != sourcePartner && slices.Contains(r.lookup.Certificate.Addresses(), normalized(r.Address))
}

// openDomainKeys makes the keys of the gateway's own domains, which partners will use.
func (g *Gateway) openDomainKeys(ctx context.Context) error {
	if len(g.options.Company.Partners) == 0 {
		return nil
	}
	var errs []error
	for _, domain := range g.Domains() {
		_, err := g.users.sending(ctx, domainRing(domain))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// namesOf are the addresses in the user IDs of a user's keys, or of a domain's.
func namesOf(owner string) []string {
	if strings.HasPrefix(owner, "@") {
		return []string{domainUser + owner}
	}
	return []string{normalized(owner)}
}
