package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"
)

// clientOf is a mail client of the user, with what `sealpost client` tells it.
func clientOf(ts *testscript.TestScript, name string) *demoUser {
	ts.Check(ts.Exec("sealpost", "client", "--json"))
	var settings []clientSettings
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &settings))
	address := addressOf(ts, name)
	for _, s := range settings {
		if s.Address == address {
			listeners := map[string]string{"imap": s.IMAP, "imaps": s.IMAPS, "smtp": s.SMTP, "smtps": s.SMTPS}
			return &demoUser{address: address, localPassword: s.Password, caFile: s.CAFile, service: &service{listeners: listeners}}
		}
	}
	ts.Fatalf("%s has no account", address)
	return nil
}

// deliver USER MAILBOX FILE: the provider receives a message.
func deliver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: deliver USER MAILBOX FILE")
	}
	_, err := worldOf(ts).provider().Deliver(addressOf(ts, args[0]), args[1], crlf(ts.ReadFile(args[2])))
	ts.Check(err)
}

// stored USER MAILBOX: prints what the provider holds.
func stored(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: stored USER MAILBOX")
	}
	fmt.Fprint(ts.Stdout(), "")
	for _, m := range worldOf(ts).provider().Stored(addressOf(ts, args[0])) {
		if m.Mailbox == args[1] {
			printMessage(ts, m.UID, m.Flags, m.Bytes)
		}
	}
}

func printMessage(ts *testscript.TestScript, uid uint32, flags []string, message []byte) {
	fmt.Fprintf(ts.Stdout(), "== UID %d %v\n%s\n", uid, flags, bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n")))
}

// submitted: prints what was submitted at the provider.
func submitted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: submitted")
	}
	fmt.Fprint(ts.Stdout(), "")
	for _, s := range worldOf(ts).provider().Submissions() {
		fmt.Fprintf(ts.Stdout(), "== FROM %s TO %s\n%s\n", s.From, strings.Join(s.To, " "), bytes.ReplaceAll(s.Bytes, []byte("\r\n"), []byte("\n")))
	}
}

// submit USER TO[,TO] FILE: a mail client sends; what it is told goes to stderr.
func submit(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: submit USER TO[,TO] FILE")
	}
	err := clientOf(ts, args[0]).submit(strings.Split(args[1], ","), crlf(ts.ReadFile(args[2])))
	var reply *smtp.SMTPError
	if neg && errors.As(err, &reply) {
		fmt.Fprintf(ts.Stderr(), "%d %s\n", reply.Code, reply.Message)
		return
	}
	if neg && err == nil {
		ts.Fatalf("it was accepted")
	}
	ts.Check(err)
}

// append USER MAILBOX FILE: a mail client stores a message.
func appendMessage(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: append USER MAILBOX FILE")
	}
	err := clientOf(ts, args[0]).store(args[1], crlf(ts.ReadFile(args[2])))
	if !neg {
		ts.Check(err)
		return
	}
	if err == nil {
		ts.Fatalf("it was accepted")
	}
	fmt.Fprintln(ts.Stderr(), err)
}

// fetch USER MAILBOX COUNT: a mail client waits until it sees so many messages and prints them.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: fetch USER MAILBOX COUNT")
	}
	c, err := clientOf(ts, args[0]).imap()
	ts.Check(err)
	defer c.Close()
	poll(ts, func() bool {
		selected, err := c.Select(args[1], nil).Wait()
		ts.Check(err)
		return fmt.Sprint(selected.NumMessages) == args[2]
	})
	section := &imap.FetchItemBodySection{Peek: true}
	messages, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	ts.Check(err)
	for _, m := range messages {
		printMessage(ts, uint32(m.UID), nil, m.FindBodySection(section))
	}
}

// expunge USER MAILBOX: a mail client deletes all that is in a mailbox; the answer to "! expunge" goes to stderr.
func expunge(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: expunge USER MAILBOX")
	}
	c, err := clientOf(ts, args[0]).imap()
	ts.Check(err)
	defer c.Close()
	_, err = c.Select(args[1], nil).Wait()
	ts.Check(err)
	ts.Check(c.Store(imap.SeqSet{{Start: 1}}, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
	err = c.Expunge().Close()
	if !neg {
		ts.Check(err)
		return
	}
	if err == nil {
		ts.Fatalf("it was done")
	}
	fmt.Fprintln(ts.Stderr(), err)
}
