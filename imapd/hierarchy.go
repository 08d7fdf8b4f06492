package imapd

import (
	"regexp"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// withParents adds the names above mailboxes that are no mailboxes themselves: a pattern that ends in
// "%" shows them too (RFC 9051 §6.3.9). With subscribed only those above subscribed mailboxes
// count, and those that are not subscribed themselves (RFC 3501 §6.3.9, LSUB).
func withParents(all []mirror.MailboxInfo, subscribed bool) []mirror.MailboxInfo {
	known := map[string]bool{}
	for _, info := range all {
		known[info.Name] = !subscribed || info.Subscribed
	}
	for _, info := range slices.Clone(all) {
		if info.Delim == 0 || subscribed && !info.Subscribed {
			continue
		}
		for i, c := range info.Name {
			if name := info.Name[:i]; c == info.Delim && name != "" && !known[name] {
				known[name] = true
				all = append(all, mirror.MailboxInfo{Name: name, Delim: info.Delim, Subscribed: subscribed,
					Attrs: []imap.MailboxAttr{imap.MailboxAttrNonExistent, imap.MailboxAttrNoSelect}})
			}
		}
	}
	return all
}

// endsInPercent says whether one of the patterns shows names that are no mailboxes.
func endsInPercent(patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return strings.HasSuffix(p, "%") })
}

// mailboxCommands take mailbox names, which the library reads as modified UTF-7 (RFC 3501 §5.1.3).
var mailboxCommands = map[string]bool{"SELECT": true, "EXAMINE": true, "CREATE": true, "DELETE": true, "RENAME": true, "SUBSCRIBE": true,
	"UNSUBSCRIBE": true, "LIST": true, "LSUB": true, "COPY": true, "UID COPY": true, "MOVE": true, "UID MOVE": true}

var modifiedUTF7 = regexp.MustCompile(`^([^&]|&-|&[A-Za-z0-9+,]+-)*$`)

// refuseName answers a command whose mailbox name cannot be one; the library would end the connection.
func (g *gate) refuseName(c *command) error {
	if c.name == "LIST" || c.name == "LSUB" {
		return g.say(c.tag + " OK " + c.name + " completed") // it matches nothing
	}
	return g.refuse(c, "NO [CANNOT] The mailbox name is not modified UTF-7")
}
