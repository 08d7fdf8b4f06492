package mirror

import (
	"context"
	"database/sql"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"
)

// own are the keywords that say what the mirror found on opening. They exist here only
// and are never stored at the provider, nor believed if the provider has them.
var own = []imap.Flag{"$Encrypted", "$SignedGood", "$SignedBad", "$SignerVerified", "$DecryptFailed"}

// foreign are the flags that belong to the provider: without the mirror's keywords and
// without \Recent, which cannot be stored (RFC 3501 §2.3.2).
func foreign(flags []imap.Flag) []imap.Flag {
	var kept []imap.Flag
	for _, f := range flags {
		if !hasFlag(own, f) && !strings.EqualFold(string(f), `\Recent`) && !hasFlag(kept, f) {
			kept = append(kept, f)
		}
	}
	return kept
}

// hasFlag compares as RFC 9051 §2.3.2 has it: flags are not case-sensitive.
func hasFlag(flags []imap.Flag, f imap.Flag) bool {
	return slices.ContainsFunc(flags, func(g imap.Flag) bool { return strings.EqualFold(string(f), string(g)) })
}

// joinFlags is the form of flags in the database; neither flags nor attributes contain spaces.
func joinFlags[F ~string](flags []F) string {
	s := make([]string, len(flags))
	for i, f := range flags {
		s[i] = string(f)
	}
	return strings.Join(s, " ")
}

func splitFlags[F ~string](s string) []F {
	var flags []F
	for f := range strings.FieldsSeq(s) {
		flags = append(flags, F(f))
	}
	return flags
}

// flagSets interns sets of flags: most messages share a few.
type flagSets struct {
	mu    sync.Mutex
	known map[string][]imap.Flag
}

// maxFlagSets bounds the table: a mailbox with a keyword per message must not pile them up.
const maxFlagSets = 10_000

// intern returns one shared slice for equal sets of flags.
func (m *Mirror) intern(joined string) []imap.Flag {
	s := &m.flags
	s.mu.Lock()
	defer s.mu.Unlock()
	flags, ok := s.known[joined]
	if !ok {
		if s.known == nil || len(s.known) > maxFlagSets {
			s.known = map[string][]imap.Flag{}
		}
		flags = splitFlags[imap.Flag](joined)
		s.known[joined] = flags
	}
	return flags
}

// SetKeywords changes what the mirror says about an opened message, when that is no longer the
// truth: its signer has been verified since. Other flags than the mirror's own are ignored.
// Copies in other mailboxes follow when these are loaded again. ErrExpunged if it is gone.
func (b *Mailbox) SetKeywords(ctx context.Context, uid imap.UID, keywords []imap.Flag) error {
	defer runtime.KeepAlive(b)
	b.write.Lock()
	defer b.write.Unlock()
	r, ok := b.row(uid)
	if !ok {
		return ErrExpunged
	}
	if r.content == 0 {
		return nil // opening it will find the truth
	}
	words := joinFlags(slices.DeleteFunc(slices.Clone(keywords), func(f imap.Flag) bool { return !hasFlag(own, f) }))
	if words == r.words {
		return nil
	}
	e := edit{put: []row{b.m.with(r, r.flags, words)}}
	return b.commit(ctx, e, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE content SET keywords = ? WHERE id = ?`, words, r.content)
		return err
	})
}
