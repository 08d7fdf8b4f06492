package main

import (
	"errors"
	"fmt"
	"strings"
)

// report is all that a run has measured.
type report struct {
	When       string   `json:"when"`
	Commit     string   `json:"commit"`
	Cores      int      `json:"cores"`
	Processor  string   `json:"processor"`
	Go         string   `json:"go"`
	Dovecot    string   `json:"dovecot,omitempty"`
	LoadBefore string   `json:"load_before"`
	LoadAfter  string   `json:"load_after"`
	Results    []result `json:"results"`
}

// The page's own text stands around these.
const (
	markBegin = "<!-- measured: begin -->"
	markEnd   = "<!-- measured: end -->"
)

var errMarkers = errors.New("needs the lines " + markBegin + " and " + markEnd + ", once each and in this order")

// replaceBetween puts text between the markers of a page.
func replaceBetween(page, text string) (string, error) {
	before, rest, ok := strings.Cut(page, markBegin)
	_, after, end := strings.Cut(rest, markEnd)
	if !ok || !end || strings.Contains(after, markBegin) || strings.Contains(after, markEnd) {
		return "", errMarkers
	}
	return before + markBegin + "\n" + text + markEnd + after, nil
}

// problems are wrong answers: how fast they came means nothing.
func (r report) problems() error {
	var errs []error
	for _, res := range r.Results {
		if res.Verified != res.Messages {
			errs = append(errs, fmt.Errorf("%s messages: the bridge found %s good signatures; all are signed", grouped(res.Messages), grouped(res.Verified)))
		}
		for _, line := range res.Rows {
			for _, problem := range line.wrong() {
				errs = append(errs, fmt.Errorf("%s messages: %s", grouped(res.Messages), problem))
			}
		}
	}
	return errors.Join(errs...)
}

// markdown is the report as tables.
func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s at %s: %d cores (%s), %s", r.When, r.Commit, r.Cores, r.Processor, r.Go)
	if r.Dovecot != "" {
		fmt.Fprintf(&b, ", Dovecot %s", r.Dovecot)
	}
	fmt.Fprintf(&b, ". Load average before and after: %s, %s.\n", r.LoadBefore, r.LoadAfter)
	for _, res := range r.Results {
		b.WriteString(res.commands())
	}
	b.WriteString(r.daemon())
	if err := r.problems(); err != nil {
		b.WriteString("\n**Wrong answers:**\n\n- " + strings.ReplaceAll(err.Error(), "\n", "\n- ") + "\n")
	}
	return b.String()
}

// commands is the table of what was measured over IMAP.
func (res result) commands() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s messages\n\n| | command | answers | bridge | Dovecot | bridge / Dovecot | target |\n|---|---|--:|--:|--:|--:|--:|\n", grouped(res.Messages))
	for _, r := range res.Rows {
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s | %s |\n", r.Name, r.Command, grouped(r.Want), r.Bridge.cell(), r.Dovecot.cell(), r.ratio(), r.verdict())
	}
	return b.String()
}

func (s *sample) cell() string {
	if s == nil {
		return "–"
	}
	return inMilliseconds(s.Median)
}

func (r row) ratio() string {
	if r.Bridge == nil || r.Dovecot == nil || r.Dovecot.Median == 0 {
		return "–"
	}
	ratio := r.Bridge.Median / r.Dovecot.Median
	if ratio >= 100 {
		return grouped(int(ratio + 0.5))
	}
	return fmt.Sprintf("%.2g", ratio)
}

func (r row) verdict() string {
	if r.Target == 0 || r.Bridge == nil {
		return ""
	}
	return against(r.Bridge.Median < r.Target, "< "+inMilliseconds(r.Target))
}

func against(met bool, target string) string {
	if met {
		return target + ", met"
	}
	return target + ", **missed**"
}

// daemon is the table of what is the daemon's alone, a column for each size.
func (r report) daemon() string {
	var b strings.Builder
	b.WriteString("\n### The daemon\n\n| |")
	for _, res := range r.Results {
		b.WriteString(" " + grouped(res.Messages) + " |")
	}
	b.WriteString(" target |\n|---|" + strings.Repeat("--:|", len(r.Results)+1) + "\n")
	for _, line := range daemonLines {
		b.WriteString("| " + line.name + " |")
		for _, res := range r.Results {
			b.WriteString(" " + line.value(res) + " |")
		}
		b.WriteString(" " + line.target + " |\n")
	}
	return b.String()
}

var daemonLines = []struct {
	name, target string
	value        func(result) string
}{
	{"Start to `ready`, not the first", "< 2,000 ms", func(r result) string { return inMilliseconds(r.Startup) }},
	{"First SELECT after that", "", func(r result) string { return inMilliseconds(r.FirstSelect) }},
	{"First fill", "", func(r result) string { return fmt.Sprintf("%.1f s", r.Fill) }},
	{"… messages per second", "", func(r result) string { return grouped(int(r.FillRate)) }},
	{"… processor time of the daemon", "", func(r result) string { return fmt.Sprintf("%.1f s", r.FillCPU) }},
	{"… until the text is indexed too", "", func(r result) string { return fmt.Sprintf("%.1f s", r.Rested) }},
	{"Decrypt and verify alone, two goroutines, messages per second", "", func(r result) string { return grouped(int(r.DecryptRate)) }},
	{"Fill / decrypt alone", "≥ 0.5", func(r result) string { return fmt.Sprintf("%.3f", r.fillRatio()) }},
	{"Memory after the fill (VmRSS)", "", func(r result) string { return megabytes(r.FilledRSS) }},
	{"… at most during the fill (VmHWM)", "", func(r result) string { return megabytes(r.FilledPeak) }},
	{"Memory after all commands above (VmRSS)", "≤ 150 MB", func(r result) string { return megabytes(r.ServingRSS) }},
	{"… at most during them (VmHWM)", "", func(r result) string { return megabytes(r.ServingPeak) }},
	{"State on disk", "", func(r result) string { return megabytes(r.StateSize) }},
}

func (res result) fillRatio() float64 {
	if res.DecryptRate == 0 {
		return 0
	}
	return res.FillRate / res.DecryptRate
}

func megabytes(n int64) string { return grouped(int(n/1_000_000)) + " MB" }

// inMilliseconds has three significant digits.
func inMilliseconds(ms float64) string {
	switch {
	case ms >= 100:
		return grouped(int(ms+0.5)) + " ms"
	case ms >= 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}

// grouped writes 100000 as 100,000.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
