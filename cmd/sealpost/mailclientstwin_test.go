//go:build peers

package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// differs says where the bridge answers otherwise than Dovecot 2.3, and why.
var differs = []struct{ pattern, reason string }{
	{`bad-types`, "a Content-Type that is none is text/plain to the bridge, as RFC 2045 5.2 says, and an empty type to Dovecot"},
	{`bare-cr`, "a bare CR ends a line of Dovecot's parser, and none of the bridge's"},
	{`(BODY|BODYSTRUCTURE|sections) of (boundary-in-header|empty-parts|nested-message|same-boundary|2-nested)`,
		"the line break before a boundary is the boundary's (RFC 2046 5.1.1), also where a multipart ended just before; Dovecot counts it to the part"},
	{`duplicate-fields|junk-lines`, "of two Subject fields the bridge shows the first, Dovecot the last; each serves both"},
	{`(BODYSTRUCTURE|sections) of (empty-multipart|no-boundary-parameter|3-hostile)`, "a multipart without parts: BODY[1] is its body, and nothing at Dovecot"},
	{`multipart(-lf|-mixed-breaks)?\.eml|prefix-boundaries`, "Dovecot takes a line that begins with the boundary for the boundary"},
	{`sections of (empty|no-header-end)`, "the empty line behind HEADER.FIELDS where the message has none"},
	{`raw-8bit|ENVELOPE of 3-hostile`, "8-bit bytes in a header are read as what they most likely are, Latin-1; a bare @r:x@y is a group there, and an address without a name at Dovecot"},
	{`SEARCH SENTBEFORE`, "a message without Date was not sent before any day; at Dovecot it was, in 1970"},
}

// listed is the pattern in differs for a comparison, or empty.
func listed(name string) string {
	for _, d := range differs {
		if regexp.MustCompile(d.pattern).MatchString(name) {
			return d.pattern
		}
	}
	return ""
}

// fillOdd puts odd messages into an INBOX and returns their names.
func (s *site) fillOdd(address string) []string {
	s.t.Helper()
	var names []string
	put := func(name string, message []byte) {
		s.provider.Put(address, fmt.Sprintf("%d.M%d.host", 1795400000+len(names), len(names)), message)
		names = append(names, name)
	}
	for _, pattern := range []string{"../../bridge/mimescan/testdata/*.eml", "../../imapd/testdata/messages/*.eml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			s.t.Fatal(pattern, err)
		}
		for _, file := range files {
			message, err := os.ReadFile(file)
			if err != nil {
				s.t.Fatal(err)
			}
			put(filepath.Base(file), message)
		}
	}
	for i, message := range strings.Split(everydayMail, "\n====\n") {
		put(fmt.Sprintf("everyday %d", i+1), []byte(strings.ReplaceAll(message, "\n", "\r\n")+"\r\n"))
	}
	return names
}

// everydayMail is what odd messages leave out.
const everydayMail = `From: =?iso-8859-1?Q?J=F6rg_M=FCller?= <joerg@x.test>
To: One <one@x.test>, two@x.test, "Three, the third" <three@x.test>
Cc: =?utf-8?B?w4RyZ2Vy?= <four@x.test>
Reply-To: list@x.test
Sender: sender@x.test
Subject: =?iso-8859-1?Q?K=E4se_und?= =?utf-8?Q?_Wein?=
Date: Tue, 2 Jan 2024 03:04:05 -0800 (PST)
Message-ID: <everyday.1@x.test>
References: <a@x.test> <b@x.test>
In-Reply-To: <b@x.test>
MIME-Version: 1.0
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

K=E4se und Wein
====
From: a@x.test (Old Style)
To: undisclosed-recipients:;
Subject: Re: a long subject that is folded
	with a tab
Date: 1 Feb 99 10:00 GMT
Message-ID: <everyday.2@x.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="m"

--m
Content-Type: multipart/alternative; boundary="a"

--a
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

R3LDvMOfZSBhdXMgTcO8bmNoZW4K
--a
Content-Type: text/html; charset=utf-8

<p>Gr&uuml;&szlig;e <b>aus</b> M&uuml;nchen</p>
--a--

--m
Content-Type: application/pdf; name="=?utf-8?Q?=C3=9Cbersicht.pdf?="
Content-Disposition: attachment; filename*0*=utf-8''%C3%9Cber; filename*1=sicht.pdf; size=12
Content-Transfer-Encoding: base64

JVBERi0xLjQK

--m
Content-Type: image/png
Content-Disposition: inline
Content-ID: <img@x.test>
Content-Transfer-Encoding: base64

iVBORw0KGgo=

--m--
====
From: nobody
To:
Subject:
Date: not a date
Message-ID: without brackets

Text of nobody`

