package main

import (
	"errors"
	"os"
	"path/filepath"
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
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "size="+args[1]); err != nil {
		ts.Fatalf("mount tmpfs: %v; run this as root", err)
	}
	w := worldOf(ts)
	ts.Defer(func() {
		w.killAll()
		_ = syscall.Unmount(path, syscall.MNT_DETACH)
	})
}

// fill FOLDER: uses all space that is left on its disk, in the file FOLDER/filler.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fill FOLDER")
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
}
