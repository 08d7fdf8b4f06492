//go:build unix

package keydisc

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Opening a pipe would wait for its other end.
func TestFileIsNoFile(t *testing.T) {
	folder := t.TempDir()
	pipe, dangling := filepath.Join(folder, "pipe"), filepath.Join(folder, "dangling")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink("nowhere", dangling)); err != nil {
		t.Fatal(err)
	}
	unreadable(t, pipe)
	unreadable(t, dangling)
}
