package mirror

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/sealpost/sealpost/bridge/upstream"
)

// Quota is one quota root at the provider (RFC 9208 §3.2): what is used there and what may be.
type Quota struct {
	Root      string
	Resources []QuotaResource // by name
}

// QuotaResource is one of a root's: STORAGE counts units of 1024 bytes, MESSAGE messages.
type QuotaResource struct {
	Name         string
	Usage, Limit int64
}

// MailboxQuota asks the provider for the quota roots of a mailbox: none if it has no quota.
// Errors: ErrOffline, *imap.Error.
func (m *Mirror) MailboxQuota(ctx context.Context, mailbox string) (found []Quota, err error) {
	err = m.quota(ctx, func(c *upstream.Conn) error {
		data, err := c.GetQuotaRoot(canonical(mailbox)).Wait()
		for _, d := range data {
			found = append(found, quotaOf(d))
		}
		return err
	})
	return found, err
}

// Quota asks the provider for one quota root; nil if it has none of that name.
func (m *Mirror) Quota(ctx context.Context, root string) (found *Quota, err error) {
	err = m.quota(ctx, func(c *upstream.Conn) error {
		data, err := c.GetQuota(root).Wait()
		if data != nil && err == nil {
			q := quotaOf(*data)
			found = &q
		}
		return err
	})
	return found, err
}

// quota runs f if the provider knows quotas at all.
func (m *Mirror) quota(ctx context.Context, f func(c *upstream.Conn) error) error {
	c, err := m.o.Provider.Acquire(ctx, "")
	if err != nil {
		return offline(err)
	}
	defer m.o.Provider.Release(c)
	if !c.Caps().Has(imap.CapQuota) {
		return nil
	}
	if err := f(c); err != nil {
		return fmt.Errorf("ask for the quota: %w", offline(err))
	}
	return nil
}

func quotaOf(data imapclient.QuotaData) Quota {
	q := Quota{Root: data.Root}
	for name, r := range data.Resources {
		q.Resources = append(q.Resources, QuotaResource{string(name), r.Usage, r.Limit})
	}
	slices.SortFunc(q.Resources, func(a, b QuotaResource) int { return cmp.Compare(a.Name, b.Name) })
	return q
}
