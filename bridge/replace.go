package bridge

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/upstream"
)

const (
	verbSeal   = "seal"
	verbUnseal = "unseal"
)

var (
	// errGone: the message to be replaced is not in the mailbox (any more).
	errGone      = errors.New("the message is gone")
	errDifferent = errors.New("the copy read back from the provider differs from the original; the original stays")
	errNoUIDPlus = errors.New("the provider does not offer UIDPLUS (RFC 4315), without which one message cannot be removed safely; the message stays as it is")
)

// replacement is one message on its way to being replaced by another form of itself.
type replacement struct {
	account  *Account
	conn     *upstream.Conn
	mailbox  string
	validity uint32
	uid      imap.UID // of the original
	original *spool.Spool
	copy     *spool.Spool
	sealID   string // finds the copy at the provider; "" when unsealing
	append   imap.AppendOptions
	// sameMessage compares the copy as read back (first) with the original.
	sameMessage func(readBack, original *spool.Spool) error
}

// Close gives back the connection and the spools.
func (r *replacement) Close() {
	r.account.provider.Release(r.conn)
	for _, s := range []*spool.Spool{r.original, r.copy} {
		if s != nil {
			_ = s.Close()
		}
	}
}

// fetchForReplacement leases a connection and reads the original. errGone if it is not there.
func (a *Account) fetchForReplacement(ctx context.Context, mailbox string, validity uint32, uid imap.UID) (*replacement, error) {
	conn, err := a.provider.Acquire(ctx, mailbox)
	if err != nil {
		return nil, err
	}
	r := &replacement{account: a, conn: conn, mailbox: mailbox, validity: validity, uid: uid}
	if err := r.fetchOriginal(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *replacement) fetchOriginal() error {
	if r.conn.Selected.UIDValidity != r.validity {
		return errGone
	}
	if !r.conn.Caps().Has(imap.CapUIDPlus) && !r.conn.Caps().Has(imap.CapIMAP4rev2) {
		return errNoUIDPlus
	}
	state, err := r.state()
	if err != nil {
		return err
	}
	r.append = *state
	r.original, err = r.body(r.uid)
	return err
}

func (r *replacement) marked(flag imap.Flag) bool { return slices.Contains(r.append.Flags, flag) }

// state is the original's flags and date as they are now.
func (r *replacement) state() (*imap.AppendOptions, error) {
	messages, err := r.conn.Fetch(imap.UIDSetNum(r.uid), &imap.FetchOptions{UID: true, Flags: true, InternalDate: true}).Collect()
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.UID == r.uid {
			flags := slices.DeleteFunc(slices.Clone(m.Flags), func(f imap.Flag) bool { return f == `\Recent` })
			return &imap.AppendOptions{Flags: flags, Time: m.InternalDate}, nil
		}
	}
	return nil, errGone
}

// body reads one message as the provider stores it.
func (r *replacement) body(uid imap.UID) (*spool.Spool, error) {
	cmd := r.conn.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	body, err := spoolBody(cmd, r.account.bridge.spoolDir)
	if closeErr := cmd.Close(); err == nil {
		err = closeErr
	}
	if err == nil && body == nil {
		err = errGone
	}
	if err != nil && body != nil {
		_ = body.Close()
		body = nil
	}
	return body, err
}

// spoolBody spools the first message of a FETCH; nil if there is none.
func spoolBody(cmd *imapclient.FetchCommand, dir string) (*spool.Spool, error) {
	message := cmd.Next()
	if message == nil {
		return nil, nil
	}
	for item := message.Next(); item != nil; item = message.Next() {
		if section, ok := item.(imapclient.FetchItemDataBodySection); ok && section.Literal != nil {
			return spool.FromReader(dir, section.Literal, 0)
		}
	}
	return nil, nil
}

// run takes all steps after the copy has been made.
func (r *replacement) run(ctx context.Context, verb string) error {
	journal := r.account.bridge.journal
	id, err := journal.begin(ctx, journalRow{
		account: r.account.Address(), mailbox: r.mailbox, validity: r.validity, uid: r.uid, verb: verb, sealID: r.sealID,
	})
	if err != nil {
		return err
	}
	uid, err := r.appendOnce()
	if err != nil {
		return err
	}
	if err := journal.appended(ctx, id, uid); err != nil {
		return err
	}
	err = r.conclude(uid)
	if errors.Is(err, errDifferent) {
		err = errors.Join(err, r.expunge(uid))
	}
	if err != nil {
		return err
	}
	return journal.end(context.WithoutCancel(ctx), id)
}

