package imapd

import (
	"testing"

	"github.com/sealpost/sealpost/bridge/mirror"
)

func TestNamespacePrefix(t *testing.T) {
	for want, names := range map[string][]string{
		"":       {"INBOX"},
		"INBOX.": {"INBOX", "INBOX.Sent", "INBOX.Work.2026"},
	} {
		if got := namespacePrefix(infos(names)); got != want {
			t.Errorf("%q: %q", names, got)
		}
	}
	for _, names := range [][]string{nil, {"INBOX", "Sent"}, {"INBOX", "INBOX.Sent", "Archive"}, {"INBOX", "INBOXES"}} {
		if got := namespacePrefix(infos(names)); got != "" {
			t.Errorf("%q: %q", names, got)
		}
	}
}

func infos(names []string) []mirror.MailboxInfo {
	var all []mirror.MailboxInfo
	for _, name := range names {
		all = append(all, mirror.MailboxInfo{Name: name, Delim: '.'})
	}
	return all
}
