package main

import (
	"fmt"
	"strings"
)

// gatewayReport is what gatewayRun has measured.
type gatewayReport struct {
	report
	Sizings []sizing     `json:"sizings"`
	Paths   []pathResult `json:"paths"`
}

// markdown is the report as tables.
func (r gatewayReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s at %s: %d cores (%s), %s. Load average before and after: %s, %s.\n", r.When, r.Commit, r.Cores, r.Processor, r.Go, r.LoadBefore, r.LoadAfter)
	b.WriteString("\n| gateway alone | size | messages a second and core | memory after warm-up | at the end | peak |\n|---|--:|--:|--:|--:|--:|\n")
	for _, s := range r.Sizings {
		fmt.Fprintf(&b, "| %s | %s | %s | %d MB | %d MB | %d MB |\n", s.Kind, sizeName(s.Size), rateText(s.PerCore), s.Warm>>20, s.End>>20, s.Peak>>20)
	}
	if len(r.Paths) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "\n| path, messages of %s | messages a second | gateway / path |\n|---|--:|--:|\n", sizeName(pathSize))
	rate := map[string]float64{}
	for _, p := range r.Paths {
		rate[p.Name] = p.PerSecond
	}
	for _, p := range r.Paths {
		if strings.HasSuffix(p.Name, "alone") {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %.2g |\n", pathTitles[p.Name], rateText(p.PerSecond), rate["gateway"]/p.PerSecond)
	}
	fmt.Fprintf(&b, "\n| filter between a load and a sink, messages of %s | messages a second |\n|---|--:|\n| gateway | %s |\n| script that starts gpg, and Python to hand in | %s |\n| script that starts gpg, and msmtp to hand in | %s |\n",
		sizeName(pathSize), rateText(rate["gateway alone"]), rateText(rate["gpg alone"]), rateText(rate["lean alone"]))
	python, lean := rate["gateway alone"]/rate["gpg alone"], rate["gateway alone"]/rate["lean alone"]
	fmt.Fprintf(&b, "\nTargets: 20 times a filter that starts gpg: with Python %s (%.2g times), with msmtp %s (%.2g times); half of the same path without a filter: as a smarthost %s (%.2g), as a content filter %s (%.2g).\n",
		verdictOf(python >= 20), python, verdictOf(lean >= 20), lean,
		verdictOf(rate["smarthost"] >= rate["direct"]/2), rate["smarthost"]/rate["direct"], verdictOf(rate["gateway"] >= rate["two"]/2), rate["gateway"]/rate["two"])
	return b.String()
}

var pathTitles = map[string]string{
	"direct": "Postfix alone, one pass", "smarthost": "Postfix, the gateway as a smarthost", "two": "Postfix, two passes, no filter between them", "gateway": "Postfix, the gateway, Postfix", "gpg": "Postfix, a filter that starts gpg, Postfix",
}

func verdictOf(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}

// rateText has three digits, or whole numbers.
func rateText(perSecond float64) string {
	if perSecond >= 100 {
		return fmt.Sprintf("%.0f", perSecond)
	}
	return fmt.Sprintf("%.3g", perSecond)
}

func sizeName(bytes int) string {
	if bytes >= 1_000_000 {
		return fmt.Sprintf("%d MB", bytes/1_000_000)
	}
	return fmt.Sprintf("%d kB", bytes/1000)
}
