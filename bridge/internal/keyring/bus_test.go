//go:build !darwin && !windows

package keyring

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestServerHasNoKeyring(t *testing.T) {
	for _, name := range []string{"DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY"} {
		t.Setenv(name, "")
	}
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if err := noBus(); err == nil {
		t.Error("a bus was found")
	}
	if patience() > 2*time.Second {
		t.Error("a server waits too long")
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/x")
	t.Setenv("DISPLAY", ":0")
	if err := noBus(); err != nil || patience() < 10*time.Second {
		t.Error("nobody can type that fast", err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if err := os.WriteFile(filepath.Join(dir, "bus"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := noBus(); err != nil {
		t.Error(err)
	}
}
