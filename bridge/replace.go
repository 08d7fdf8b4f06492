package bridge

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/upstream"
)

const (
	verbSeal   = "seal"
	verbUnseal = "unseal"
)

var (
	// errGone: the message to be replaced is not in the mailbox (any more).
	errGone = errors.New("the message is gone")
	// errDifferent is said of bytes that have been read and compared, never of what could not be.
	errDifferent = errors.New("the copy read back from the provider differs from the original; the original stays")
	errNoUIDPlus = errors.New("the provider does not offer UIDPLUS (RFC 4315), without which one message cannot be removed safely; the message stays as it is")
	errWhere     = errors.New("the provider did not say where it stored the copy; the original stays")
)

// replacement is one message on its way to being replaced by another form of itself.
//
// Nothing is expunged but the original, once its copy has been compared, and what is proven to be a copy of
// our own making: not older than our APPEND, and with our seal.
type replacement struct {
	account  *Account
	conn     *upstream.Conn
	row      journalRow
	original *spool.Spool
	copy     *spool.Spool
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
func (a *Account) fetchForReplacement(ctx context.Context, row journalRow) (*replacement, error) {
	conn, err := a.provider.Acquire(ctx, row.mailbox)
	if err != nil {
		return nil, err
	}
	r := &replacement{account: a, conn: conn, row: row}
	r.sameMessage = a.opensTo
	if row.verb == verbUnseal {
		r.sameMessage = a.isContentOf
	}
	if err := r.fetchOriginal(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *replacement) fetchOriginal() error {
	if r.conn.Selected.UIDValidity != r.row.validity {
		return errGone
	}
	if !r.conn.Caps().Has(imap.CapUIDPlus) && !r.conn.Caps().Has(imap.CapIMAP4rev2) {
		return errNoUIDPlus
	}
	state, err := r.state(r.row.uid)
	if err != nil {
		return err
	}
	r.append = *state
	r.original, err = r.body(r.row.uid)
	return err
}

func (r *replacement) marked(flag imap.Flag) bool { return slices.Contains(r.append.Flags, flag) }

// state is a message's flags and date as they are now.
func (r *replacement) state(uid imap.UID) (*imap.AppendOptions, error) {
	messages, err := r.conn.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{UID: true, Flags: true, InternalDate: true}).Collect()
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.UID == uid && !m.InternalDate.IsZero() { // what the server says unasked has no date
			flags := slices.DeleteFunc(slices.Clone(m.Flags), func(f imap.Flag) bool { return f == `\Recent` })
			return &imap.AppendOptions{Flags: flags, Time: m.InternalDate}, nil
		}
	}
	return nil, errGone
}

