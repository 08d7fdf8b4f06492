package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is a process in proc(5).
type usage struct {
	parent int
	cpu    time.Duration // its own, and that of its children that have ended
}

func usageOf(pid string) (u usage, ok bool) {
	data, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return u, false
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 15 {
		return u, false
	}
	u.parent, _ = strconv.Atoi(fields[1])
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime: in hundredths of a second
		ticks, _ := strconv.ParseInt(field, 10, 64)
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	return u, true
}

// treeCPU is the processor time of a process and of all it has started.
func treeCPU(root int) (total time.Duration) {
	all := map[int]usage{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		pid, _ := strconv.Atoi(filepath.Base(entry))
		if u, ok := usageOf(filepath.Base(entry)); ok {
			all[pid] = u
		}
	}
	for pid, u := range all {
		for at := pid; ; at = all[at].parent {
			if at == root {
				total += u.cpu
				break
			}
			if _, known := all[at]; !known || at <= 1 {
				break
			}
		}
	}
	return total
}

// agentCPU is the processor time of the GnuPG agent that serves a home.
func agentCPU(home string) (total time.Duration) {
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, entry := range entries {
		data, _ := os.ReadFile(entry)
		if bytes.HasPrefix(data, []byte("gpg-agent\x00")) && bytes.Contains(data, []byte(home)) {
			if u, ok := usageOf(filepath.Base(filepath.Dir(entry))); ok {
				total += u.cpu
			}
		}
	}
	return total
}

// residentSize of a process, in bytes.
func residentSize(pid int) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return statusValue(data, "VmRSS:")
}
