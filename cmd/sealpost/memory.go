package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"github.com/sealpost/sealpost/bridge"
)

// The collector lets the heap double before it looks: after a search through a large mailbox that is
// memory nobody uses. From a limit on it works harder; the limit leaves room for what is always
// needed, or it would never stop working.
const (
	baseMemory    = 80 << 20
	messageMemory = 320 // bytes, of each message in an open mailbox
	memoryEvery   = time.Minute
	// A gateway serves many at once, and has little that lasts: collecting at every few megabytes would take a fifth of its time.
	gatewayMemory  = 128 << 20
	gatewayCollect = 400 // GOGC
)

// limitMemory keeps the limit in step with the number of messages until ctx ends; $GOMEMLIMIT has
// precedence.
func limitMemory(ctx context.Context, b *bridge.Bridge) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	base := int64(baseMemory)
	if _, ok := b.Gateway(); ok {
		base += gatewayMemory
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(gatewayCollect)
		}
	}
	timer := time.NewTicker(memoryEvery)
	defer timer.Stop()
	for {
		messages := 0
		for _, a := range b.Accounts() {
			n, err := a.Mirror().Messages(ctx)
			if err != nil {
				return // it is closing
			}
			messages += n
		}
		debug.SetMemoryLimit(base + int64(messages)*messageMemory)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}
