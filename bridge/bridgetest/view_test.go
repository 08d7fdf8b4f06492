package bridgetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

func subject(i int) []byte { return fmt.Appendf(nil, "Subject: number %d\r\n\r\nbody %d\r\n", i, i) }

// uids asks the session for all UIDs it sees.
func uids(t *testing.T, c *imapclient.Client) []imap.UID {
	t.Helper()
	check(t, c.Noop().Wait())
	found, err := c.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
	check(t, err)
	return found.AllUIDs()
}

// TestSessionsAgree changes a mailbox through one session and directly, and looks through another.
func TestSessionsAgree(t *testing.T) {
	p := start(t, ProviderOptions{})
	var first uint32
	for i := range 10 {
		uid, err := p.Deliver(alice, "INBOX", subject(i))
		check(t, err)
		if i == 0 {
			first = uid
		}
	}
	if first != 1 {
		t.Fatalf("first UID %d", first)
	}
	writer, reader := login(t, p, alice, "INBOX", nil), login(t, p, alice, "INBOX", nil)
	check(t, writer.Store(imap.UIDSetNum(2, 5, 9), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
	check(t, writer.UIDExpunge(imap.UIDSetNum(2, 9)).Close())
	check(t, p.Expunge(alice, "INBOX", 10))
	_, err := p.Deliver(alice, "INBOX", subject(11))
	check(t, err)
	moved, err := writer.Move(imap.UIDSetNum(1), "Archive").Wait()
	check(t, err)
	if got, _ := moved.DestUIDs.(imap.UIDSet).Nums(); !slices.Equal(got, []imap.UID{1}) {
		t.Errorf("moved to %v", got)
	}
	want := []imap.UID{3, 4, 5, 6, 7, 8, 11}
	for name, c := range map[string]*imapclient.Client{"writer": writer, "reader": reader} {
		if got := uids(t, c); !slices.Equal(got, want) {
			t.Errorf("%s sees %v, want %v", name, got, want)
		}
		if n := c.Mailbox().NumMessages; n != uint32(len(want)) {
			t.Errorf("%s counts %d", name, n)
		}
		got, err := c.Fetch(imap.SeqSet{{Start: 3, Stop: 3}, {Start: 7, Stop: 0}}, &imap.FetchOptions{UID: true, Flags: true, Envelope: true}).Collect()
		check(t, err)
		if len(got) != 2 || got[0].UID != 5 || !slices.Contains(got[0].Flags, imap.FlagDeleted) || got[1].UID != 11 || got[1].Envelope.Subject != "number 11" {
			for _, m := range got {
				t.Errorf("%s fetched %d: UID %d, %v, %+v", name, m.SeqNum, m.UID, m.Flags, m.Envelope)
			}
		}
	}
}

// TestExpungeWaitsDuringFetch: a sequence number must not change its meaning in FETCH, STORE and SEARCH.
func TestExpungeWaitsDuringFetch(t *testing.T) {
	p := start(t, ProviderOptions{})
	for i := range 3 {
		_, err := p.Deliver(alice, "INBOX", subject(i))
		check(t, err)
	}
	c := login(t, p, alice, "INBOX", nil)
	check(t, p.Expunge(alice, "INBOX", 1))
	got, err := c.Fetch(imap.SeqSetNum(2), &imap.FetchOptions{UID: true}).Collect()
	check(t, err)
	if len(got) != 1 || got[0].UID != 2 || c.Mailbox().NumMessages != 3 {
		t.Errorf("fetched %+v of %d", got, c.Mailbox().NumMessages)
	}
	check(t, c.Noop().Wait())
	if n := c.Mailbox().NumMessages; n != 2 {
		t.Errorf("%d messages after NOOP", n)
	}
}

func TestSearch(t *testing.T) {
	p := start(t, ProviderOptions{})
	for i := range 4 {
		_, err := p.Deliver(alice, "INBOX", subject(i), map[bool]string{true: `\Seen`, false: "$Odd"}[i%2 == 0])
		check(t, err)
	}
	c := login(t, p, alice, "INBOX", nil)
	for name, test := range map[string]struct {
		criteria imap.SearchCriteria
		want     []imap.UID
	}{
		"subject": {imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "NUMBER 2"}}}, []imap.UID{3}},
		"body":    {imap.SearchCriteria{Body: []string{"body 1"}}, []imap.UID{2}},
		"flag":    {imap.SearchCriteria{Flag: []imap.Flag{"$odd"}}, []imap.UID{2, 4}},
		"unseen":  {imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}, UID: []imap.UIDSet{{{Start: 3, Stop: 0}}}}, []imap.UID{4}},
		"not":     {imap.SearchCriteria{Not: []imap.SearchCriteria{{Text: []string{"3"}}}}, []imap.UID{1, 2, 3}},
		"or":      {imap.SearchCriteria{Or: [][2]imap.SearchCriteria{{{Text: []string{"body 0"}}, {Text: []string{"body 3"}}}}}, []imap.UID{1, 4}},
		"largest": {imap.SearchCriteria{UID: []imap.UIDSet{{{Start: 4294967295, Stop: 4294967295}}}}, nil},
		"larger":  {imap.SearchCriteria{Larger: 1000}, nil},
	} {
		found, err := c.UIDSearch(&test.criteria, nil).Wait()
		check(t, err)
		if got := found.AllUIDs(); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestResetUIDValidity(t *testing.T) {
	p := start(t, ProviderOptions{})
	for i := range 3 {
		_, err := p.Deliver(alice, "INBOX", subject(i))
		check(t, err)
	}
	check(t, p.Expunge(alice, "INBOX", 1))
	c := login(t, p, alice, "", nil)
	before, err := c.Status("INBOX", &imap.StatusOptions{UIDValidity: true}).Wait()
	check(t, err)
	check(t, p.ResetUIDValidity(alice, "INBOX"))
	after, err := c.Status("INBOX", &imap.StatusOptions{UIDValidity: true, UIDNext: true}).Wait()
	check(t, err)
	if before.UIDValidity >= after.UIDValidity || after.UIDNext != 3 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestMailboxes(t *testing.T) {
	p := start(t, ProviderOptions{Mailboxes: []string{"Sent", "A/B"}})
	c := login(t, p, alice, "", nil)
	if c.Delete("A").Wait() == nil || c.Delete("INBOX").Wait() == nil || c.Create("inbox", nil).Wait() == nil {
		t.Error("what must be refused was not")
	}
	check(t, c.Rename("A", "Größe", nil).Wait())
	check(t, c.Unsubscribe("Sent").Wait())
	list, err := c.List("", "*", &imap.ListOptions{SelectSubscribed: true}).Collect()
	check(t, err)
	var names []string
	for _, m := range list {
		names = append(names, m.Mailbox)
	}
	// A was made along with A/B, and nobody subscribed to it.
	if want := []string{"Größe/B", "INBOX"}; !slices.Equal(names, want) {
		t.Errorf("subscribed %q, want %q", names, want)
	}
	check(t, c.Delete("Größe/B").Wait())
	check(t, c.Delete("Größe").Wait())
}
