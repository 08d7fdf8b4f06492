package main

import (
	"fmt"
	"strings"
)

// gatewayReport is all that a run with --gateway has measured.
type gatewayReport struct {
	report
	Paths []path  `json:"paths"`
	Alone []alone `json:"alone"`

	Filters filters `json:"filters"`

	Messages int   `json:"memory_messages"` // while memory was watched
	RSSWarm  int64 `json:"rss_warm"`        // bytes
	RSSEnd   int64 `json:"rss_end"`
}

func (r gatewayReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s at %s: %d cores (%s), %s. Load average before and after: %s, %s.\n",
		r.When, r.Commit, r.Cores, r.Processor, r.Go, r.LoadBefore, r.LoadAfter)
	if len(r.Paths) > 0 {
		b.WriteString(r.paths())
	}
	b.WriteString(r.alone())
	return b.String()
}

func (r gatewayReport) paths() string {
	var b strings.Builder
	b.WriteString("\n### Beside Postfix, 10 kB to one recipient\n\n| path | messages/s | processor time a message: Postfix and what it starts | gateway, or gpg-agent |\n|---|--:|--:|--:|\n")
	for _, p := range r.Paths {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", p.Name, rate(p.PerSecond), inMilliseconds(p.PostfixCPU), inMilliseconds(p.FilterCPU))
	}
	plain, twice, gateway, gpg := r.Paths[0].PerSecond, r.Paths[1].PerSecond, r.Paths[2].PerSecond, r.Paths[3].PerSecond
	fmt.Fprintf(&b, "\n| | ratio | target |\n|---|--:|--:|\n")
	for _, line := range []struct {
		name   string
		ratio  float64
		met    bool
		target string
	}{
		{"gateway / gpg for each message", gateway / gpg, gateway >= 20*gpg, "≥ 20"},
		{"gateway / gpg for each message, both without Postfix", r.Filters.Gateway / r.Filters.GPG, r.Filters.Gateway >= 20*r.Filters.GPG, "≥ 20"},
		{"gateway / Postfix alone", gateway / plain, 2*gateway >= plain, "≥ 0.5"},
		{"gateway / Postfix twice, nothing between", gateway / twice, 2*gateway >= twice, "≥ 0.5"},
		{"Postfix twice, nothing between / gpg for each message", twice / gpg, true, ""},
		{"memory at the end / after warming up", float64(r.RSSEnd) / float64(max(r.RSSWarm, 1)), 10*r.RSSEnd <= 11*r.RSSWarm, "≤ 1.1"},
	} {
		target := line.target
		if target != "" {
			target = against(line.met, target)
		}
		fmt.Fprintf(&b, "| %s | %.2f | %s |\n", line.name, line.ratio, target)
	}
	fmt.Fprintf(&b, "\nWithout Postfix, %d messages at a time on all cores: gateway %s messages/s, gpg for each message %s.\n", filterWorkers, rate(r.Filters.Gateway), rate(r.Filters.GPG))
	fmt.Fprintf(&b, "\nMemory (VmRSS) while %s messages passed: %s after warming up, %s at the end.\n", grouped(r.Messages), megabytes(r.RSSWarm), megabytes(r.RSSEnd))
	return b.String()
}

func (r gatewayReport) alone() string {
	var b strings.Builder
	b.WriteString("\n### The gateway alone, on one core\n\n| size | | messages/s | MB/s | processor time a message | memory afterwards |\n|--:|---|--:|--:|--:|--:|\n")
	for _, a := range r.Alone {
		fmt.Fprintf(&b, "| %s kB | %s | %s | %.1f | %s | %s |\n", grouped(a.Size/1000), a.Name, rate(a.PerSecond), a.PerSecond*float64(a.Size)/1e6, inMilliseconds(a.CPU), megabytes(a.RSS))
	}
	return b.String()
}

func rate(perSecond float64) string {
	if perSecond >= 100 {
		return grouped(int(perSecond + 0.5))
	}
	return fmt.Sprintf("%.1f", perSecond)
}
