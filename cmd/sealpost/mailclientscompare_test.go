//go:build peers

package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/google/go-cmp/cmp"
)

// TestLikeDovecot gives the same commands to the bridge, with sealing off, and to Dovecot, for two accounts with the
// same mail: the answers are the same but for what is listed in differs.
func TestLikeDovecot(t *testing.T) {
	s := newSite(t)
	names := s.fillOdd(alice)
	s.fillOdd(load)
	u := s.newUser(alice, false)
	u.reconfigure("smtp ", "seal = \"off\"\nsmtp ")
	u.start()
	o := s.provider.IMAPOptions(load)
	dovecot := newTwin(t, "localhost:"+o.IMAP, o.CAFile, o.Username, o.Password)
	bridge := newTwin(t, u.client.IMAPS, u.client.CAFile, u.client.Username, u.client.Password)
	met := map[string]bool{}
	for _, c := range comparisons(names) {
		if diff := cmp.Diff(c.do(dovecot), c.do(bridge)); diff != "" {
			pattern := listed(c.name)
			met[pattern] = true
			if pattern == "" {
				t.Errorf("%s: Dovecot (-) and the bridge (+) differ:\n%s", c.name, diff)
			}
		}
	}
	for _, d := range differs {
		if !met[d.pattern] {
			t.Errorf("%s: no difference any more; strike it from the list (%s)", d.pattern, d.reason)
		}
	}
}

// comparison is a command; its name is for differs.
type comparison struct {
	name string
	do   func(*twin) string
}

var (
	statusField = regexp.MustCompile(`X-Sealpost-Status: [^\r\n]*\r\n`)
	ownKeywords = []imap.Flag{"$Encrypted", "$SignedGood", "$SignedBad", "$SignerVerified", "$DecryptFailed"}
)

