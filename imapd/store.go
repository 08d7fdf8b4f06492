package imapd

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// store changes flags (RFC 9051 §6.4.6).
func (s *session) store(r *request) error {
	set, err := r.set()
	if err == nil {
		err = r.space()
	}
	if err != nil {
		return err
	}
	flags, err := r.storeFlags()
	if err != nil {
		return err
	}
	box, err := s.writable()
	if err != nil {
		return err
	}
	messages, err := s.resolve(box, set.of(r.uid))
	if err != nil || len(messages) == 0 {
		return err
	}
	if err := box.Store(s.ctx, uidSet(messages), flags); err != nil {
		return s.failed(err)
	}
	return box.view.afterStore(r.output, box.Snapshot(), messages, flags, r.uid)
}

// storeFlags reads what is to be done with which flags.
func (a *arguments) storeFlags() (*imap.StoreFlags, error) {
	name, err := a.word()
	if err == nil {
		err = a.space()
	}
	if err != nil {
		return nil, err
	}
	name, silent := strings.CutSuffix(name, ".SILENT")
	op, ok := map[string]imap.StoreFlagsOp{"FLAGS": imap.StoreFlagsSet, "+FLAGS": imap.StoreFlagsAdd, "-FLAGS": imap.StoreFlagsDel}[name]
	if !ok {
		return nil, malformed
	}
	flags, err := a.flags()
	return &imap.StoreFlags{Op: op, Silent: silent, Flags: flags}, err
}

// flags reads a list of flags to the end of the command, with or without parentheses.
func (a *arguments) flags() (flags []imap.Flag, err error) {
	one := func() error {
		name := a.until(" ()")
		if !isFlag(strings.TrimPrefix(name, `\`)) {
			return malformed
		}
		flags = append(flags, imap.Flag(name))
		return nil
	}
	if a.next() == '(' {
		err = a.list(one)
	} else {
		for err = one(); err == nil && a.skip(' '); {
			err = one()
		}
	}
	if err == nil {
		err = a.end()
	}
	return slices.DeleteFunc(flags, func(f imap.Flag) bool { return strings.EqualFold(string(f), string(flagRecent)) }), err
}

// Store is for the library, which never gets to see the command: see verbs.
func (s *session) Store(*imapserver.FetchWriter, imap.NumSet, *imap.StoreFlags, *imap.StoreOptions) error {
	return errNotSelected
}
