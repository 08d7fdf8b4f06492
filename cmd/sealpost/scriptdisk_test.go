package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// tmpfs FOLDER SIZE: mounts a small disk there; only root can.
func tmpfs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tmpfs FOLDER SIZE")
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(path, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+args[1], "tmpfs", path).CombinedOutput(); err != nil {
		ts.Fatalf("mount tmpfs: %v: %s; run this as root, on Linux", err, out)
	}
	w := worldOf(ts)
	ts.Defer(func() {
		w.killAll()
		_ = exec.Command("umount", "-l", path).Run()
	})
}

// fill FOLDER [SPARE]: uses all space that is left on its disk but for so many bytes, in the file FOLDER/filler.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: fill FOLDER [SPARE]")
	}
	f, err := os.Create(filepath.Join(ts.MkAbs(args[0]), "filler"))
	ts.Check(err)
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		ts.Check(err)
	}
	if len(args) == 2 {
		spare, err := strconv.ParseInt(args[1], 10, 64)
		ts.Check(err)
		info, err := f.Stat()
		ts.Check(err)
		ts.Check(f.Truncate(info.Size() - spare))
	}
}