// show is an answer, or what kind of error there is instead: each server has its own words for it.
func show(answer any, err error) string {
	var refused *imap.Error
	if errors.As(err, &refused) {
		return string(refused.Type)
	}
	if err != nil {
		return err.Error()
	}
	text, err := json.MarshalIndent(answer, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func comparisons(names []string) []comparison {
	return slices.Concat(mailboxCommands(), fetches(names), searches(), changes())
}

func mailboxCommands() []comparison {
	list := func(reference, pattern string, o *imap.ListOptions) func(*twin) string {
		return func(w *twin) string {
			found, err := w.List(reference, pattern, o).Collect()
			var lines []string
			for _, m := range found {
				line := fmt.Sprintf("%s %c %v", m.Mailbox, m.Delim, attributes(m.Attrs, o))
				if m.Status != nil {
					line += show(m.Status, nil)
				}
				lines = append(lines, line)
			}
			slices.Sort(lines) // the order is the server's choice
			return show(lines, err)
		}
	}
	simple := func(do func(*twin) *imapclient.Command) func(*twin) string {
		return func(w *twin) string { return show("", do(w).Wait()) }
	}
	create := func(name string) func(*twin) string {
		return simple(func(w *twin) *imapclient.Command { return w.Create(name, nil) })
	}
	status := &imap.StatusOptions{NumMessages: true, UIDNext: true, NumUnseen: true}
	selected := func(mailbox string, readOnly bool) func(*twin) string {
		return func(w *twin) string {
			data, err := w.Select(mailbox, &imap.SelectOptions{ReadOnly: readOnly}).Wait()
			if err != nil {
				return show(nil, err)
			}
			return show([]any{data.NumMessages, data.UIDNext, data.UIDValidity != 0, providerFlags(data.Flags), len(data.PermanentFlags) == 0}, nil)
		}
	}
	return []comparison{
		{"NOOP", simple(func(w *twin) *imapclient.Command { return w.Noop() })},
		{"NAMESPACE", func(w *twin) string { return show(w.Namespace().Wait()) }},
		{"CREATE", create("Projects/2024")},
		{"CREATE again", create("Projects/2024")},
		{"CREATE INBOX", create("INBOX")},
		{"CREATE non-ASCII", create("Entw\u00fcrfe & \u65e5\u672c")},
		{"CREATE with separator", create("Later/")},
		{"SUBSCRIBE", simple(func(w *twin) *imapclient.Command { return w.Subscribe("Projects/2024") })},
		{"LIST *", list("", "*", nil)},
		{"LIST %", list("", "%", nil)},
		{"LIST Projects/%", list("", "Projects/%", nil)},
		{"LIST with reference", list("Projects/", "%", nil)},
		{"LIST inbox", list("", "inbox", nil)},
		{"LIST separator", list("", "", nil)},
		{"LIST nothing", list("", "Nothing", nil)},
		{"LIST subscribed", list("", "*", &imap.ListOptions{SelectSubscribed: true})},
		{"LIST special use", list("", "*", &imap.ListOptions{ReturnSpecialUse: true, ReturnSubscribed: true})},
		{"LIST children", list("", "%", &imap.ListOptions{ReturnChildren: true})},
		{"LIST status", list("", "*", &imap.ListOptions{ReturnStatus: status})},
		{"STATUS", func(w *twin) string { return show(w.Status("INBOX", status).Wait()) }},
		{"STATUS missing", func(w *twin) string { return show(w.Status("Missing", status).Wait()) }},
		{"RENAME", simple(func(w *twin) *imapclient.Command { return w.Rename("Projects", "Work", nil) })},
		{"RENAME missing", simple(func(w *twin) *imapclient.Command { return w.Rename("Missing", "Other", nil) })},
		{"RENAME onto another", simple(func(w *twin) *imapclient.Command { return w.Rename("Later", "Work/2024", nil) })},
		{"CREATE parent", create("Work")},
		{"LIST after RENAME", list("", "*", nil)},
		{"UNSUBSCRIBE", simple(func(w *twin) *imapclient.Command { return w.Unsubscribe("Projects/2024") })},
		{"DELETE", simple(func(w *twin) *imapclient.Command { return w.Delete("Later") })},
		{"DELETE missing", simple(func(w *twin) *imapclient.Command { return w.Delete("Missing") })},
		{"DELETE INBOX", simple(func(w *twin) *imapclient.Command { return w.Delete("INBOX") })},
		{"SELECT missing", selected("Missing", false)},
		{"SELECT empty", selected("Work/2024", false)},
		{"EXAMINE", selected("INBOX", true)},
		{"GETQUOTAROOT", func(w *twin) string { return show(w.GetQuotaRoot("INBOX").Wait()) }},
		{"GETQUOTAROOT missing", func(w *twin) string { return show(w.GetQuotaRoot("Missing").Wait()) }},
		{"GETQUOTA", func(w *twin) string { return show(w.GetQuota("User quota").Wait()) }},
		{"GETQUOTA missing", func(w *twin) string { return show(w.GetQuota("Other").Wait()) }},
		{"UNSELECT", simple(func(w *twin) *imapclient.Command { return w.Unselect() })},
		{"SELECT", selected("INBOX", false)},
	}
}

// fetches asks for every message's envelope, structure, size and parts.
func fetches(names []string) []comparison {
	var all []comparison
	for i, name := range names {
		uid := imap.UIDSetNum(imap.UID(i + 1))
		fetch := func(w *twin, o *imap.FetchOptions) *imapclient.FetchMessageBuffer {
			found, err := w.Fetch(uid, o).Collect()
			if err != nil || len(found) != 1 {
				w.t.Fatalf("%s: %v, %d messages", name, err, len(found))
			}
			return found[0]
		}
		structure := func(extended bool) func(*twin) string {
			return func(w *twin) string {
				found := fetch(w, &imap.FetchOptions{BodyStructure: &imap.FetchItemBodyStructure{Extended: extended}}).BodyStructure
				found.Walk(impliedCharset)
				return show(found, nil)
			}
		}
		all = append(all,
			comparison{"ENVELOPE of " + name, func(w *twin) string {
				e := fetch(w, &imap.FetchOptions{Envelope: true}).Envelope
				e.Date = e.Date.UTC()
				return show(e, nil)
			}},
			comparison{"BODY of " + name, structure(false)},
			comparison{"BODYSTRUCTURE of " + name, structure(true)},
			comparison{"size, date and flags of " + name, func(w *twin) string {
				header := &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, Peek: true}
				m := fetch(w, &imap.FetchOptions{Flags: true, InternalDate: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{header}})
				added := 0
				for _, field := range statusField.FindAllString(string(m.FindBodySection(header)), 1) {
					added = len(field)
				}
				return show([]any{m.SeqNum, m.UID, m.RFC822Size - int64(added), m.InternalDate.UTC(), providerFlags(m.Flags)}, nil)
			}},
			comparison{"sections of " + name, func(w *twin) string {
				o := &imap.FetchOptions{BodySection: sections(fetch(w, &imap.FetchOptions{BodyStructure: &imap.FetchItemBodyStructure{}}).BodyStructure)}
				var texts []string
				for _, section := range fetch(w, o).BodySection {
					texts = append(texts, strings.ToUpper(show(section.Section, nil)), statusField.ReplaceAllString(string(section.Bytes), ""))
				}
				return strings.Join(texts, "\n")
			}})
	}
	return all
}

// sections are all that a message has, and pieces of some.
func sections(structure imap.BodyStructure) []*imap.FetchItemBodySection {
	all := []*imap.FetchItemBodySection{
		{}, {Specifier: imap.PartSpecifierHeader}, {Specifier: imap.PartSpecifierText},
		{Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Subject", "FROM", "X-None"}},
		{Specifier: imap.PartSpecifierHeader, HeaderFieldsNot: []string{"Subject", "X-Sealpost-Status"}},
		{Specifier: imap.PartSpecifierText, Partial: &imap.SectionPartial{Size: 7}},
		{Specifier: imap.PartSpecifierText, Partial: &imap.SectionPartial{Offset: 5, Size: 100000}},
		{Specifier: imap.PartSpecifierText, Partial: &imap.SectionPartial{Offset: 100000, Size: 5}},
	}
	structure.Walk(func(path []int, part imap.BodyStructure) bool {
		if len(path) == 0 {
			return true
		}
		all = append(all, &imap.FetchItemBodySection{Part: path}, &imap.FetchItemBodySection{Part: path, Specifier: imap.PartSpecifierMIME},
			&imap.FetchItemBodySection{Part: path, Partial: &imap.SectionPartial{Offset: 2, Size: 3}})
		if part.MediaType() == "message/rfc822" {
			all = append(all, &imap.FetchItemBodySection{Part: path, Specifier: imap.PartSpecifierHeader},
				&imap.FetchItemBodySection{Part: path, Specifier: imap.PartSpecifierText})
		}
		return true
	})
	for _, section := range all {
		section.Peek = true
	}
	return all
}

func searches() []comparison {
	day := func(text string) time.Time { d, _ := time.Parse(time.DateOnly, text); return d }
	header := func(key, value string) imap.SearchCriteria {
		return imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: key, Value: value}}}
	}
	uids := imap.UIDSet{{Start: 5, Stop: 12}}
	all := map[string]imap.SearchCriteria{
		"ALL": {}, "SEEN": {Flag: []imap.Flag{imap.FlagSeen}}, "UNSEEN": {NotFlag: []imap.Flag{imap.FlagSeen}},
		"KEYWORD": {Flag: []imap.Flag{"$Forwarded"}}, "UNKEYWORD": {NotFlag: []imap.Flag{"$Forwarded"}},
		"SUBJECT": header("Subject", "wein"), "SUBJECT decoded": header("Subject", "K\u00e4se und Wein"), "SUBJECT folded": header("Subject", "folded with"),
		"SUBJECT any": header("Subject", ""), "FROM": header("From", "M\u00fcller"), "FROM comment": header("From", "Old Style"), "TO": header("To", "the third"),
		"TO address": header("To", "two@x.test"), "CC": header("Cc", "\u00c4rger"), "HEADER References": header("References", "<a@x.test>"),
		"HEADER none": header("X-Nothing", ""), "Message-ID": header("Message-ID", "everyday.2"),
		"BODY": {Body: []string{"wein"}}, "BODY decoded": {Body: []string{"K\u00e4se"}}, "BODY Base64": {Body: []string{"gr\u00fc\u00dfe AUS"}},
		"BODY HTML text": {Body: []string{"M\u00fcnchen</p>"}}, "BODY nothing": {Body: []string{"zzzz"}}, "BODY of an inner message": {Body: []string{"inner two"}},
		"BODY attachment": {Body: []string{"%PDF-1.4"}}, "TEXT header": {Text: []string{"everyday.1@x.test"}}, "TEXT decoded": {Text: []string{"M\u00fcnchen"}},
		"SINCE": {Since: day("2026-11-22")}, "BEFORE": {Before: day("2026-11-22")}, "SENTSINCE": {SentSince: day("2024-01-02")},
		"SENTBEFORE": {SentBefore: day("2024-01-02")}, "LARGER": {Larger: 1200}, "UID": {UID: []imap.UIDSet{uids}}, "sequence": {SeqNum: []imap.SeqSet{{{Start: 3, Stop: 0}}}},
		"NOT": {Not: []imap.SearchCriteria{{UID: []imap.UIDSet{uids}}}},
		"OR":  {Or: [][2]imap.SearchCriteria{{header("Subject", "folded"), {Body: []string{"nobody"}}}}},
		"AND": {Body: []string{"inner"}, UID: []imap.UIDSet{uids}},
	}
	var found []comparison
	for name, criteria := range all {
		found = append(found, comparison{"SEARCH " + name, func(w *twin) string { return show(w.Search(&criteria, nil).Wait()) }},
			comparison{"UID SEARCH " + name, func(w *twin) string { return show(w.UIDSearch(&criteria, nil).Wait()) }},
			comparison{"ESEARCH " + name, func(w *twin) string {
				return show(w.UIDSearch(&criteria, &imap.SearchOptions{ReturnMin: true, ReturnMax: true, ReturnCount: true}).Wait())
			}})
	}
	return found
}

