package doctor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCloud(t *testing.T) {
	for name, c := range map[string]struct {
		dir    string
		marker string
		want   string // the service; "" for none
	}{
		"plain":                  {"home/a/.local/state/sealpost", "", ""},
		"Dropbox by name":        {"home/a/Dropbox/sealpost", "", "Dropbox"},
		"a company's Dropbox":    {"home/a/Dropbox (Acme)/x/sealpost", "", "Dropbox"},
		"OneDrive of a company":  {"home/a/OneDrive - Acme/sealpost", "", "OneDrive"},
		"iCloud":                 {"Users/a/Library/Mobile Documents/com~apple~CloudDocs/sealpost", "", "iCloud Drive"},
		"Syncthing by marker":    {"srv/shared/deep/sealpost", "srv/shared/.stfolder", "Syncthing"},
		"Nextcloud by marker":    {"srv/files/sealpost", "srv/files/.nextcloudsync.log", "Nextcloud"},
		"MEGA":                   {"home/a/MEGA/sealpost", "", "MEGA"},
		"begins like MEGA":       {"home/a/megabytes/sealpost", "", ""},
		"the folder itself":      {"home/a/Nextcloud", "", "Nextcloud"},
		"only named like a part": {"home/a/my-dropbox-notes/sealpost", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, c.dir)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if c.marker != "" {
				if err := os.WriteFile(filepath.Join(root, c.marker), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			link := filepath.Join(root, "link")
			if err := os.Symlink(dir, link); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{dir, link, filepath.Join(dir, "not", "yet", "there")} {
				f := Cloud(path)
				if (f.State == Attention) != (c.want != "") || !strings.Contains(f.Detail, c.want) || (f.Remedy == "") != (c.want == "") {
					t.Errorf("%s: %+v", path, f)
				}
			}
		})
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		mode os.FileMode
		want State
	}{{0o700, OK}, {0o750, Attention}, {0o707, Attention}} {
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		if f := Folder(dir); f.State != c.want {
			t.Errorf("%o: %+v", c.mode, f)
		}
	}
	if f := Folder(filepath.Join(dir, "none")); f.State != Problem || f.Remedy == "" {
		t.Errorf("%+v", f)
	}
}

func TestDisk(t *testing.T) {
	if f := Disk(filepath.Join(t.TempDir(), "not", "there")); !strings.Contains(f.Detail, "MB are free") {
		t.Errorf("%+v", f)
	}
}

func TestPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if f := Port("imap", l.Addr().String()); f.State != Problem || !strings.Contains(f.Remedy, "imap in [local]") {
		t.Errorf("%+v", f)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if f := Port("imap", l.Addr().String()); f.State != OK {
		t.Errorf("%+v", f)
	}
}
