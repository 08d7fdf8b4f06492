package keydisc

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func fileFinder(t *testing.T, paths ...string) *Finder {
	t.Helper()
	f, err := New(Options{Methods: []Method{File}, Files: paths, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileAnswers(t *testing.T) {
	alice, bob := load(t, "alice"), load(t, "bob")
	secret := mustRead(t, "testdata/secret.asc")
	for name, c := range map[string]struct {
		files      map[string][]byte
		found      int
		conclusive bool
	}{
		"armored":                   {map[string][]byte{"a.asc": mustRead(t, "testdata/alice.asc")}, 1, true},
		"binary":                    {map[string][]byte{"a.pgp": alice.Bytes()}, 1, true},
		"upper-case suffix":         {map[string][]byte{"A.GPG": alice.Bytes()}, 1, true},
		"several in one":            {map[string][]byte{"a.key": append(append([]byte{}, bob.Bytes()...), alice.Bytes()...)}, 1, true},
		"in several":                {map[string][]byte{"a.asc": alice.Bytes(), "b.asc": alice.Bytes()}, 1, true},
		"for others":                {map[string][]byte{"b.asc": bob.Bytes()}, 0, true},
		"none":                      {nil, 0, true},
		"something else beside it":  {map[string][]byte{"a.asc": alice.Bytes(), "README.txt": []byte("hello"), "s.bak": secret}, 1, true},
		"no certificate":            {map[string][]byte{"x.asc": []byte("hello")}, 0, false},
		"empty":                     {map[string][]byte{"x.asc": nil}, 0, false},
		"one of two is none":        {map[string][]byte{"a.asc": alice.Bytes(), "x.asc": []byte("hello")}, 1, false},
		"huge":                      {map[string][]byte{"x.asc": make([]byte, maxInput+1)}, 0, false},
		"secret":                    {map[string][]byte{"x.asc": secret}, 0, false},
		"secret behind the first":   {map[string][]byte{"x.asc": append(mustRead(t, "testdata/alice.asc"), secret...)}, 0, false},
		"secret without a user ID":  {map[string][]byte{"x.pgp": append(secretPacket(t), alice.Bytes()...)}, 0, false},
		"nothing but a secret part": {map[string][]byte{"x.pgp": secretPacket(t)}, 0, false},
	} {
		folder := t.TempDir()
		for path, data := range c.files {
			write(t, filepath.Join(folder, path), data)
		}
		answer := fileFinder(t, folder).Find(t.Context(), "alice@alpha.test")
		if len(answer.Found) != c.found || answer.Conclusive != c.conclusive {
			t.Errorf("%s: %+v", name, answer)
		}
		if !c.conclusive && !strings.Contains(answer.Err.Error(), filepath.Join(folder, "x.")) {
			t.Errorf("%s: the error does not name the file: %v", name, answer.Err)
		}
		if hasSecret := strings.Contains(name, "secret"); hasSecret != errors.Is(answer.Err, ErrSecretKey) {
			t.Errorf("%s: %v", name, answer.Err)
		}
		for _, f := range answer.Found {
			if f.Source != File || !f.Authenticated {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// secretPacket is a secret key packet and nothing else.
func secretPacket(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := entity(t, "bob@bravo.test").PrivateKey.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFileUnreadable(t *testing.T) {
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "inner.asc"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "inner.asc", "a.asc"), []byte("not looked at: folders are not searched below"))
	if answer := fileFinder(t, folder).Find(t.Context(), "alice@alpha.test"); !answer.Conclusive {
		t.Errorf("%+v", answer)
	}
	unreadable(t, filepath.Join(folder, "missing.asc"))
}

// unreadable leaves the answer open, but what another file has is found.
func unreadable(t *testing.T, path string) {
	t.Helper()
	answer := fileFinder(t, path, "testdata/alice.asc").Find(t.Context(), "alice@alpha.test")
	if answer.Conclusive || len(answer.Found) != 1 || !strings.Contains(answer.Err.Error(), path) {
		t.Errorf("%s: %+v", path, answer)
	}
}

// A file is read anew when it has changed, and at the latest when what is remembered of it is old.
func TestFileChanges(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "a.asc"), now
	f, err := New(Options{Methods: []Method{File}, Files: []string{path}, Now: func() time.Time { return clock }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	finds := func(when string, want bool) {
		t.Helper()
		if answer := f.Find(t.Context(), "alice@alpha.test"); answer.Conclusive != want || (len(answer.Found) == 1) != want {
			t.Errorf("%s: %+v", when, answer)
		}
	}
	garbage := func(data []byte) []byte { return bytes.Repeat([]byte{'x'}, len(data)) }
	alice := load(t, "alice").Bytes()
	set := func(data []byte, modified time.Time) {
		t.Helper()
		write(t, path, data)
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	finds("missing", false)
	set(alice, now)
	finds("written", true)
	set(garbage(alice), now)
	finds("not opened again", true)
	set(garbage(alice), now.Add(time.Second))
	finds("another time", false)
	set(alice, now)
	finds("mended", true)
	set(append(garbage(alice), 'x'), now)
	finds("another size", false)
	set(alice, now)
	finds("mended again", true)
	set(garbage(alice), now)
	clock = clock.Add(parsedFor)
	finds("remembered for too long", false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	finds("removed", false)
}

func FuzzParseFile(f *testing.F) {
	f.Add(mustRead(f, "testdata/alice.asc"))
	f.Add(mustRead(f, "testdata/secret.asc"))
	f.Add(load(f, "bob").Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if certificates, err := parseFile(data); err == nil && len(certificates) == 0 {
			t.Error("neither a certificate nor an error")
		}
	})
}