// changes change flags and messages; what both accounts hold then is compared again.
func changes() []comparison {
	store := func(set imap.NumSet, op imap.StoreFlagsOp, silent bool, flags ...imap.Flag) func(*twin) string {
		return func(w *twin) string {
			found, err := w.Store(set, &imap.StoreFlags{Op: op, Silent: silent, Flags: flags}, nil).Collect()
			return show(flagsOf(found), err)
		}
	}
	state := func(mailbox string) func(*twin) string {
		return func(w *twin) string {
			data, err := w.Select(mailbox, nil).Wait()
			if err != nil || data.NumMessages == 0 {
				return show(data.NumMessages, err)
			}
			found, err := w.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{UID: true, Flags: true, InternalDate: true}).Collect()
			return show(flagsOf(found), err)
		}
	}
	add, remove, set := imap.StoreFlagsAdd, imap.StoreFlagsDel, imap.StoreFlagsSet
	return []comparison{
		{"STORE add", store(imap.UIDSetNum(1, 2, 3), add, false, imap.FlagSeen, "$Forwarded")},
		{"STORE remove", store(imap.UIDSetNum(2), remove, false, imap.FlagSeen)},
		{"STORE set", store(imap.SeqSetNum(4), set, false, imap.FlagFlagged, imap.FlagAnswered)},
		{"STORE silent", store(imap.SeqSetNum(5), add, true, imap.FlagDeleted)},
		{"STORE none there", store(imap.UIDSetNum(1000), add, false, imap.FlagSeen)},
		{"BODY[] sets Seen", func(w *twin) string {
			found, err := w.Fetch(imap.UIDSetNum(7), &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{{Specifier: imap.PartSpecifierText}}}).Collect()
			return show(flagsOf(found), err)
		}},
		{"COPY", func(w *twin) string {
			data, err := w.Copy(imap.UIDSetNum(3, 1), "Work").Wait()
			return show([]any{data.SourceUIDs, data.DestUIDs}, err)
		}},
		{"COPY to a missing mailbox", func(w *twin) string { data, err := w.Copy(imap.UIDSetNum(1), "Missing").Wait(); return show(data, err) }},
		{"MOVE", func(w *twin) string {
			data, err := w.Move(imap.UIDSetNum(6), "Work").Wait()
			if err != nil {
				return show(nil, err)
			}
			return show([]any{data.SourceUIDs, data.DestUIDs}, err)
		}},
		{"EXPUNGE of UIDs", func(w *twin) string { return show(w.UIDExpunge(imap.UIDSetNum(1, 4)).Collect()) }},
		{"EXPUNGE", func(w *twin) string { return show(w.Expunge().Collect()) }},
		{"APPEND", appendTo("Work")},
		{"APPEND to a missing mailbox", appendTo("Missing")},
		{"INBOX then", state("INBOX")},
		{"Work then", state("Work")},
		{"appended message", func(w *twin) string {
			section := &imap.FetchItemBodySection{Peek: true}
			found, err := w.Fetch(imap.UIDSetNum(4), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
			if err != nil || len(found) != 1 {
				return show(len(found), err)
			}
			return statusField.ReplaceAllString(string(found[0].FindBodySection(section)), "")
		}},
		{"IDLE", func(w *twin) string {
			idle, err := w.Idle()
			if err != nil {
				return show(nil, err)
			}
			appendTo("Work")(w.login())
			heard := w.hear("EXISTS 5")
			if err := idle.Close(); err != nil {
				return err.Error()
			}
			return show(heard, idle.Wait())
		}},
		{"CLOSE", func(w *twin) string {
			store(imap.SeqSetNum(1), add, true, imap.FlagDeleted)(w)
			return show("", w.UnselectAndExpunge().Wait())
		}},
		{"Work after CLOSE", state("Work")},
		{"RENAME onto a parent", func(w *twin) string {
			err := errors.Join(w.Create("Parent/child", nil).Wait(), w.Create("Orphan", nil).Wait())
			if err == nil {
				err = w.Rename("Orphan", "Parent", nil).Wait()
			}
			return show("", err)
		}},
		{"LOGOUT", func(w *twin) string { return show("", w.Logout().Wait()) }},
	}
}

// flagsOf are the flags of messages, and the dates that were not given by the moment.
func flagsOf(found []*imapclient.FetchMessageBuffer) []string {
	var lines []string
	for _, m := range found {
		date := ""
		if !m.InternalDate.IsZero() && time.Since(m.InternalDate).Abs() > 24*time.Hour {
			date = m.InternalDate.UTC().String()
		}
		lines = append(lines, fmt.Sprint(m.SeqNum, " ", m.UID, " ", providerFlags(m.Flags), " ", date))
	}
	return lines
}

func appendTo(mailbox string) func(*twin) string {
	return func(w *twin) string {
		message := "From: a@x.test\r\nSubject: appended\r\n\r\nK\u00e4se\r\n"
		cmd := w.Append(mailbox, int64(len(message)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, "$Forwarded"}, Time: time.Date(2023, 4, 5, 6, 7, 8, 0, time.UTC)})
		_, err := io.WriteString(cmd, message)
		if err = errors.Join(err, cmd.Close()); err != nil {
			return show(nil, err)
		}
		data, err := cmd.Wait()
		if err != nil {
			return show(nil, err)
		}
		return show(data.UID, nil)
	}
}