// twin is a connection to one of two accounts with the same mail.
type twin struct {
	*imapclient.Client
	t     *testing.T
	login func() *twin
	said  chan string // what the server says unasked
}

func newTwin(t *testing.T, address, caFile, username, password string) *twin {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	w := &twin{t: t, said: make(chan string, 1000)}
	w.login = func() *twin { return newTwin(t, address, caFile, username, password) }
	w.Client, err = imapclient.DialTLS(address, &imapclient.Options{
		TLSConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"},
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{
			Expunge: func(n uint32) { w.said <- fmt.Sprintf("EXPUNGE %d", n) },
			Mailbox: func(m *imapclient.UnilateralDataMailbox) {
				if m.NumMessages != nil {
					w.said <- fmt.Sprintf("EXISTS %d", *m.NumMessages)
				}
			},
		},
	})
	if err == nil {
		err = w.Login(username, password).Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// hear waits until the server has said something, as IDLE and NOOP bring about.
func (w *twin) hear(what string) string {
	for timeout := time.After(30 * time.Second); ; {
		select {
		case said := <-w.said:
			if said == what {
				return said
			}
		case <-timeout:
			return "waited in vain for " + what
		}
	}
}

// providerFlags are those that a provider keeps: the bridge has keywords of its own, and
// \Recent is for whoever asks first.
func providerFlags(flags []imap.Flag) []imap.Flag {
	kept := []imap.Flag{}
	for _, flag := range flags {
		if !slices.Contains(ownKeywords, flag) && flag != "\\Recent" {
			kept = append(kept, flag)
		}
	}
	slices.Sort(kept)
	return kept
}

// attributes are those that were asked for: a server may volunteer others.
func attributes(attrs []imap.MailboxAttr, o *imap.ListOptions) []string {
	var kept []string
	for _, attr := range attrs {
		switch attr {
		case imap.MailboxAttrNoSelect:
			attr = imap.MailboxAttrNonExistent // which is the extended command's word for it
		case imap.MailboxAttrHasChildren, imap.MailboxAttrHasNoChildren:
			if o != nil && !o.ReturnChildren {
				continue
			}
		case imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash:
			if o != nil && !o.ReturnSpecialUse {
				continue
			}
		case imap.MailboxAttrUnmarked, imap.MailboxAttrMarked:
			continue
		}
		kept = append(kept, strings.ToLower(string(attr)))
	}
	slices.Sort(kept)
	return kept
}

// impliedCharset drops what Dovecot writes for a text that names no charset, and the case of encodings.
func impliedCharset(_ []int, part imap.BodyStructure) bool {
	if single, ok := part.(*imap.BodyStructureSinglePart); ok {
		single.Encoding = strings.ToLower(single.Encoding)
		if single.Params["charset"] == "us-ascii" {
			delete(single.Params, "charset")
		}
		if len(single.Params) == 0 {
			single.Params = nil
		}
		if m := single.MessageRFC822; m != nil {
			m.Envelope.Date = m.Envelope.Date.UTC()
			m.BodyStructure.Walk(impliedCharset)
		}
	}
	return true
}
