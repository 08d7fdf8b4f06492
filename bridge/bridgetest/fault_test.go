package bridgetest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
)

var small = []byte("Subject: small\r\n\r\nsmall\r\n")

func TestIMAPFaults(t *testing.T) {
	big := append(bytes.Clone(small), bytes.Repeat([]byte("a1 NOOP\r\n"), 2000)...)
	for name, test := range map[string]struct {
		fault  Fault
		broken bool // the connection ends
		stored int
	}{
		"reply instead": {Fault{Reply: "NO [OVERQUOTA] full"}, false, 0},
		"reply after":   {Fault{Reply: "NO [OVERQUOTA] full", After: true}, false, 1},
		"drop before":   {Fault{Drop: true}, true, 0},
		"drop after":    {Fault{Drop: true, After: true}, true, 1},
		"match":         {Fault{Reply: "NO no", Match: "Sent"}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, ProviderOptions{})
			c := login(t, p, alice, "", nil)
			test.fault.Protocol, test.fault.Command, test.fault.Times = "imap", "APPEND", 1
			p.Inject(test.fault)
			_, err := appendMessage(c, "Sent", big, nil)
			var refused *imap.Error
			if err == nil || errors.As(err, &refused) == test.broken {
				t.Errorf("error %v", err)
			}
			if got := len(p.Stored(alice)); got != test.stored {
				t.Errorf("%d stored, want %d", got, test.stored)
			}
			// Also where the server lives on, the library's client ends at a refused literal.
			_, err = appendMessage(login(t, p, alice, "", nil), "Sent", big, nil)
			check(t, err)
		})
	}
}

func TestMatchSparesOthers(t *testing.T) {
	p := start(t, ProviderOptions{})
	c := login(t, p, alice, "", nil)
	remove := p.Inject(Fault{Protocol: "imap", Match: "Sent", Reply: "NO no"})
	_, err := appendMessage(c, "Drafts", small, nil)
	check(t, err)
	if _, err := c.Select("Sent", nil).Wait(); err == nil {
		t.Error("the fault did not strike")
	}
	remove()
	_, err = c.Select("Sent", nil).Wait()
	check(t, err)
}

// talk writes lines and returns all that the server says until one begins with until.
func talk(t *testing.T, conn io.ReadWriter, in *bufio.Reader, until string, lines ...string) string {
	t.Helper()
	_, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n")
	check(t, err)
	var said strings.Builder
	for {
		line, err := in.ReadString('\n')
		check(t, err)
		said.WriteString(line)
		if strings.HasPrefix(line, until) {
			return said.String()
		}
	}
}

func TestOversizedAppendIsDrained(t *testing.T) {
	p := start(t, ProviderOptions{MaxMessageSize: 10_000})
	_, address := host(t, p.IMAPURL())
	conn, err := tls.Dial("tcp", address, trust(p))
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	in := bufio.NewReader(conn)
	talk(t, conn, in, "a ", "a LOGIN "+alice+" a-secret")
	if caps := talk(t, conn, in, "b ", "b CAPABILITY"); !strings.Contains(caps, "APPENDLIMIT=10000") {
		t.Errorf("capabilities %s", caps)
	}
	hostile := strings.Repeat("x CREATE Oops\r\n", 1000)
	for _, plus := range []string{"", "+"} {
		command := fmt.Sprintf("c APPEND INBOX {%d%s}", len(hostile), plus)
		if plus != "" {
			command += "\r\n" + hostile
		}
		if answer := talk(t, conn, in, "c ", command); answer != "c NO [TOOBIG] The message is too large\r\n" {
			t.Errorf("answer %q", answer)
		}
	}
	if list := talk(t, conn, in, "d ", `d LIST "" Oops`); strings.Contains(list, "LIST (") {
		t.Errorf("the message was run as commands: %s", list)
	}
}

func TestSMTPFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault    Fault
		code     int // 0: the connection ends
		accepted int
	}{
		"mail":        {Fault{Command: "MAIL", Reply: "451 4.3.0 later"}, 451, 0},
		"rcpt":        {Fault{Command: "RCPT", Reply: "550 5.1.1 nobody", Match: bob}, 550, 0},
		"data":        {Fault{Command: "DATA", Reply: "452 4.3.1 full"}, 452, 0},
		"drop data":   {Fault{Command: "DATA", Drop: true}, 0, 0},
		"body":        {Fault{Command: "BODY", Reply: "554 5.7.1 no"}, 554, 0},
		"drop before": {Fault{Command: "BODY", Drop: true}, 0, 0},
		"drop after":  {Fault{Command: "BODY", Drop: true, After: true}, 0, 1},
		"after rcpt":  {Fault{Command: "RCPT", Reply: "450 4.2.0 busy", After: true}, 450, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, ProviderOptions{})
			test.fault.Protocol, test.fault.Times = "smtp", 1
			p.Inject(test.fault)
			err := send(t, p, []string{bob}, small)
			var e *smtp.SMTPError
			if errors.As(err, &e) != (test.code != 0) || (e != nil && e.Code != test.code) || err == nil {
				t.Errorf("error %v", err)
			}
			if got := len(p.Submissions()); got != test.accepted {
				t.Errorf("%d accepted, want %d", got, test.accepted)
			}
			check(t, send(t, p, []string{bob}, small))
		})
	}
}

func TestConnectFaultsAndDisconnect(t *testing.T) {
	p := start(t, ProviderOptions{Security: "insecure"})
	p.Inject(Fault{Protocol: "imap", Command: "CONNECT", Reply: "BYE too many connections", Times: 1})
	_, address := host(t, p.IMAPURL())
	c, err := imapclient.DialInsecure(address, nil)
	check(t, err)
	if err := c.WaitGreeting(); err == nil {
		t.Error("greeted")
	}
	_ = c.Close()
	c = login(t, p, alice, "INBOX", nil)
	p.Disconnect()
	if err := c.Noop().Wait(); err == nil {
		t.Error("still connected")
	}
	login(t, p, alice, "INBOX", nil)
}
