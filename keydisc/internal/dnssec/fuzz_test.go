package dnssec

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/keydisc/internal/dnssec/dnssectest"
)

// FuzzAnswers changes the octets of messages that a server really sent. Whatever becomes of them, nothing is
// found that the zone does not hold, and nothing is absent that it does.
func FuzzAnswers(f *testing.F) {
	for _, leaf := range []dnssectest.Zone{{}, {NSEC3: &dnssectest.NSEC3{}}} {
		c := capture(f, leaf)
		for i, message := range c.messages {
			f.Add(message, uint8(i), leaf.NSEC3 != nil)
		}
		captured[leaf.NSEC3 != nil] = c
	}
	f.Fuzz(func(t *testing.T, message []byte, which uint8, hashed bool) {
		c := captured[hashed]
		q := c.questions[int(which)%len(c.questions)]
		m := new(dns.Msg)
		if m.Unpack(message) != nil || len(m.Answer)+len(m.Ns) > maxRecords {
			return
		}
		finding, err := (&lookup{now: now}).judge(c.zone, newReply(m), q.Name, q.Qtype)
		if err != nil {
			return
		}
		honest := c.findings[q]
		same := finding.is == honest.is && slices.EqualFunc(finding.records, honest.records, dns.IsDuplicate)
		if !same {
			t.Errorf("%v: %+v instead of %+v", q, finding, honest)
		}
	})
}

var captured = map[bool]*capturing{}

// capturing is what the last zone says, and what follows from it.
type capturing struct {
	zone      *zone
	questions []dns.Question
	messages  [][]byte
	findings  map[dns.Question]finding
}

func capture(f *testing.F, leaf dnssectest.Zone) *capturing {
	s, err := dnssectest.Serve(now, hierarchy(leaf)...)
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	c := &capturing{findings: map[dns.Question]finding{}}
	s.Break(func(q dns.Question, _ string, m *dns.Msg) bool {
		if octets, err := m.Pack(); err == nil && below(q.Name, "example.test.") {
			c.questions, c.messages = append(c.questions, q), append(c.messages, octets)
		}
		return true
	})
	r, err := New(Options{Servers: []string{s.Addr}, Anchors: s.Anchors, Now: func() time.Time { return now }})
	if err != nil {
		f.Fatal(err)
	}
	l := &lookup{resolver: r, now: now, zones: map[string]*zone{}}
	for _, name := range []string{"here", "two", "x.wild", "zzz", "alias", "x.calias", "here.moved", "b.c.d", "other"} {
		if _, _, err := l.resolve(f.Context(), name+".example.test.", dns.TypeTXT); err != nil {
			f.Fatal(err)
		}
	}
	s.Break(nil)
	c.zone = l.zones["example.test."]
	for i, q := range c.questions {
		m := new(dns.Msg)
		if err := m.Unpack(c.messages[i]); err != nil {
			f.Fatal(err)
		}
		if c.findings[q], err = l.judge(c.zone, newReply(m), q.Name, q.Qtype); err != nil {
			f.Fatal(q, err)
		}
	}
	return c
}
