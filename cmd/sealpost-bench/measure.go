package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// probe is one thing that is measured over IMAP.
type probe struct {
	name    string
	command string
	target  time.Duration // 0: none
	needs   string        // a capability; "": none
	// want is the count that a right answer has: of messages fetched or found.
	want int
}

// probes for a mailbox of count messages. The targets are those for 100,000.
func probes(count int) []probe {
	expect := expected(count)
	newest := fmt.Sprintf("FETCH %d:%d (UID FLAGS ENVELOPE BODYSTRUCTURE)", max(1, count-99), count)
	return []probe{
		{"Open the mailbox", "SELECT INBOX", 20 * time.Millisecond, "", count},
		{"Flags of all messages", "FETCH 1:* (UID FLAGS)", time.Second, "", count},
		{"Newest 100 for the list", newest, 50 * time.Millisecond, "", min(100, count)},
		{"Search bodies, rare word", "UID SEARCH BODY " + quoted(rareWord), 100 * time.Millisecond, "", expect.rare},
		{"Search bodies, common word", "UID SEARCH BODY " + quoted(commonWord), 0, "", expect.common},
		{"Search bodies, two letters", "UID SEARCH BODY " + quoted(shortWord), 0, "", expect.short},
		{"Search bodies, word in none", "UID SEARCH BODY " + quoted(absentWord), 0, "", 0},
		{"Search subjects", "UID SEARCH SUBJECT " + quoted(subjectWord), 0, "", expect.subject},
		{"Sort, newest first", "UID SORT (REVERSE DATE) UTF-8 ALL", 0, "SORT", count},
		{"Threads", "UID THREAD REFERENCES UTF-8 ALL", 0, "THREAD=REFERENCES", count},
	}
}

// expectation is how many messages have each planted word.
type expectation struct{ rare, common, short, subject int }

func expected(count int) expectation {
	var e expectation
	for i := range count {
		p := plantedIn(i)
		for _, c := range []struct {
			has bool
			n   *int
		}{{p.rare, &e.rare}, {p.common, &e.common}, {p.short, &e.short}, {p.subject, &e.subject}} {
			if c.has {
				*c.n++
			}
		}
	}
	return e
}

// sample is what one server needed.
type sample struct {
	Median   float64 `json:"median_ms"`
	Fastest  float64 `json:"fastest_ms"`
	Slowest  float64 `json:"slowest_ms"`
	Runs     int     `json:"runs"`
	Answered int     `json:"answered"` // messages fetched or found
	Bytes    int64   `json:"bytes"`
}

// row is one line of the table; a nil sample was not measured.
type row struct {
	Name    string  `json:"name"`
	Command string  `json:"command"`
	Target  float64 `json:"target_ms,omitempty"`
	Want    int     `json:"want"`
	Bridge  *sample `json:"bridge,omitempty"`
	Dovecot *sample `json:"dovecot,omitempty"`
}

// patience bounds what one probe may take on one server, once it has been repeated often enough to have a median.
const (
	patience = 20 * time.Second
	fewest   = 3
)

// measure runs a probe once to warm up and then several times.
func measure(ctx context.Context, c *imapClient, p probe, repeat int) (*sample, error) {
	a, err := c.do(p.command)
	if err != nil {
		return nil, err
	}
	s := &sample{Answered: a.answered(p.command), Bytes: a.bytes}
	var times []time.Duration
	for begin := time.Now(); len(times) < repeat && (len(times) < fewest || time.Since(begin) < patience); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		start := time.Now()
		if _, err := c.do(p.command); err != nil {
			return nil, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	s.Runs, s.Median = len(times), milliseconds(median(times))
	s.Fastest, s.Slowest = milliseconds(times[0]), milliseconds(times[len(times)-1])
	return s, nil
}

func (a answer) answered(command string) int {
	switch {
	case strings.HasPrefix(command, "SELECT"):
		return a.exists
	case strings.HasPrefix(command, "FETCH"):
		return a.fetched
	}
	return a.numbers
}

// median of sorted durations; the lower one of two.
func median(sorted []time.Duration) time.Duration { return sorted[(len(sorted)-1)/2] }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// side is a server that is measured.
type side struct {
	name   string
	client *imapClient
	caps   string
	place  func(*row) **sample
}

func newSide(name string, c *imapClient, place func(*row) **sample) (*side, error) {
	a, err := c.do("CAPABILITY")
	return &side{name, c, a.caps, place}, err
}

func (s *side) has(capability string) bool {
	if capability == "SORT" { // SORT=DISPLAY is another one
		return strings.Contains(s.caps, " SORT ")
	}
	return capability == "" || strings.Contains(s.caps, " "+capability+" ")
}

// measureAll runs every probe on one server after the other, so that what else the machine does
// meets both.
func measureAll(ctx context.Context, sides []*side, count, repeat int) ([]row, error) {
	var rows []row
	for _, p := range probes(count) {
		r := row{Name: p.name, Command: p.command, Target: milliseconds(p.target), Want: p.want}
		for _, s := range sides {
			if !s.has(p.needs) {
				continue
			}
			one, err := measure(ctx, s.client, p, repeat)
			if err != nil {
				return rows, fmt.Errorf("%s: %w", s.name, err)
			}
			*s.place(&r) = one
			progress("  %-28s %-8s %9.2f ms", p.name, s.name, one.Median)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// wrong are the answers that are not what was planted.
func (r row) wrong() []string {
	var list []string
	for _, s := range []struct {
		name string
		*sample
	}{{"the bridge", r.Bridge}, {"Dovecot", r.Dovecot}} {
		if s.sample != nil && s.Answered != r.Want {
			list = append(list, fmt.Sprintf("%s: %s answered with %d messages, right are %d", r.Name, s.name, s.Answered, r.Want))
		}
	}
	return list
}
