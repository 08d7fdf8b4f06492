package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// Reconsider opens messages of a sender again and corrects the mirror's keywords: who signed them has
// another standing now. stale chooses by the status field each has got at its first opening, folded,
// and the keywords it has; what they say does not change. Messages that have not been opened
// will find the truth by themselves.
func (m *Mirror) Reconsider(ctx context.Context, from string, stale func(status string, keywords []imap.Flag) bool) error {
	list, err := m.readList(ctx)
	if err != nil {
		return err
	}
	for _, info := range list {
		b, done, err := m.use(ctx, info.Name)
		if errors.Is(err, ErrNoMailbox) {
			continue
		}
		if err == nil {
			err = b.reconsider(ctx, from, stale)
			done()
		}
		if err != nil {
			return fmt.Errorf("judge mail of %s in %q anew: %w", from, info.Name, err)
		}
	}
	return nil
}

func (b *box) reconsider(ctx context.Context, from string, stale func(string, []imap.Flag) bool) error {
	due, err := b.signedBy(ctx, from, stale)
	if err != nil {
		return err
	}
	_, rows := b.state()
	rows = slices.DeleteFunc(rows, func(r row) bool { return !due[r.uid] })
	h := b.handle()
	for _, batch := range batches(rows) {
		err := b.eachStored(ctx, batch, func(uid imap.UID, stored mimescan.Source) error {
			o, err := b.m.o.Open(ctx, stored)
			if err != nil {
				return err
			}
			_ = o.Message.Close()
			return b.correct(ctx, h, uid, o)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// correct sets the keywords of a message that has been judged anew, if it is still the same message.
func (b *box) correct(ctx context.Context, h *Mailbox, uid imap.UID, o *Opened) error {
	r, ok := b.row(uid)
	if !ok || r.content == 0 {
		return nil // what is opened later finds the truth by itself
	}
	err := b.unchanged(ctx, r.content, uid, o)
	if err == nil {
		err = h.SetKeywords(ctx, uid, o.Keywords)
	}
	switch {
	case errors.Is(err, errOtherBytes):
		b.m.o.Log.Warn("a message keeps its keywords", "cause", err)
	case !errors.Is(err, ErrExpunged) && !errors.Is(err, sql.ErrNoRows):
		return err
	}
	return nil
}

// signedBy finds messages with a From address whose status stale chooses.
func (b *box) signedBy(ctx context.Context, from string, stale func(string, []imap.Flag) bool) (map[imap.UID]bool, error) {
	s := &search{box: b, view: b.snapshot()}
	all := make([]int, len(s.view.Messages))
	for i := range all {
		all[i] = i
	}
	if len(all) == 0 {
		return nil, nil
	}
	address := fold(from)
	words := map[imap.UID][]imap.Flag{}
	for _, m := range s.view.Messages {
		words[m.UID] = m.Flags
	}
	due := map[imap.UID]bool{}
	_, err := s.ask(ctx, all, key{query: `SELECT m.uid, m.uid, c.fields`, needle: address, judge: func(n int, fields string) verdict {
		uid := imap.UID(n)
		due[uid] = hasField(fields, "from", address) && stale(fieldOf(fields, "x-sealpost-status"), words[uid])
		return miss
	}})
	return due, err
}
