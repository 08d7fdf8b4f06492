package imapd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// verb is a command that the session answers itself, through the gate.
type verb struct {
	selected bool // a mailbox must be
	// numbered commands give or take sequence numbers: no EXPUNGE may come with their answer
	// (RFC 9051 §7.5.1).
	numbered bool
	run      func(s *session, r *request) error
}

// request is one command of a client to a verb.
type request struct {
	arguments
	*output
	tag string
	uid bool // the UID form
}

// verbs are what the library lacks or cannot do exactly: FETCH knows no PREVIEW, writes dates of its
// own making and panics at odd structures; SEARCH loses keys; the others it does not have at all.
var verbs = map[string]verb{
	"FETCH":      {selected: true, numbered: true, run: (*session).fetch},
	"UID FETCH":  {selected: true, run: (*session).fetch},
	"STORE":      {selected: true, numbered: true, run: (*session).store},
	"UID STORE":  {selected: true, run: (*session).store},
	"SEARCH":     {selected: true, numbered: true, run: (*session).search},
	"UID SEARCH": {selected: true, run: (*session).search},
	"SORT":       {selected: true, numbered: true, run: (*session).sort},
	"UID SORT":   {selected: true, run: (*session).sort},
	"THREAD":     {selected: true, numbered: true, run: (*session).thread},
	"UID THREAD": {selected: true, run: (*session).thread},

	"STATUS": {run: (*session).answerStatus},

	"GETQUOTA":     {run: (*session).getQuota},
	"GETQUOTAROOT": {run: (*session).getQuotaRoot},
	"SETQUOTA":     {run: (*session).setQuota},
}

// answer runs a verb, while the library waits for the next command.
func (g *gate) answer(v verb, c *command) error {
	s := g.session.Load()
	switch {
	case s == nil || !g.authenticated.Load():
		return g.refuse(c, "BAD Log in first")
	case v.selected && !s.hasSelected():
		return g.refuse(c, "BAD Select a mailbox first")
	}
	r := &request{arguments: arguments{c.args}, output: newOutput(gateWriter{g}, s.takesUTF8()), tag: c.tag, uid: strings.HasPrefix(c.name, "UID ")}
	err := v.run(s, r)
	var syntax refused
	if errors.As(err, &syntax) {
		return g.refuse(c, string(syntax))
	}
	if err == nil || isNo(err) {
		if updated := s.tellChanges(r.output, !v.numbered); updated != nil {
			return updated
		}
	}
	r.raw(c.tag, " ", status(err, c.name), "\r\n")
	return r.Flush()
}

// isNo says whether the command failed, but not the connection.
func isNo(err error) bool {
	var response *imap.Error
	return errors.As(err, &response)
}

// status is the text of the tagged response.
func status(err error, name string) string {
	var response *imap.Error
	switch {
	case err == nil:
		return "OK " + name + " completed"
	case !errors.As(err, &response):
		response = no(imap.ResponseCodeServerBug, "Sealpost could not do that; its log says why")
	}
	code := ""
	if response.Code != "" {
		code = fmt.Sprintf("[%s] ", response.Code)
	}
	return fmt.Sprintf("%s %s%s", response.Type, code, response.Text)
}

// gateWriter writes what the session says itself.
type gateWriter struct{ g *gate }

func (w gateWriter) Write(p []byte) (int, error) {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	if err := w.g.write(p); err != nil {
		_ = w.g.conn().Close() // half a response may be written
		return 0, err
	}
	return len(p), nil
}

func (s *session) hasSelected() bool {
	_, err := s.selected()
	return err == nil
}

// takesUTF8 says whether the client has enabled UTF-8 in quoted strings.
func (s *session) takesUTF8() bool {
	enabled := s.conn.EnabledCaps()
	return enabled.Has(imap.CapIMAP4rev2) || enabled.Has(imap.CapUTF8Accept)
}

// tellChanges tells the client what has changed, as Poll does for the library's commands.
func (s *session) tellChanges(o *output, allowExpunge bool) error {
	box, err := s.selected()
	if err != nil {
		return nil
	}
	return s.update(o, box, allowExpunge)
}
