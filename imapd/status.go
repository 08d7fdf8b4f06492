package imapd

import (
	"strconv"

	"github.com/emersion/go-imap/v2"
)

// statusItem is an item of STATUS: how it is asked for, and its value in the answer.
type statusItem struct {
	ask   func(o *imap.StatusOptions)
	value func(d *imap.StatusData, mailboxID string) string
}

// statusItems of RFC 9051 §6.3.11, RFC 3501 §6.3.10, RFC 7889, RFC 8438 and RFC 8474 §4.3. The library knows
// nothing of the last.
var statusItems = map[string]statusItem{
	"MESSAGES":        {value: func(d *imap.StatusData, _ string) string { return number(d.NumMessages) }},
	"UIDNEXT":         {value: func(d *imap.StatusData, _ string) string { return number(&d.UIDNext) }},
	"UIDVALIDITY":     {value: func(d *imap.StatusData, _ string) string { return number(&d.UIDValidity) }},
	"UNSEEN":          {value: func(d *imap.StatusData, _ string) string { return number(d.NumUnseen) }},
	"DELETED":         {value: func(d *imap.StatusData, _ string) string { return number(d.NumDeleted) }},
	"RECENT":          {value: func(d *imap.StatusData, _ string) string { return number(d.NumRecent) }},
	"APPENDLIMIT":     {value: func(d *imap.StatusData, _ string) string { return number(d.AppendLimit) }},
	"SIZE":            {func(o *imap.StatusOptions) { o.Size = true }, func(d *imap.StatusData, _ string) string { return number(d.Size) }},
	"DELETED-STORAGE": {func(o *imap.StatusOptions) { o.DeletedStorage = true }, func(d *imap.StatusData, _ string) string { return number(d.DeletedStorage) }},
	"MAILBOXID":       {value: func(_ *imap.StatusData, id string) string { return "(" + id + ")" }},
}

func number[N ~uint32 | ~int64](n *N) string { return strconv.FormatInt(int64(*n), 10) }

// answerStatus answers STATUS.
func (s *session) answerStatus(r *request) error {
	written := r.rest
	name, err := r.mailbox()
	if err != nil {
		return err
	}
	written = written[:len(written)-len(r.rest)]
	names, options, err := r.statusItems(s.gate.objectIDs.Load())
	if err != nil {
		return err
	}
	data, id, err := s.status(name, options)
	if err != nil {
		return err
	}
	r.raw("* STATUS ", written, " (")
	separator := ""
	for _, item := range names {
		if item == "MAILBOXID" && id == "" {
			continue // the provider has not told yet
		}
		r.raw(separator, item, " ", statusItems[item].value(data, id))
		separator = " "
	}
	r.raw(")\r\n")
	return nil
}

// statusItems reads what is asked for.
func (r *request) statusItems(objectIDs bool) (names []string, options *imap.StatusOptions, err error) {
	options = &imap.StatusOptions{}
	if err := r.space(); err != nil {
		return nil, nil, err
	}
	err = r.list(func() error {
		name, err := r.word()
		item, ok := statusItems[name]
		if err != nil || !ok || name == "MAILBOXID" && !objectIDs {
			return malformed
		}
		if item.ask != nil {
			item.ask(options)
		}
		names = append(names, name)
		return nil
	})
	if err == nil && len(names) == 0 {
		err = malformed
	}
	if err == nil {
		err = r.end()
	}
	return names, options, err
}
