package bridgetest

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault to inject; each counts down its Times (0: until removed). The earliest one injected strikes first.
type Fault struct {
	Protocol string // "imap" or "smtp"
	// Command: the verb at which it strikes, e.g. "APPEND", "UID FETCH", "MAIL", "RCPT", "DATA", "BODY"
	// (after the message's final dot, before the reply), "CONNECT"; "" is any command.
	Command string
	Reply   string // text to answer instead, e.g. "451 4.3.0 try later" or "NO [OVERQUOTA] full"
	Drop    bool   // close the connection at that point (after the command took effect if After)
	After   bool   // Reply, Drop and Delay wait until the command took effect, and replace its answer
	Delay   time.Duration
	Times   int
	Match   string // only if the command line contains this
}

// faults waiting to strike.
type faults struct {
	mu   sync.Mutex
	list []*armed
}

type armed struct {
	Fault
	left int
}

// Inject adds a fault; the func removes it.
func (p *Provider) Inject(f Fault) (remove func()) {
	a := &armed{Fault: f, left: f.Times}
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	p.faults.list = append(p.faults.list, a)
	return func() { p.faults.remove(a) }
}

func (f *faults) remove(a *armed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, func(each *armed) bool { return each == a })
}

// strike returns the fault that hits this command, counting it down.
func (f *faults) strike(protocol, command, line string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, a := range f.list {
		if a.Protocol != protocol || !a.at(command) || !strings.Contains(line, a.Match) {
			continue
		}
		if a.left--; a.left == 0 && a.Times > 0 {
			f.list = slices.Delete(f.list, i, i+1)
		}
		return a.Fault, true
	}
	return Fault{}, false
}

// at says whether the fault is meant for the command. BODY and CONNECT are no commands.
func (a *armed) at(command string) bool {
	if a.Command == "" {
		return command != "BODY" && command != "CONNECT"
	}
	return strings.EqualFold(a.Command, command)
}

func wait(d time.Duration) {
	if d > 0 {
		time.Sleep(d)
	}
}
