//go:build peers

package export

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func need(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing; install %s", program, debian)
	}
}

func exported(t *testing.T) (dir string) {
	t.Helper()
	r := newRig(t)
	r.deliverAll()
	dir = filepath.Join(t.TempDir(), "export")
	_, err := r.desk(noon).Export(t.Context(), request(dir), quiet)
	check(t, err)
	return dir
}

// The page of shell commands finds what the program finds.
func TestHowToVerify(t *testing.T) {
	need(t, "gpg", "gnupg")
	dir := exported(t)
	page := contentsOf(t, dir)[howToFile]
	run := func() (string, error) {
		script := "set -e -o pipefail\n" + howToCommands(t, page) + "\ngpgconf --kill all\n"
		cmd := exec.Command("bash", "-c", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(); err != nil || !strings.Contains(out, "Good signature") {
		t.Fatalf("%v\n%s", err, out)
	}
	files := contentsOf(t, dir)
	for _, name := range []string{"native/ACME-00000001.eml", sumsFile, signatureFile, manifestFile, datFile} {
		path := filepath.Join(dir, name)
		for how, change := range map[string]func() error{
			"changed": func() error { return os.WriteFile(path, flip(files[name], len(files[name])/2), 0o600) },
			"renamed": func() error { return os.Rename(path, path+"x") },
			"added":   func() error { return os.WriteFile(path+"x", nil, 0o600) },
		} {
			check(t, change())
			if out, err := run(); err == nil {
				t.Errorf("%s %s: not found\n%s", name, how, out)
			}
			_, _ = os.Remove(path+"x"), os.Remove(path)
			check(t, os.WriteFile(path, []byte(files[name]), 0o600))
		}
	}
	for _, name := range []string{"native/" + sumsFile, "native/" + tokenFile, "text/handover-1.json", "handover-9evil.json", "native/link"} {
		path := filepath.Join(dir, name)
		check(t, os.Symlink("/etc/hostname", path))
		if out, err := run(); err == nil {
			t.Errorf("%s was added and not found\n%s", name, out)
		}
		check(t, os.Remove(path))
	}
}

// howToCommands are the commands of the page for an export in clear.
func howToCommands(t *testing.T, page string) string {
	t.Helper()
	_, page, ok := strings.Cut(page, "Without it,")
	page, _, ok2 := strings.Cut(page, "The custody log")
	if !ok || !ok2 {
		t.Fatal("the page has changed")
	}
	var commands []string
	for line := range strings.Lines(page) {
		if command, indented := strings.CutPrefix(line, "    "); indented {
			commands = append(commands, command)
		}
	}
	if len(commands) != 6 {
		t.Fatalf("%d commands", len(commands))
	}
	return strings.Join(commands, "")
}

// Another reader of each format finds the same messages in it.
func TestOthersReadIt(t *testing.T) {
	need(t, "xmllint", "libxml2-utils")
	need(t, "python3", "python3")
	dir := exported(t)
	for name, command := range map[string][]string{
		"EDRM XML": {"xmllint", "--noout", "--nonet", edrmFile},
		"EDRM XML documents": {"bash", "-c", `test "$(xmllint --xpath 'count(/Root/Batch/Documents/Document)' edrm.xml)" = 9 &&
			test "$(xmllint --xpath 'count(/Root/Batch/Relationships/Relationship)' edrm.xml)" = 5`},
		"report": {"xmllint", "--noout", "--html", "--nonet", reportFile},
		"mbox":   {"python3", "-c", mboxReader},
		"DAT":    {"python3", "-c", datReader},
	} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil && !(name == "report" && onlyUnknownTags(string(out))) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// onlyUnknownTags: xmllint knows HTML 4, which has no SVG.
func onlyUnknownTags(out string) bool {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "error :") && !strings.Contains(line, "Tag svg invalid") && !strings.Contains(line, "Tag rect invalid") {
			return false
		}
	}
	return true
}

const mboxReader = `
import mailbox, re, glob
box = mailbox.mbox("messages.mbox", create=False)
subjects = [str(m["Subject"]) for m in box]
natives = sorted(glob.glob("native/*.eml"))
roots = [n for n in natives if n[-12:-4] in ("00000001", "00000004", "00000008", "00000009")]
assert len(subjects) == len(roots) == 4, subjects
for key, path in zip(box.keys(), roots):
    body = box.get_bytes(key)
    body = re.sub(rb"^>(>*From )", rb"\1", body, flags=re.M)
    assert body.rstrip(b"\n") == open(path, "rb").read().replace(b"\r\n", b"\n").rstrip(b"\n"), path
`

const datReader = `
import hashlib
text = open("loadfile.dat", encoding="utf-8-sig", newline="").read()
rows = [[f.strip("\u00fe") for f in line.split("\x14")] for line in text.split("\r\n")[:-1]]
head = rows[0]
assert len(rows) == 10 and all(len(r) == len(head) for r in rows)
for row in rows[1:]:
    d = dict(zip(head, row))
    data = open(d["NATIVEPATH"], "rb").read()
    assert hashlib.sha256(data).hexdigest() == d["SHA256HASH"] and hashlib.md5(data).hexdigest() == d["MD5HASH"] and str(len(data)) == d["FILESIZE"]
    if d["MESSAGEID"]:
        assert hashlib.md5(d["MESSAGEID"].encode()).hexdigest() == d["EDRM_MIH"]
    open(d["TEXTPATH"], encoding="utf-8").read()
`
