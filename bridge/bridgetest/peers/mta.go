//go:build peers

package peers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// MTAOptions of an MTA.
type MTAOptions struct {
	Users  []string // whose mail it delivers, to their Maildirs
	Main   string   // lines for main.cf
	Master string   // services for master.cf, its listeners among them
}

// MTA is a company's Postfix.
type MTA struct {
	t      testing.TB
	dir    string
	script string
}

// StartMTA starts a Postfix, which stops at the end of the test. Only root can.
func StartMTA(t testing.TB, o MTAOptions) *MTA {
	t.Helper()
	Need(t, "postfix", "postfix")
	if os.Geteuid() != 0 {
		t.Fatal("Postfix can be started by root only: run these tests as root")
	}
	m := &MTA{t: t, dir: Dir(t)}
	m.script = script(t, m.dir, "mta.sh")
	for name, text := range map[string]string{"users": strings.Join(o.Users, "\n"), "main.cf.add": o.Main, "master.cf.add": o.Master} {
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(m.Stop)
	m.Start()
	return m
}

// Start starts it again after Stop, with its mail and queue.
func (m *MTA) Start() { m.t.Helper(); Run(m.t, nil, nil, m.script, "start", m.dir) }

// Stop stops it; mail and queue stay.
func (m *MTA) Stop() {
	if _, err := Try(m.t, m.script, "stop", m.dir); err != nil {
		m.t.Error(err)
	}
}

// Flush has it try everything in its queue now.
func (m *MTA) Flush() { m.t.Helper(); Run(m.t, nil, nil, m.script, "flush", m.dir) }

// Queue is what it has not delivered yet, a JSON object a line.
func (m *MTA) Queue() string { m.t.Helper(); return Run(m.t, nil, nil, m.script, "queue", m.dir) }

// Log is what it has written so far.
func (m *MTA) Log() string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, "log", "postfix.log"))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// Stored are the messages that a user has got.
func (m *MTA) Stored(address string) (all [][]byte) {
	m.t.Helper()
	name, domain, _ := strings.Cut(address, "@")
	files, err := filepath.Glob(filepath.Join(m.dir, "mail", domain, name, "Maildir", "new", "*"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, file := range files {
		message, err := os.ReadFile(file)
		if err != nil {
			m.t.Fatal(err)
		}
		all = append(all, message)
	}
	return all
}

// Refuse makes final delivery to a user fail for good from now on, after the mail was accepted.
func (m *MTA) Refuse(address string) {
	m.t.Helper()
	Run(m.t, nil, nil, m.script, "refuse", m.dir, address)
}

// FreePorts are ports of this machine that nobody listens on.
func FreePorts(t testing.TB, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}
