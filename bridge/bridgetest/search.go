package bridgetest

import (
	"bufio"
	"bytes"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-message/textproto"
)

// matches evaluates SEARCH keys (RFC 3501 §6.4.4) over the stored bytes: this provider decodes nothing.
func (v *view) matches(c *imap.SearchCriteria, seq uint32, m *message) bool {
	for _, set := range c.SeqNum {
		if !v.contains(set)(seq, m.uid) {
			return false
		}
	}
	for _, set := range c.UID {
		if !v.contains(set)(seq, m.uid) {
			return false
		}
	}
	for i := range c.Not {
		if v.matches(&c.Not[i], seq, m) {
			return false
		}
	}
	for i := range c.Or {
		if !v.matches(&c.Or[i][0], seq, m) && !v.matches(&c.Or[i][1], seq, m) {
			return false
		}
	}
	return m.matchesFlags(c) && m.matchesDates(c) && m.matchesText(c)
}

func (m *message) matchesFlags(c *imap.SearchCriteria) bool {
	size := int64(len(m.bytes))
	return !slices.ContainsFunc(c.Flag, func(f imap.Flag) bool { return !m.has(f) }) && !slices.ContainsFunc(c.NotFlag, m.has) &&
		(c.Larger == 0 || size > c.Larger) && (c.Smaller == 0 || size < c.Smaller)
}

func (m *message) matchesDates(c *imap.SearchCriteria) bool {
	if !between(m.date, c.Since, c.Before) {
		return false
	}
	if c.SentSince.IsZero() && c.SentBefore.IsZero() {
		return true
	}
	header := m.header()
	sent, err := mail.ParseDate(header.Get("Date"))
	return err == nil && between(sent, c.SentSince, c.SentBefore)
}

// between compares days, disregarding time and zone.
func between(t, since, before time.Time) bool {
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	return (since.IsZero() || !day.Before(since)) && (before.IsZero() || day.Before(before))
}

func (m *message) matchesText(c *imap.SearchCriteria) bool {
	_, text := m.split()
	for _, word := range c.Text {
		if !containsFold(m.bytes, word) {
			return false
		}
	}
	for _, word := range c.Body {
		if !containsFold(text, word) {
			return false
		}
	}
	for _, field := range c.Header {
		if !m.hasField(field.Key, field.Value) {
			return false
		}
	}
	return true
}

func (m *message) hasField(name, value string) bool {
	header := m.header()
	for fields := header.FieldsByKey(name); fields.Next(); {
		if containsFold([]byte(fields.Value()), value) {
			return true
		}
	}
	return false
}

func (m *message) header() textproto.Header {
	header, _ := textproto.ReadHeader(bufio.NewReader(bytes.NewReader(m.bytes)))
	return header
}

func containsFold(b []byte, word string) bool {
	return bytes.Contains(bytes.ToLower(b), []byte(strings.ToLower(word)))
}