// appendOnce stores the copy, unless it is there already, and returns its UID. Where two
// devices appended at the same moment the lower UID is kept.
func (r *replacement) appendOnce() (imap.UID, error) {
	if uid, err := r.existingCopy(); err != nil || uid != 0 {
		return uid, err
	}
	own, err := r.appendCopy()
	if err != nil {
		return 0, err
	}
	kept, err := r.existingCopy()
	if err != nil || kept == 0 || kept == own {
		return own, err
	}
	if err := r.compare(kept); err != nil {
		return own, nil
	}
	return kept, r.expunge(own)
}

// existingCopy is the lowest UID that carries the seal's identifier; 0 if there is none.
func (r *replacement) existingCopy() (imap.UID, error) {
	if r.sealID == "" {
		return 0, nil
	}
	found, err := r.conn.UIDSearch(&imap.SearchCriteria{
		Header: []imap.SearchCriteriaHeaderField{{Key: sealField, Value: r.sealID}},
	}, nil).Wait()
	if err != nil {
		return 0, err
	}
	uids := found.AllUIDs()
	if len(uids) == 0 {
		return 0, nil
	}
	return slices.Min(uids), nil
}

func (r *replacement) appendCopy() (imap.UID, error) {
	cmd := r.conn.Append(r.mailbox, r.copy.Size(), &r.append)
	_, err := io.Copy(cmd, r.copy.Reader())
	if closeErr := cmd.Close(); err == nil {
		err = closeErr
	}
	data, waitErr := cmd.Wait()
	if err := errors.Join(err, waitErr); err != nil {
		return 0, err
	}
	if data.UID == 0 || data.UIDValidity != r.validity {
		return 0, errors.New("the provider did not say where it stored the copy; the original stays")
	}
	return data.UID, nil
}

// conclude removes the original once the copy with that UID has proved to be the same message.
func (r *replacement) conclude(uid imap.UID) error {
	if err := r.compare(uid); err != nil {
		return err
	}
	if err := r.carryFlags(uid); err != nil {
		return err
	}
	return r.expunge(r.uid)
}

func (r *replacement) compare(uid imap.UID) error {
	readBack, err := r.body(uid)
	if err != nil {
		return err
	}
	defer readBack.Close()
	if err := r.sameMessage(readBack, r.original); err != nil {
		return errors.Join(errDifferent, err)
	}
	return nil
}

// carryFlags gives the copy the flags that the original was given in the meantime.
func (r *replacement) carryFlags(uid imap.UID) error {
	now, err := r.state()
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil || sameFlags(now.Flags, r.append.Flags) {
		return err
	}
	return r.conn.Store(imap.UIDSetNum(uid), &imap.StoreFlags{Op: imap.StoreFlagsSet, Silent: true, Flags: now.Flags}, nil).Close()
}

func (r *replacement) expunge(uid imap.UID) error {
	set := imap.UIDSetNum(uid)
	err := r.conn.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close()
	if err != nil {
		return err
	}
	return r.conn.UIDExpunge(set).Close()
}

func sameFlags(a, b []imap.Flag) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// sameBytes is errDifferent unless both hold the same bytes.
func sameBytes(a, b *spool.Spool) error {
	if a.Size() != b.Size() {
		return errDifferent
	}
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); off < a.Size(); off += int64(len(x)) {
		n := min(int64(len(x)), a.Size()-off)
		if _, err := a.ReadAt(x[:n], off); err != nil && err != io.EOF {
			return err
		}
		if _, err := b.ReadAt(y[:n], off); err != nil && err != io.EOF {
			return err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return errDifferent
		}
	}
	return nil
}

// instanceOf tells two originals with the same bytes apart, alike on every device.
func instanceOf(mailbox string, validity uint32, uid imap.UID) []byte {
	return fmt.Appendf(nil, "%s\x00%d\x00%d", mailbox, validity, uid)
}

func randomInstance() []byte {
	var random [16]byte
	_, _ = rand.Read(random[:])
	return random[:]
}
