//go:build peers

package backup

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
)

// TestStockProgramsOpenABackup follows docs/backup.md: argon2, gpg and tar.
func TestStockProgramsOpenABackup(t *testing.T) {
	peers.Need(t, "argon2", "argon2")
	peers.Need(t, "gpg", "gnupg")
	page, err := os.ReadFile("../../../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(page), "```sh\n")
	commands, _, _ := strings.Cut(after, "```")
	c := NewCode()
	dir := t.TempDir()
	data := written(t, c)
	if err := os.WriteFile(filepath.Join(dir, "sealpost.asc"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	salt := regexp.MustCompile(`salt ([0-9a-z]+)`).FindSubmatch(data)
	commands = strings.NewReplacer("CODE", c.plain(), "SALT", string(salt[1])).Replace(commands)
	home := filepath.Join(dir, "gnupg")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	peers.Run(t, []string{"GNUPGHOME=" + home}, nil, "sh", "-ec", "cd "+dir+"\n"+commands)
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(dir, "sealpost", f.Name))
		if err != nil || !bytes.Equal(got, f.Data) {
			t.Errorf("%s: %d octets, %v", f.Name, len(got), err)
		}
	}
}
