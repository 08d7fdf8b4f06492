package upstream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

type ctxT = context.Context

func passwordIs(s string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s, nil }
}

func TestCheckLogsInBothWays(t *testing.T) {
	for _, security := range []string{"tls", "starttls", "insecure"} {
		t.Run(security, func(t *testing.T) {
			ca := newCA(t)
			config := ca.server(t, "127.0.0.1", time.Hour)
			imapAt, _ := memoryIMAP(t, security, config)
			p := newProvider(t, Options{IMAP: imapAt, SMTP: smtpServer(t, security, config, &sink{}, nil), TLS: ca.roots()})
			for _, hop := range p.Transports() {
				if hop.Version != "" || hop.Protocol == "" || hop.Host == "" {
					t.Errorf("before the first connection: %+v", hop)
				}
			}
			if err := p.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if state, err := p.State(); state != Online || err != nil {
				t.Errorf("state %s, %v", state, err)
			}
			for _, hop := range p.Transports() {
				if secure := security != "insecure"; hop.Security != security || (hop.Version == "TLS 1.3") != secure || (hop.Cipher != "") != secure || hop.Ends.IsZero() == secure {
					t.Errorf("%+v", hop)
				}
			}
			if p.MaxSize() != 1<<20 {
				t.Errorf("MaxSize %d", p.MaxSize())
			}
		})
	}
}

func TestAcquireSelectsAfresh(t *testing.T) {
	at, user := memoryIMAP(t, "insecure", nil)
	p := newProvider(t, Options{IMAP: at})
	for want := range uint32(3) {
		c, err := p.Acquire(t.Context(), "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		if c.Selected.NumMessages != want || c.Mailbox != "INBOX" {
			t.Errorf("%d messages in %q, want %d", c.Selected.NumMessages, c.Mailbox, want)
		}
		p.Release(c)
		if _, err := user.Append("INBOX", strings.NewReader("Subject: x\r\n\r\n"), &imap.AppendOptions{}); err == nil {
			continue
		}
	}
	if len(p.pool.open) != 1 {
		t.Errorf("%d connections for one lease at a time", len(p.pool.open))
	}
}

func TestAcquireUnknownMailbox(t *testing.T) {
	at, _ := memoryIMAP(t, "insecure", nil)
	p := newProvider(t, Options{IMAP: at, MaxConnections: 1})
	for range 3 {
		_, err := p.Acquire(t.Context(), "Nowhere")
		var refused *imap.Error
		if !errors.As(err, &refused) {
			t.Fatalf("got %v", err)
		}
	}
	c, err := p.Acquire(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release(c)
	if c.Selected != nil {
		t.Error("something is selected")
	}
}
