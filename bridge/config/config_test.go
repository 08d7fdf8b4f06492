package config

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"
)

// testdata/bad.txt: each file is followed by one named "want" with the beginning of
// each line of the error.
func TestBadFiles(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/bad.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		file, want := archive.Files[i], strings.Split(strings.TrimSpace(string(archive.Files[i+1].Data)), "\n")
		t.Run(file.Name, func(t *testing.T) {
			_, err := parse("c.toml", file.Data)
			var problems Problems
			if !errors.As(err, &problems) || len(problems) != len(want) {
				t.Fatalf("got %v\nwant %q", err, want)
			}
			for i, problem := range problems {
				if !strings.HasPrefix(problem.Error(), want[i]) || problem.Remedy == "" {
					t.Errorf("got  %s\nwant %s", problem, want[i])
				}
			}
		})
	}
}

// The example names every key of the code and no other, and shows the defaults.
func TestExampleIsTrue(t *testing.T) {
	data, err := os.ReadFile("../../config.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parse("config.example.toml", data)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, l := range linesOf(data) {
		found[display(l.key)] = true
	}
	for _, key := range keys() {
		if !found[key] {
			t.Errorf("key %s is missing", key)
		}
	}
	want := Default()
	want.resolvePaths(".")
	want.Accounts, want.Policy.Rules, want.Keydisc.LDAP, want.Keydisc.Lists, want.Devices = c.Accounts, c.Policy.Rules, c.Keydisc.LDAP, c.Keydisc.Lists, c.Devices
	g := &want.Gateway
	g.Domains, g.DomainPolicies, g.Groups, g.Users, g.Partners, g.Tenants = c.Gateway.Domains, c.Gateway.DomainPolicies, c.Gateway.Groups, c.Gateway.Users, c.Gateway.Partners, c.Gateway.Tenants
	if want.Keydisc.Resolve == nil {
		want.Keydisc.Resolve = c.Keydisc.Resolve
	}
	if diff := cmp.Diff(want, c, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("differs from the defaults:\n%s", diff)
	}
	account := Account{Address: c.Accounts[0].Address, Aliases: []string{}, IMAP: c.Accounts[0].IMAP, SMTP: c.Accounts[0].SMTP}
	account.setDefaults()
	if diff := cmp.Diff(account, c.Accounts[0]); diff != "" {
		t.Errorf("differs from an account's defaults:\n%s", diff)
	}
	explainsEachKey(t, string(data))
}

// explainsEachKey wants a comment on the line of a key or above it.
func explainsEachKey(t *testing.T, text string) {
	key := regexp.MustCompile(`^[a-z_]+ *=`)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if !key.MatchString(line) || strings.Contains(line, "#") {
			continue
		}
		above := i
		for above > 0 && lines[above] != "" && !strings.HasPrefix(lines[above], "#") {
			above--
		}
		if !strings.HasPrefix(lines[above], "#") {
			t.Errorf("line %d has no explanation: %s", i+1, line)
		}
	}
}

func TestSealing(t *testing.T) {
	for text, want := range map[string]struct {
		all  bool
		list []string
	}{
		``:                      {all: true},
		`seal = "all"`:          {all: true},
		`seal = "off"`:          {},
		`seal = ["A", "INBOX"]`: {list: []string{"A", "INBOX"}},
	} {
		c, err := parse("c.toml", []byte("[[account]]\naddress='a@b.test'\nimap='imaps://b.test'\nsmtp='smtps://b.test'\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		if all, list := c.Accounts[0].Sealing(); all != want.all || !slices.Equal(list, want.list) {
			t.Errorf("%s: got %v %v", text, all, list)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Setenv("HOME", "/home/alice")
	c, err := parse("/etc/sealpost/config.toml", []byte("state_dir = '~/state'\n[vault]\npassphrase_file = 'pass'\n[keydisc]\nca_file = '/ca.pem'\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := []string{c.StateDir, c.Vault.PassphraseFile, c.Keydisc.CAFile}; !slices.Equal(got, []string{"/home/alice/state", "/etc/sealpost/pass", "/ca.pem"}) {
		t.Error(got)
	}
	t.Setenv("SEALPOST_CONFIG", "")
	t.Setenv("XDG_CONFIG_HOME", "/xdg")
	if got := DefaultPath(); got != "/xdg/sealpost/config.toml" {
		t.Error(got)
	}
	t.Setenv("SEALPOST_CONFIG", "/here.toml")
	if got := DefaultPath(); got != "/here.toml" {
		t.Error(got)
	}
}

func TestAddAccount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "config.toml")
	alice := Account{Address: "alice@alpha.test", IMAP: "imaps://mail.alpha.test", SMTP: "smtps://mail.alpha.test"}
	if err := AddAccount(path, "# mine\nstate_dir = \"/s\"\n", alice); err != nil {
		t.Fatal(err)
	}
	bob := Account{Address: "bob@bravo.test", IMAP: "imap+starttls://m.bravo.test:143", SMTP: "smtp+starttls://m.bravo.test:587", Username: "bob", CAFile: "/ca \"x\".pem"}
	if err := AddAccount(path, "unused", bob); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	if err := AddAccount(path, "", alice); err == nil {
		t.Error("the same address twice was accepted")
	}
	after, _ := os.ReadFile(path)
	if string(before) != string(after) || !strings.HasPrefix(string(after), "# mine\n") {
		t.Errorf("file changed: %s", after)
	}
	c, err := Load(path)
	if err != nil || len(c.Accounts) != 2 || c.Accounts[1].Username != "bob" || c.Accounts[1].CAFile != bob.CAFile {
		t.Errorf("%v %+v", err, c)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// Everything an account can hold survives being written and read.
func TestAddAccountKeepsEveryKey(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.toml"), filepath.Join(dir, "config.toml")
	if err := errors.Join(os.WriteFile(real, []byte("state_dir = '/s' # no line end"), 0o600), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	for i, seal := range []any{"off", "all", []any{"INBOX", "Entwürfe \"x\""}} {
		name, connections := string(rune('a'+i)), 4+i
		want := Account{
			Address: name + "@alpha.test", Aliases: []string{name + "2@alpha.test", name + "3@alpha.test"}, Username: "A\u0007\\B\n",
			IMAP: "imaps://m.alpha.test", SMTP: "smtps://m.alpha.test", Auth: "password", CAFile: "/c\td\"e", Seal: seal, Headers: "shy",
			Connections: &connections,
		}
		if err := AddAccount(link, "", want); err != nil {
			t.Fatal(err)
		}
		c, err := Load(link)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, c.Accounts[i]); diff != "" {
			t.Error(diff)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced", err)
	}
}

func TestLoadMissing(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.toml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "sealpost init") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	example, _ := os.ReadFile("../../config.example.toml")
	f.Add(example)
	f.Add([]byte("[[account]]\nseal = [1]\n[policy]\nrule = 3\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("c.toml", data)
		if (c == nil) == (err == nil) {
			t.Fatal("neither a configuration nor an error")
		}
	})
}
