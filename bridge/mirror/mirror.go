// Package mirror is what the provider's mailboxes hold, and what their messages say once
// opened. Reads are answered from it; changes go to the provider first and then into it.
// UIDs and UIDVALIDITY are the provider's.
package mirror

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// Blob is a message that is held somewhere until closed.
type Blob interface {
	mimescan.Source
	io.Closer
}

// Kind is how a message rests at the provider.
type Kind string

const (
	Clear     Kind = "clear"
	Encrypted Kind = "encrypted" // end-to-end, by its sender
	Sealed    Kind = "sealed"    // by us
	Failed    Kind = "failed"    // ciphertext we cannot open
)

// Opened is a message as the client is to see it, status field included.
type Opened struct {
	Message  Blob // closed by the mirror
	Kind     Kind
	Keywords []imap.Flag // $Encrypted, $SignedGood, … of this moment
}

// Options of a Mirror.
type Options struct {
	DB       *store.DB
	Account  string // its address: the key of its rows
	Provider *upstream.Provider
	// Open turns stored bytes into what the client sees. An error means "not now"; bad mail
	// is not an error.
	Open func(ctx context.Context, stored mimescan.Source) (*Opened, error)
	// Seal replaces a clear message at the provider by its sealed copy; nil: never. ShouldSeal
	// says for which mailboxes.
	Seal       func(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error
	ShouldSeal func(mailbox string) bool
	HoldBack   time.Duration // how long a new clear message is held back for sealing; 0: 5 s
	CacheSize  int64         // bytes of opened bodies kept; 0: 2 GiB
	SpoolDir   string
	Log        *slog.Logger
}

// Mirror is one account's mailboxes. Safe for concurrent use.
type Mirror struct{}

// New opens the mirror; what an earlier run synced is served at once.
func New(ctx context.Context, o Options) (*Mirror, error) { panic("stub") }

// Run keeps the mirror in step with the provider until ctx ends: INBOX live, the others
// when selected and every minute; opens messages newest first in the background.
// Connection errors are retried with backoff and are not returned.
func (m *Mirror) Run(ctx context.Context) error { panic("stub") }

// Errors that imapd turns into response codes.
var (
	ErrNoMailbox = errors.New("no such mailbox")
	ErrOffline   = errors.New("the provider cannot be reached")
	ErrExpunged  = errors.New("message is gone")
)

// MailboxInfo is one mailbox of the list, names as go-imap decodes them (UTF-8).
type MailboxInfo struct {
	Name       string
	Delim      rune
	Attrs      []imap.MailboxAttr // special-use, \Noselect, \HasChildren …, as the provider says
	Subscribed bool
}

// List returns all mailboxes, subscribed or not, INBOX first. If none is known yet it asks the provider.
func (m *Mirror) List(ctx context.Context) ([]MailboxInfo, error) { panic("stub") }

// SpecialUse is the name of the mailbox with that attribute, by attribute or, failing that, by its usual name.
func (m *Mirror) SpecialUse(ctx context.Context, attr imap.MailboxAttr) (string, bool) { panic("stub") }

// Create … Subscribe change the provider, then the mirror. Errors of the provider are *imap.Error.
func (m *Mirror) Create(ctx context.Context, name string, o *imap.CreateOptions) error { panic("stub") }
func (m *Mirror) Delete(ctx context.Context, name string) error                        { panic("stub") }
func (m *Mirror) Rename(ctx context.Context, name, to string) error                    { panic("stub") }
func (m *Mirror) Subscribe(ctx context.Context, name string, on bool) error            { panic("stub") }

// Append stores bytes at the provider as they are (the caller has sealed them) and waits
// until the mirror shows them. opened, if not nil, is what they decrypt to, so that they need not
// be fetched again. UID is 0 if the provider has no UIDPLUS.
func (m *Mirror) Append(ctx context.Context, mailbox string, stored mimescan.Source, o *imap.AppendOptions) (*imap.AppendData, error) {
	panic("stub")
}

// Mailbox returns a handle; it waits at most two seconds for a fresh state from the provider
// and then serves what is known. ErrNoMailbox if it does not exist.
func (m *Mirror) Mailbox(ctx context.Context, name string) (*Mailbox, error) { panic("stub") }

// Counts for status: all mailboxes together.
type Counts struct{ Mailboxes, Messages, Opened, Sealed, Clear int }

// Counts of the account.
func (m *Mirror) Counts(ctx context.Context) (Counts, error) { panic("stub") }

// Mailbox is one mailbox. Handles of the same mailbox share their state.
type Mailbox struct{}

// Message is the state of one message. Flags include the keywords of this moment.
type Message struct {
	UID          imap.UID
	Flags        []imap.Flag // shared, not to be changed
	InternalDate time.Time
}

// Snapshot is an immutable view, ordered by UID, without messages that are held back.
type Snapshot struct {
	Name           string
	UIDValidity    uint32
	UIDNext        imap.UID
	Version        uint64      // grows with every change
	PermanentFlags []imap.Flag // as the provider says
	ReadOnly       bool
	Messages       []Message
}

// Snapshot is the current view; cheap.
func (b *Mailbox) Snapshot() *Snapshot { panic("stub") }

// Watch returns a channel that is sent to (never blocking, capacity 1) after each
// change, and the function that ends it. While watched the mailbox is kept live if
// connections allow.
func (b *Mailbox) Watch() (<-chan struct{}, func()) { panic("stub") }

// Refresh asks the provider for changes now (NOOP, CHECK), at most once a second.
func (b *Mailbox) Refresh(ctx context.Context) error { panic("stub") }

// Content is an opened message.
type Content struct {
	Structure *mimescan.Part
	Header    []byte // of the message, with its empty line
	Kind      Kind
	Message   Blob // from the cache or fetched and opened again on first read
}

// Content opens the message if that has not been done. ErrExpunged if it is gone.
// The caller closes Content.Message.
func (b *Mailbox) Content(ctx context.Context, uid imap.UID) (*Content, error) { panic("stub") }

// Summary is the part of Content that is always kept: never needs the body.
type Summary struct {
	Structure *mimescan.Part
	Header    []byte
	Size      int64
	Kind      Kind
}

// Summaries calls f for each of the UIDs, in the order given, opening those that have not been; a
// message that is gone or cannot be fetched now gets err.
func (b *Mailbox) Summaries(ctx context.Context, uids []imap.UID, f func(uid imap.UID, s *Summary, err error) error) error {
	panic("stub")
}

// Store changes flags at the provider, then here. The mirror's own keywords are ignored.
func (b *Mailbox) Store(ctx context.Context, uids imap.UIDSet, flags *imap.StoreFlags) error {
	panic("stub")
}

// Expunge removes messages with \Deleted (all, or those in uids).
func (b *Mailbox) Expunge(ctx context.Context, uids *imap.UIDSet) error { panic("stub") }

// Copy and Move to another mailbox of the account.
func (b *Mailbox) Copy(ctx context.Context, uids imap.UIDSet, to string) (*imap.CopyData, error) {
	panic("stub")
}
func (b *Mailbox) Move(ctx context.Context, uids imap.UIDSet, to string) (*imap.CopyData, error) {
	panic("stub")
}

// Search returns the UIDs that match, ascending. Sequence numbers in the criteria refer to seq: the
// UIDs of the session's view in order. Text criteria are exact substrings, case-folded, over decrypted
// text (RFC 9051 §6.4.4); messages not yet opened are opened: nothing that exists is missed.
func (b *Mailbox) Search(ctx context.Context, c *imap.SearchCriteria, seq []imap.UID) ([]imap.UID, error) {
	panic("stub")
}
