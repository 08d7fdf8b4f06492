package imapd

import (
	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// The provider's quota is passed on as it is (RFC 9208).

// getQuotaRoot answers GETQUOTAROOT; a mailbox without quota has no roots.
func (s *session) getQuotaRoot(r *request) error {
	written := r.rest
	name, err := r.mailbox()
	if err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	roots, err := s.account.MailboxQuota(s.ctx, name)
	if err != nil {
		return s.failed(err)
	}
	r.raw("* QUOTAROOT ", written)
	for _, q := range roots {
		r.raw(" ")
		r.text(q.Root)
	}
	r.raw("\r\n")
	for _, q := range roots {
		r.quota(q)
	}
	return nil
}

// getQuota answers GETQUOTA.
func (s *session) getQuota(r *request) error {
	root, err := r.astring()
	if err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	q, err := s.account.Quota(s.ctx, root)
	if err == nil && q == nil {
		return no(imap.ResponseCodeNonExistent, "There is no such quota root")
	}
	if err != nil {
		return s.failed(err)
	}
	r.quota(*q)
	return nil
}

// setQuota refuses: limits are the provider's to set.
func (s *session) setQuota(*request) error {
	return no(imap.ResponseCodeNoPerm, "Quotas are set by the provider")
}

func (o *output) quota(q mirror.Quota) {
	o.raw("* QUOTA ")
	o.text(q.Root)
	o.raw(" (")
	for i, resource := range q.Resources {
		if i > 0 {
			o.raw(" ")
		}
		o.raw(resource.Name, " ")
		o.num(resource.Usage)
		o.raw(" ")
		o.num(resource.Limit)
	}
	o.raw(")\r\n")
}