// body reads one message as the provider stores it.
func (r *replacement) body(uid imap.UID) (*spool.Spool, error) {
	cmd := r.conn.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	var body *spool.Spool
	var err error
	for message := cmd.Next(); message != nil; message = cmd.Next() {
		if body == nil && err == nil {
			body, err = spoolBody(message, uid, r.account.bridge.spoolDir)
		}
	}
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

// spoolBody spools the body in a FETCH response; nil if it is about another message, or about something else
// that the server says unasked. The UID comes first (see upstream).
func spoolBody(message *imapclient.FetchMessageData, uid imap.UID, dir string) (*spool.Spool, error) {
	ours := false
	for item := message.Next(); item != nil; item = message.Next() {
		switch item := item.(type) {
		case imapclient.FetchItemDataUID:
			ours = item.UID == uid
		case imapclient.FetchItemDataBodySection:
			if ours && item.Literal != nil {
				return spool.FromReader(dir, item.Literal, 0)
			}
		}
	}
	return nil, nil
}

// run takes all steps after the copy has been made.
func (r *replacement) run(ctx context.Context) error {
	journal := r.account.bridge.journal
	r.row.next = max(r.conn.Selected.UIDNext, r.row.uid+1)
	var err error
	if r.row.id, err = journal.begin(ctx, r.row); err != nil {
		return err
	}
	if r.row.copyUID, err = r.appendOnce(); err != nil {
		return err
	}
	// What has been done at the provider is written down, whoever has lost interest meanwhile.
	ctx = context.WithoutCancel(ctx)
	if err := journal.appended(ctx, r.row.id, r.row.copyUID); err != nil {
		return err
	}
	err = r.conclude(ctx, r.row.copyUID)
	if errors.Is(err, errDifferent) {
		err = errors.Join(err, r.discard(r.row.copyUID))
	}
	if err != nil {
		return err
	}
	return journal.end(ctx, r.row.id)
}

// appendOnce stores the copy, unless it is there already, and returns its UID. Where two
// devices appended at the same moment the lower UID is kept.
func (r *replacement) appendOnce() (imap.UID, error) {
	if there, err := r.goodCopy(math.MaxUint32); err != nil || there != 0 {
		return there, err
	}
	own, err := r.appendCopy()
	if err != nil {
		return 0, err
	}
	there, err := r.goodCopy(own)
	if err != nil || there == 0 {
		return own, err
	}
	return there, r.discard(own)
}

// goodCopy is the lowest UID below the limit that has our seal of the original and opens to it; 0 if there is none.
func (r *replacement) goodCopy(below imap.UID) (imap.UID, error) {
	sealed, err := r.sealedCopies()
	if err != nil {
		return 0, err
	}
	return r.firstEqual(slices.DeleteFunc(sealed, func(uid imap.UID) bool { return uid >= below }))
}

// firstEqual is the first that proves to be the same message as the original; 0 if none does.
func (r *replacement) firstEqual(uids []imap.UID) (imap.UID, error) {
	for _, uid := range uids {
		switch err := r.compare(uid); {
		case err == nil:
			return uid, nil
		case !errors.Is(err, errDifferent) && !errors.Is(err, errGone):
			return 0, err
		}
	}
	return 0, nil
}

// sealedCopies are the messages with our seal of the original, the lowest UID first. What is marked \Deleted
// may be gone at any moment and replaces nothing.
func (r *replacement) sealedCopies() ([]imap.UID, error) {
	if r.row.sealID == "" {
		return nil, nil
	}
	return r.search(&imap.SearchCriteria{
		Header:  []imap.SearchCriteriaHeaderField{{Key: sealField, Value: r.row.sealID}},
		NotFlag: []imap.Flag{imap.FlagDeleted},
	})
}

func (r *replacement) search(criteria *imap.SearchCriteria) ([]imap.UID, error) {
	found, err := r.conn.UIDSearch(criteria, nil).Wait()
	if err != nil {
		return nil, err
	}
	uids := slices.DeleteFunc(found.AllUIDs(), func(uid imap.UID) bool { return uid == r.row.uid })
	slices.Sort(uids)
	return uids, nil
}

// earlierCopy is the copy that an attempt in the journal has made; 0 if it has made none.
func (r *replacement) earlierCopy() (imap.UID, error) {
	if r.row.verb == verbUnseal {
		return r.earlierOriginal()
	}
	return r.goodCopy(math.MaxUint32)
}

// earlierOriginal is what an attempt to unseal has appended. It has no mark of ours: it is the message that came
// since and has the same bytes.
func (r *replacement) earlierOriginal() (imap.UID, error) {
	var err error
	if r.copy, err = r.account.unseal(r.original); err != nil {
		return 0, err
	}
	candidates, err := r.search(&imap.SearchCriteria{
		UID:     []imap.UIDSet{{{Start: max(r.row.next, r.row.uid+1)}}},
		NotFlag: []imap.Flag{imap.FlagDeleted},
		Larger:  r.copy.Size() - 1,
		Smaller: r.copy.Size() + 1,
	})
	if err != nil {
		return 0, err
	}
	// "n:*" includes the last message even if n is beyond it (RFC 9051 §9, seq-range).
	candidates = slices.DeleteFunc(candidates, func(uid imap.UID) bool { return uid < r.row.next })
	return r.firstEqual(candidates)
}

func (r *replacement) appendCopy() (imap.UID, error) {
	data, err := r.conn.Upload(r.row.mailbox, r.copy, &r.append)
	if err != nil {
		return 0, err
	}
	if data.UID == 0 || data.UIDValidity != r.row.validity {
		return 0, errWhere
	}
	if data.UID < r.row.next {
		return 0, fmt.Errorf("%w: it names UID %d, which was there before", errWhere, data.UID)
	}
	return data.UID, nil
}

// conclude removes the original once the copy with that UID has proved to be the same message.
func (r *replacement) conclude(ctx context.Context, uid imap.UID) error {
	if err := r.compare(uid); err != nil {
		return err
	}
	if err := r.carryFlags(uid); err != nil {
		return err
	}
	if err := r.account.bridge.journal.removing(ctx, r.row.id); err != nil {
		return err
	}
	return r.expunge(r.row.uid)
}

// compare is errDifferent if the copy was read and is not the same message; any other error says that this
// could not be found out.
func (r *replacement) compare(uid imap.UID) error {
	readBack, err := r.body(uid)
	if err != nil {
		return err
	}
	defer readBack.Close()
	err = r.sameMessage(readBack, r.original)
	if errors.Is(err, pgpmime.ErrNotSealed) {
		err = errors.Join(errDifferent, err)
	}
	return err
}

// carryFlags gives the copy the flags that the original has now, but for \Deleted: the mark may be ours, of an
// earlier attempt, and a copy with it would not last.
func (r *replacement) carryFlags(uid imap.UID) error {
	now, err := r.state(r.row.uid)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	has, err := r.state(uid)
	if err != nil {
		return err
	}
	wanted := slices.DeleteFunc(now.Flags, func(f imap.Flag) bool { return f == imap.FlagDeleted })
	if sameFlags(wanted, has.Flags) {
		return nil
	}
	return r.conn.Store(imap.UIDSetNum(uid), &imap.StoreFlags{Op: imap.StoreFlagsSet, Silent: true, Flags: wanted}, nil).Close()
}

// discard expunges a copy of our own making; what is not proven to be one stays.
func (r *replacement) discard(uid imap.UID) error {
	sealed, err := r.sealedCopies()
	if err != nil || uid < r.row.next || !slices.Contains(sealed, uid) {
		return err
	}
	return r.expunge(uid)
}

// expunge removes one of the two forms of the message: what it says stays, so that it is no deletion to a hold.
func (r *replacement) expunge(uid imap.UID) error {
	err := r.account.mirror.Replaced(context.Background(), r.row.mailbox, r.row.validity, uid)
	if err != nil {
		return err
	}
	set := imap.UIDSetNum(uid)
	err = r.conn.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close()
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
