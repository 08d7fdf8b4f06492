package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/upstream"
)

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func TestListAndSpecialUse(t *testing.T) {
	r := newRig(t)
	list, err := r.List(t.Context())
	check(t, err)
	if list[0].Name != "INBOX" || len(list) < 6 {
		t.Fatalf("list: %+v", list)
	}
	if name, ok := r.SpecialUse(t.Context(), imap.MailboxAttrSent); !ok || name != "Sent" {
		t.Errorf("sent mailbox is %q, %v", name, ok)
	}
	check(t, r.Create(t.Context(), "Projekte/Äpfel", nil))
	check(t, r.Subscribe(t.Context(), "Projekte/Äpfel", true))
	check(t, r.Rename(t.Context(), "Projekte/Äpfel", "Projekte/Birnen"))
	if _, err := r.Mailbox(t.Context(), "Projekte/Äpfel"); !errors.Is(err, ErrNoMailbox) {
		t.Errorf("the old name: %v", err)
	}
	r.mailbox("Projekte/Birnen")
	check(t, r.Delete(t.Context(), "Projekte/Birnen"))
	if _, err := r.Mailbox(t.Context(), "Projekte/Birnen"); !errors.Is(err, ErrNoMailbox) {
		t.Errorf("a deleted mailbox: %v", err)
	}
	var refused *imap.Error
	if err := r.Delete(t.Context(), "nowhere"); !errors.As(err, &refused) {
		t.Errorf("deleting a mailbox that is not there: %v", err)
	}
}

func TestRenameKeepsWhatIsKnown(t *testing.T) {
	r := newRig(t)
	check(t, r.Create(t.Context(), "Old", nil))
	uid := r.deliver("Old", letter("a", "b"))
	b := r.refreshed("Old")
	if _, err := b.Content(t.Context(), uid); err != nil {
		t.Fatal(err)
	}
	check(t, r.Rename(t.Context(), "Old", "New"))
	b = r.refreshed("New")
	c, err := b.Content(t.Context(), uid)
	check(t, err)
	check(t, c.Message.Close())
	if n := r.opens.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}
}

func TestContent(t *testing.T) {
	r := newRig(t)
	stored := encryptedMark + letter("Grüße", "Guten Tag")
	uid := r.deliver("INBOX", stored)
	b := r.refreshed("INBOX")
	c, err := b.Content(t.Context(), uid)
	check(t, err)
	want := statusField + letter("Grüße", "Guten Tag")
	if got := read(c.Message); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if c.Kind != Encrypted || string(c.Header) != want[:strings.Index(want, "\r\n\r\n")+4] || c.Structure.Body.End != int64(len(want)) {
		t.Errorf("content: %+v", c)
	}
	check(t, c.Message.Close())
	if s := b.Snapshot(); !slices.Contains(s.Messages[0].Flags, "$Encrypted") {
		t.Errorf("flags %v", s.Messages[0].Flags)
	}
	got, err := r.Stored(t.Context(), "INBOX", uid)
	check(t, err)
	defer got.Close()
	if read(got) != stored {
		t.Errorf("stored: %q", read(got))
	}
	if _, err := b.Content(t.Context(), 99); !errors.Is(err, ErrExpunged) {
		t.Errorf("a message that is not there: %v", err)
	}
}

// A connection that selected the mailbox before a message came need not show it.
func TestNewMessageIsOpenedWhateverConnectionsAreKept(t *testing.T) {
	r := newRig(t)
	r.refreshed("INBOX")
	var kept []*upstream.Conn
	for range 3 {
		c, err := r.o.Provider.Acquire(t.Context(), "INBOX")
		check(t, err)
		kept = append(kept, c)
	}
	for _, c := range kept {
		r.o.Provider.Release(c)
	}
	uid := r.deliver("INBOX", letter("New", "came later"))
	c, err := r.refreshed("INBOX").Content(t.Context(), uid)
	check(t, err)
	check(t, c.Message.Close())
}

