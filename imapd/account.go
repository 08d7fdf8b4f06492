package imapd

import (
	"context"
	"io"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// account is what a session needs of a *bridge.Account and its mirror.
type account interface {
	List(ctx context.Context) ([]mirror.MailboxInfo, error)
	SpecialUse(ctx context.Context, attr imap.MailboxAttr) (string, bool)
	Create(ctx context.Context, name string, o *imap.CreateOptions) error
	Delete(ctx context.Context, name string) error
	Rename(ctx context.Context, name, to string) error
	Subscribe(ctx context.Context, name string, on bool) error
	Mailbox(ctx context.Context, name string) (mailbox, error)
	Append(ctx context.Context, mailbox string, message io.Reader, size int64, o *imap.AppendOptions) (*imap.AppendData, error)
	MaxMessageSize() int64
	MailboxQuota(ctx context.Context, mailbox string) ([]mirror.Quota, error)
	Quota(ctx context.Context, root string) (*mirror.Quota, error)
	HasObjectIDs(ctx context.Context) (bool, error)
}

// mailbox is what a session needs of a *mirror.Mailbox.
type mailbox interface {
	Snapshot() *mirror.Snapshot
	Watch() (<-chan struct{}, func())
	Refresh(ctx context.Context) error
	Recent(ctx context.Context, claim bool) (from, to imap.UID, err error)
	Content(ctx context.Context, uid imap.UID) (*mirror.Content, error)
	Summaries(ctx context.Context, uids []imap.UID, f func(uid imap.UID, s *mirror.Summary, err error) error) error
	Store(ctx context.Context, uids imap.UIDSet, flags *imap.StoreFlags) error
	Expunge(ctx context.Context, uids *imap.UIDSet) error
	Copy(ctx context.Context, uids imap.UIDSet, to string) (*imap.CopyData, error)
	Move(ctx context.Context, uids imap.UIDSet, to string) (*imap.CopyData, error)
	Search(ctx context.Context, c mirror.Criterion, seq []imap.UID) ([]imap.UID, error)
	ObjectIDs(ctx context.Context, uids []imap.UID) (map[imap.UID]mirror.ObjectID, error)
	Digests(ctx context.Context, uids []imap.UID, parts mirror.DigestPart) ([]mirror.Digest, error)
}

// bridgeAccount is a *bridge.Account as an account.
type bridgeAccount struct{ *bridge.Account }

func (a bridgeAccount) List(ctx context.Context) ([]mirror.MailboxInfo, error) {
	return a.Mirror().List(ctx)
}

func (a bridgeAccount) SpecialUse(ctx context.Context, attr imap.MailboxAttr) (string, bool) {
	return a.Mirror().SpecialUse(ctx, attr)
}

func (a bridgeAccount) Create(ctx context.Context, name string, o *imap.CreateOptions) error {
	return a.Mirror().Create(ctx, name, o)
}

func (a bridgeAccount) Delete(ctx context.Context, name string) error {
	return a.Mirror().Delete(ctx, name)
}

func (a bridgeAccount) Rename(ctx context.Context, name, to string) error {
	return a.Mirror().Rename(ctx, name, to)
}

func (a bridgeAccount) Subscribe(ctx context.Context, name string, on bool) error {
	return a.Mirror().Subscribe(ctx, name, on)
}

func (a bridgeAccount) Mailbox(ctx context.Context, name string) (mailbox, error) {
	b, err := a.Mirror().Mailbox(ctx, name)
	if err != nil {
		return nil, err // not a nil *mirror.Mailbox in a mailbox
	}
	return b, nil
}

func (a bridgeAccount) MailboxQuota(ctx context.Context, mailbox string) ([]mirror.Quota, error) {
	return a.Mirror().MailboxQuota(ctx, mailbox)
}

func (a bridgeAccount) Quota(ctx context.Context, root string) (*mirror.Quota, error) {
	return a.Mirror().Quota(ctx, root)
}

func (a bridgeAccount) HasObjectIDs(ctx context.Context) (bool, error) {
	return a.Mirror().HasObjectIDs(ctx)
}
