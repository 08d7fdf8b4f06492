package main

import (
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/sealpost/sealpost/bridge"
)

// progress shows long work on stderr: a bar on a terminal, a line every few seconds elsewhere.
func (g *globals) progress(what string) (p bridge.Progress, finish func()) {
	if g.stderr == os.Stderr && term.IsTerminal(int(os.Stderr.Fd())) {
		return progressBar(what)
	}
	last := time.Now()
	return func(mailbox string, done, total int) {
		if time.Since(last) < 5*time.Second {
			return
		}
		last = time.Now()
		if total > 0 {
			fmt.Fprintf(g.stderr, "%s: %s %d of %d\n", what, mailbox, done, total)
		} else {
			fmt.Fprintf(g.stderr, "%s: %s %d\n", what, mailbox, done)
		}
	}, func() {}
}

func progressBar(what string) (bridge.Progress, func()) {
	var bar *progressbar.ProgressBar
	current := ""
	return func(mailbox string, done, total int) {
			if bar == nil || mailbox != current {
				if total == 0 {
					total = -1
				}
				current, bar = mailbox, progressbar.Default(int64(total), what+" "+mailbox)
			}
			_ = bar.Set(done)
		}, func() {
			if bar != nil {
				_ = bar.Exit()
			}
		}
}