func TestSummariesGoOnPastBadMessages(t *testing.T) {
	r := newRig(t)
	var all []imap.UID
	for i := range 30 {
		mark := map[int]string{7: brokenMark, 11: panicMark}[i]
		all = append(all, r.deliver("INBOX", mark+letter(fmt.Sprint(i), "x")))
	}
	all = append(all, 999)
	var good, bad []imap.UID
	err := r.refreshed("INBOX").Summaries(t.Context(), all, func(uid imap.UID, s *Summary, err error) error {
		if err != nil {
			bad = append(bad, uid)
		} else if root, err := s.Structure(); err != nil || s.Kind != Clear || s.Size == 0 || root.Envelope["subject"] == "" {
			t.Errorf("summary of %d: %+v", uid, s)
		} else {
			good = append(good, uid)
		}
		return nil
	})
	check(t, err)
	if len(good) != 28 || !slices.Equal(bad, []imap.UID{all[7], all[11], 999}) {
		t.Errorf("good %v, bad %v", good, bad)
	}
	counts, err := r.Counts(t.Context())
	check(t, err)
	if counts.Messages != 30 || counts.Opened != 28 || counts.Clear != 28 {
		t.Errorf("counts: %+v", counts)
	}
}

// What is judged anew, or fetched again, is what the client was shown, or nothing.
func TestOtherBytesUnderTheSameUID(t *testing.T) {
	r := newRig(t, func(o *Options) { o.CacheSize = 1 })
	texts := []string{letter("One", "text"), encryptedMark + letter("Two", "text")}
	uid := r.deliver("INBOX", texts[0])
	b := r.refreshed("INBOX")
	content, err := b.Content(t.Context(), uid)
	check(t, err)
	defer content.Message.Close()
	always := func(string, []imap.Flag) bool { return true }
	for i, text := range []string{texts[1], texts[0]} {
		check(t, r.provider.Replace(alice, "INBOX", uint32(uid), []byte(text)))
		check(t, r.Reconsider(t.Context(), "bob@bravo.test", always))
		if flags := b.Snapshot().Messages[0].Flags; len(flags) > 0 {
			t.Errorf("flags %v", flags)
		}
		c, err := b.Content(t.Context(), uid)
		check(t, err)
		if got := read(c.Message); strings.HasPrefix(got, "error: ") != (i == 0) {
			t.Errorf("%q", got)
		}
		check(t, c.Message.Close())
	}
}

func TestEvictedMessagesAreFetchedAgain(t *testing.T) {
	big := letter("big", strings.Repeat("0123456789abcdef", 100_000)) // 1.6 MB: several chunks
	for name, size := range map[string]int64{"smaller than a message": 1 << 20, "room for one": 2 << 20} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.CacheSize = size })
			first, second := r.deliver("INBOX", big), r.deliver("INBOX", big)
			b := r.refreshed("INBOX")
			for range 2 {
				for _, uid := range []imap.UID{first, second} {
					c, err := b.Content(t.Context(), uid)
					check(t, err)
					if got := read(c.Message); got != statusField+big {
						t.Errorf("message %d: %d bytes", uid, len(got))
					}
					check(t, c.Message.Close())
				}
			}
			var held int64
			check(t, r.o.DB.Read().QueryRow(`SELECT coalesce(sum(length(data)), 0) FROM chunk`).Scan(&held))
			if held > size || held != r.cached.Load() {
				t.Errorf("the cache holds %d bytes, counts %d, limit %d", held, r.cached.Load(), size)
			}
		})
	}
}

func TestEachStored(t *testing.T) {
	r := newRig(t)
	want := map[imap.UID]string{}
	for i := range 70 {
		m := letter(fmt.Sprint(i), strings.Repeat("x", i*100))
		want[r.deliver("INBOX", m)] = m
	}
	got := map[imap.UID]string{}
	check(t, r.EachStored(t.Context(), "INBOX", func(uid imap.UID, stored mimescan.Source) error {
		got[uid] = read(stored)
		return nil
	}))
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	stop := errors.New("stop")
	if err := r.EachStored(t.Context(), "INBOX", func(imap.UID, mimescan.Source) error { return stop }); err != stop {
		t.Errorf("error of the callback: %v", err)
	}
}

