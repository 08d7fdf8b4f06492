package bridge

import (
	"context"
	"strings"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/keydisc"
)

// Contact is what is known of one address, Fingerprint which certificate is meant, LogEntry one entry of the log of
// decisions.
type (
	Contact     = contacts.Contact
	Fingerprint = keydisc.Fingerprint
	LogEntry    = audit.Entry
)

// NewestDecisions are at most limit entries of the log before seq (0: all), the newest first, of which the recipient,
// the account or the mailbox holds text ("": any), in any case of letters. more says that there are older ones.
func (b *Bridge) NewestDecisions(ctx context.Context, text string, before int64, limit int) (found []LogEntry, more bool, err error) {
	text = strings.ToLower(text)
	err = b.audit.Newest(ctx, before, func(e LogEntry) bool {
		if !strings.Contains(strings.ToLower(strings.Join([]string{e.Recipient, e.Account, e.Mailbox}, "\n")), text) {
			return true
		}
		more = len(found) == limit
		if !more {
			found = append(found, e)
		}
		return !more
	})
	return found, more, err
}
