package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// Progress is told after each message of long work; total is 0 while unknown.
type Progress func(mailbox string, done, total int)

// BacklogResult counts what SealBacklog or UnsealBacklog did, or with dryRun would do.
type BacklogResult struct {
	Messages int      `json:"messages"` // looked at
	Done     int      `json:"done"`     // replaced
	Left     int      `json:"left"`     // still as they were: dry run, or a failure
	Failures []string `json:"failures,omitempty"`
}

// SealBacklog seals the clear mail that is already at the provider, in one mailbox or ("")
// all. It can be stopped at any moment and called again.
func (a *Account) SealBacklog(ctx context.Context, mailbox string, dryRun bool, p Progress) (BacklogResult, error) {
	if _, err := a.ring.Certificate(); err != nil {
		return BacklogResult{}, fmt.Errorf("%s has no key to seal with; make one with sealpost key generate: %w", a.Address(), err)
	}
	return a.replaceBacklog(ctx, mailbox, mirror.Clear, dryRun, p, a.sealMessage)
}

// UnsealBacklog puts the original bytes of sealed mail back. Mailboxes that the configuration
// seals are refused: the daemon would seal them again.
func (a *Account) UnsealBacklog(ctx context.Context, mailbox string, dryRun bool, p Progress) (BacklogResult, error) {
	if a.options.Seal.All || (mailbox == "" && len(a.options.Seal.Mailboxes) > 0) || a.options.Seal.Covers(mailbox) {
		return BacklogResult{}, fmt.Errorf("the configuration seals new mail of %s; set seal = \"off\" for this account first", a.Address())
	}
	return a.replaceBacklog(ctx, mailbox, mirror.Sealed, dryRun, p, a.unsealMessage)
}

type replaceFunc func(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error

func (a *Account) replaceBacklog(ctx context.Context, only string, kind mirror.Kind, dryRun bool, p Progress, replace replaceFunc) (BacklogResult, error) {
	var total BacklogResult
	names, err := a.mailboxes(ctx, only)
	if err != nil {
		return total, err
	}
	for _, name := range names {
		if err := a.replaceInMailbox(ctx, name, kind, dryRun, p, replace, &total); err != nil {
			return total, fmt.Errorf("mailbox %s: %w", name, err)
		}
	}
	return total, nil
}

func (a *Account) replaceInMailbox(ctx context.Context, name string, kind mirror.Kind, dryRun bool, p Progress, replace replaceFunc, total *BacklogResult) error {
	mailbox, err := a.mirror.Mailbox(ctx, name)
	if err != nil {
		return err
	}
	view := mailbox.Snapshot()
	total.Messages += len(view.Messages)
	uids, err := ofKind(ctx, mailbox, view, kind, func(uid imap.UID, err error) { total.failed(name, uid, err) })
	if err != nil {
		return err
	}
	for i, uid := range uids {
		if dryRun {
			total.Left++
			continue
		}
		switch err := replace(ctx, name, view.UIDValidity, uid); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errGone):
			continue // somebody else has removed or replaced it
		case errors.Is(err, errSkipped):
			total.Left++
			continue
		case err != nil:
			total.failed(name, uid, err)
			continue
		}
		total.Done++
		p(name, i+1, len(uids))
	}
	return mailbox.Refresh(ctx)
}

// failed notes a message that is left as it was.
func (r *BacklogResult) failed(mailbox string, uid imap.UID, err error) {
	r.Left++
	r.Failures = append(r.Failures, fmt.Sprintf("%s, UID %d: %v", mailbox, uid, err))
}

// ofKind is the messages of one kind, newest first. One that cannot be opened now is told to
// failed; one that has gone since is nobody's business.
func ofKind(ctx context.Context, mailbox *mirror.Mailbox, view *mirror.Snapshot, kind mirror.Kind, failed func(imap.UID, error)) ([]imap.UID, error) {
	all := make([]imap.UID, len(view.Messages))
	for i, m := range view.Messages {
		all[i] = m.UID
	}
	slices.Reverse(all)
	var found []imap.UID
	err := mailbox.Summaries(ctx, all, func(uid imap.UID, s *mirror.Summary, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, mirror.ErrOffline):
			return err
		case err == nil && s.Kind == kind:
			found = append(found, uid)
		case err != nil && !errors.Is(err, mirror.ErrExpunged):
			failed(uid, err)
		}
		return nil
	})
	return found, err
}

func (a *Account) mailboxes(ctx context.Context, only string) ([]string, error) {
	list, err := a.mirror.List(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range list {
		selectable := !slices.Contains(m.Attrs, imap.MailboxAttrNoSelect) && !slices.Contains(m.Attrs, imap.MailboxAttrNonExistent)
		if selectable && (only == "" || m.Name == only) {
			names = append(names, m.Name)
		}
	}
	if only != "" && len(names) == 0 {
		return nil, fmt.Errorf("mailbox %s: %w", only, mirror.ErrNoMailbox)
	}
	return names, nil
}

// ProvenMailbox says what of a mailbox can be read at the provider without a key.
type ProvenMailbox struct {
	Account    string     `json:"account,omitempty"` // where there are several
	Name       string     `json:"name"`
	Messages   int        `json:"messages"`
	Ciphertext int        `json:"ciphertext"`
	Readable   []imap.UID `json:"readable"`
}

// Prove fetches what the provider really stores, in one mailbox or ("") all, and finds every
// message whose subject or body can be read there.
func (a *Account) Prove(ctx context.Context, mailbox string, p Progress) ([]ProvenMailbox, error) {
	names, err := a.mailboxes(ctx, mailbox)
	if err != nil {
		return nil, err
	}
	var proven []ProvenMailbox
	for _, name := range names {
		m := ProvenMailbox{Name: name, Readable: []imap.UID{}}
		err := a.mirror.EachStored(ctx, name, func(uid imap.UID, stored mimescan.Source) error {
			readable, err := pgpmime.Readable(stored)
			m.Messages++
			if readable {
				m.Readable = append(m.Readable, uid)
			} else {
				m.Ciphertext++
			}
			p(name, m.Messages, 0)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("mailbox %s: %w", name, err)
		}
		proven = append(proven, m)
	}
	return proven, nil
}