func TestStore(t *testing.T) {
	r := newRig(t)
	a, b := r.deliver("INBOX", encryptedMark+letter("a", "")), r.deliver("INBOX", letter("b", ""), `\Seen`)
	box := r.refreshed("INBOX")
	c, err := box.Content(t.Context(), a)
	check(t, err)
	check(t, c.Message.Close())
	all := imap.UIDSet{{Start: 1, Stop: 4294967295}}
	check(t, box.Store(t.Context(), all, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged, "$SignedGood"}}))
	check(t, box.Store(t.Context(), imap.UIDSet{{Start: 0, Stop: 0}}, &imap.StoreFlags{Op: imap.StoreFlagsDel, Flags: []imap.Flag{imap.FlagSeen}}))
	check(t, box.Store(t.Context(), imap.UIDSetNum(a), &imap.StoreFlags{Op: imap.StoreFlagsSet, Flags: []imap.Flag{"Work"}}))
	_, flags := r.atProvider("INBOX")
	if d := cmp.Diff(map[imap.UID]string{a: "Work", b: `\Flagged`}, lower(flags, "work", "Work")); d != "" {
		t.Errorf("at the provider: %s", d)
	}
	s := box.Snapshot()
	if !hasFlag(s.Messages[0].Flags, "Work") || !hasFlag(s.Messages[0].Flags, "$Encrypted") || len(s.Messages[0].Flags) != 2 {
		t.Errorf("shown: %s", describe(s))
	}
}

func TestKeywordsFollowTheTruth(t *testing.T) {
	r := newRig(t)
	uid := r.deliver("INBOX", encryptedMark+letter("a", ""), `\Seen`)
	b := r.refreshed("INBOX")
	c, err := b.Content(t.Context(), uid)
	check(t, err)
	check(t, c.Message.Close())
	before := b.Snapshot()
	check(t, b.SetKeywords(t.Context(), uid, []imap.Flag{"$Encrypted", "$SignerVerified", imap.FlagFlagged}))
	want := []imap.Flag{imap.FlagSeen, "$Encrypted", "$SignerVerified"}
	if s := b.Snapshot(); !slices.Equal(s.Messages[0].Flags, want) || s.Version <= before.Version {
		t.Errorf("shown: %s", describe(s))
	}
	r.restart()
	if s := r.mailbox("INBOX").Snapshot(); !slices.Equal(s.Messages[0].Flags, want) {
		t.Errorf("after a restart: %s", describe(s))
	}
	if err := b.SetKeywords(t.Context(), 99, nil); !errors.Is(err, ErrExpunged) {
		t.Errorf("a message that is not there: %v", err)
	}
}

// lower undoes a provider's folding of keywords.
func lower(m map[imap.UID]string, from, to string) map[imap.UID]string {
	for k, v := range m {
		m[k] = strings.ReplaceAll(v, from, to)
	}
	return m
}

func TestExpungeRemovesOnlyWhatIsMeant(t *testing.T) {
	r := newRig(t)
	var uids []imap.UID
	for i := range 4 {
		uids = append(uids, r.deliver("INBOX", letter(fmt.Sprint(i), ""), `\Deleted`))
	}
	box := r.refreshed("INBOX")
	hidden := r.deliver("INBOX", letter("unseen by the client", ""), `\Deleted`)
	one := imap.UIDSetNum(uids[1])
	check(t, box.Expunge(t.Context(), &one))
	if got, _ := r.atProvider("INBOX"); !slices.Equal(got, []imap.UID{uids[0], uids[2], uids[3], hidden}) {
		t.Fatalf("left: %v", got)
	}
	check(t, box.Expunge(t.Context(), nil))
	if got, _ := r.atProvider("INBOX"); !slices.Equal(got, []imap.UID{hidden}) {
		t.Errorf("left: %v", got)
	}
	if s := box.Snapshot(); len(s.Messages) != 0 {
		t.Errorf("shown: %s", describe(s))
	}
}

func TestCopyAndMoveReuseWhatIsOpen(t *testing.T) {
	r := newRig(t)
	a, b := r.deliver("INBOX", letter("a", "alpha")), r.deliver("INBOX", letter("b", "beta"))
	box := r.refreshed("INBOX")
	check(t, box.Summaries(t.Context(), []imap.UID{a, b}, func(imap.UID, *Summary, error) error { return nil }))
	copied, err := box.Copy(t.Context(), imap.UIDSetNum(a, b), "Archive")
	check(t, err)
	moved, err := box.Move(t.Context(), imap.UIDSetNum(b), "Archive")
	check(t, err)
	if !slices.Equal(uidsOf(box.Snapshot()), []imap.UID{a}) {
		t.Errorf("source: %s", describe(box.Snapshot()))
	}
	dest := r.mailbox("Archive")
	into, _ := copied.DestUIDs.Nums()
	last, _ := moved.DestUIDs.Nums()
	if got := uidsOf(dest.Snapshot()); !slices.Equal(got, append(into, last...)) || len(got) != 3 {
		t.Errorf("destination: %v, told %v %v", got, into, last)
	}
	c, err := dest.Content(t.Context(), last[0])
	check(t, err)
	if got := read(c.Message); got != statusField+letter("b", "beta") {
		t.Errorf("content: %q", got)
	}
	check(t, c.Message.Close())
	if n := r.opens.Load(); n != 2 {
		t.Errorf("opened %d times", n)
	}
	check(t, r.collect(t.Context()))
	if _, err := dest.Content(t.Context(), last[0]); err != nil {
		t.Errorf("after the collection: %v", err)
	}
	var refused *imap.Error
	if _, err := box.Copy(t.Context(), imap.UIDSetNum(a), "nowhere"); !errors.As(err, &refused) {
		t.Errorf("copy to nowhere: %v", err)
	}
}

func TestProviderWithoutMoveAndUIDPLUS(t *testing.T) {
	r := newRig(t)
	keep, go1 := r.deliver("INBOX", letter("keep", ""), `\Deleted`), r.deliver("INBOX", letter("go", ""))
	box := r.refreshed("INBOX")
	check(t, box.sync(t.Context()))
	c, err := r.o.Provider.Acquire(t.Context(), "INBOX")
	check(t, err)
	defer r.o.Provider.Release(c)
	delete(c.Caps(), imap.CapMove)
	delete(c.Caps(), imap.CapUIDPlus)
	_, gone, err := transferSet(c, imap.UIDSetNum(go1), "Archive", true)
	check(t, err)
	if !slices.Equal(gone, []imap.UID{go1}) {
		t.Errorf("gone: %v", gone)
	}
	if got, flags := r.atProvider("INBOX"); !slices.Equal(got, []imap.UID{keep}) || flags[keep] != `\Deleted` {
		t.Errorf("left: %v %v", got, flags)
	}
	if got, _ := r.atProvider("Archive"); len(got) != 1 {
		t.Errorf("moved: %v", got)
	}
	if _, _, err := transferSet(c, imap.UIDSetNum(keep), "nowhere", true); err == nil {
		t.Error("a move to nowhere succeeds")
	}
	if got, _ := r.atProvider("INBOX"); !slices.Equal(got, []imap.UID{keep}) {
		t.Errorf("lost in a failed move: %v", got)
	}
}

func TestAppend(t *testing.T) {
	r := newRig(t)
	r.mailbox("Drafts")
	message := sealedMark + letter("draft", strings.Repeat("line\r\n", 300_000)) // 1.8 MB
	data, err := r.Append(t.Context(), "Drafts", source(message), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft, "$SignedGood"}})
	check(t, err)
	b := r.mailbox("Drafts")
	s := b.Snapshot()
	if len(s.Messages) != 1 || s.Messages[0].UID != data.UID || !slices.Equal(s.Messages[0].Flags, []imap.Flag{imap.FlagDraft}) {
		t.Fatalf("shown: %s", describe(s))
	}
	c, err := b.Content(t.Context(), data.UID)
	check(t, err)
	if read(c.Message) != statusField+strings.TrimPrefix(message, sealedMark) || c.Kind != Sealed {
		t.Error("the content is not what was appended")
	}
	check(t, c.Message.Close())
	if n := r.opens.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}
	if stored := r.provider.Stored(alice); string(stored[0].Bytes) != message {
		t.Error("the provider stores something else")
	}
	var refused *imap.Error
	if _, err := r.Append(t.Context(), "nowhere", source(message), nil); !errors.As(err, &refused) || refused.Code != imap.ResponseCodeTryCreate {
		t.Errorf("append to nowhere: %v", err)
	}
}

type cutOff struct{ memory }

func (c cutOff) Size() int64 { return c.memory.Size() + 100 }

func TestAppendOfABrokenSourceStoresNothing(t *testing.T) {
	r := newRig(t)
	if _, err := r.Append(t.Context(), "Drafts", cutOff{source(letter("x", "y"))}, nil); err == nil {
		t.Error("no error")
	}
	if stored := r.provider.Stored(alice); len(stored) != 0 {
		t.Errorf("stored: %d messages", len(stored))
	}
}

func TestOfflineServesWhatIsKnown(t *testing.T) {
	r := newRig(t)
	uid := r.deliver("INBOX", letter("a", "b"))
	c, err := r.mailbox("INBOX").Content(t.Context(), uid)
	check(t, err)
	check(t, c.Message.Close())
	check(t, r.provider.Close())
	r.restart()
	b := r.mailbox("INBOX")
	c, err = b.Content(t.Context(), uid)
	check(t, err)
	if got := read(c.Message); got != statusField+letter("a", "b") {
		t.Errorf("offline: %q", got)
	}
	check(t, c.Message.Close())
	if _, err := r.Mailbox(t.Context(), "Sent"); !errors.Is(err, ErrOffline) {
		t.Errorf("a mailbox never synced: %v", err)
	}
	if err := b.Store(t.Context(), imap.UIDSetNum(uid), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}}); !errors.Is(err, ErrOffline) {
		t.Errorf("store: %v", err)
	}
	if len(b.Snapshot().Messages[0].Flags) != 0 {
		t.Error("a change the provider has not made is shown")
	}
}

// view is an opened message that holds no bytes of its own.
type view struct{ mimescan.Source }

func (view) Close() error { return nil }

func TestOpenMayReturnAViewOfWhatIsStored(t *testing.T) {
	message := letter("large", strings.Repeat("0123456789abcdef\r\n", 150_000))
	for name, size := range map[string]int64{"cached": 1 << 30, "not cached": 1} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) {
				o.CacheSize = size
				o.Open = func(_ context.Context, stored mimescan.Source) (*Opened, error) {
					return &Opened{Message: view{stored}, Kind: Clear, Hash: []byte("hash")}, nil
				}
			})
			uid := r.deliver("INBOX", message)
			c, err := r.refreshed("INBOX").Content(t.Context(), uid)
			check(t, err)
			if got := read(c.Message); got != message {
				t.Errorf("%d bytes instead of %d", len(got), len(message))
			}
			tail := make([]byte, 100)
			if n, err := c.Message.ReadAt(tail, int64(len(message))-40); n != 40 || err != io.EOF || string(tail[:n]) != message[len(message)-40:] {
				t.Errorf("the end: %d bytes, %v", n, err)
			}
			check(t, c.Message.Close())
			if _, err := c.Message.ReadAt(tail, 0); err == nil {
				t.Error("a closed message can be read")
			}
		})
	}
}

func TestReadingLargeMessagesTakesLittleMemory(t *testing.T) {
	const size = 40 << 20
	r := newRig(t, func(o *Options) {
		o.Open = func(_ context.Context, stored mimescan.Source) (*Opened, error) {
			return &Opened{Message: view{stored}, Kind: Clear, Hash: []byte("hash")}, nil
		}
	})
	uid := r.deliver("INBOX", "Content-Type: application/octet-stream\r\n\r\n"+strings.Repeat("0123456789abcde\n", size/16))
	b := r.refreshed("INBOX")
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := before.HeapAlloc
	c, err := b.Content(t.Context(), uid)
	check(t, err)
	defer c.Message.Close()
	piece := make([]byte, 1<<20)
	for off := int64(0); off < c.Message.Size(); off += int64(len(piece)) {
		_, err := c.Message.ReadAt(piece, off)
		if err != io.EOF {
			check(t, err)
		}
		if off%(8<<20) == 0 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc)
		}
	}
	if grown := peak - before.HeapAlloc; grown > size/4 {
		t.Errorf("reading a message of %d bytes holds %d in memory", size, grown)
	}
}
