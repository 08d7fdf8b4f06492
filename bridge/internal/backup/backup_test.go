package backup

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fixedCode is of nobody.
const fixedCode = "ABCDEFGHABCDEFGHABCDEFGHJKVR"

var (
	files = []File{{"README.txt", []byte("read me")}, {"keys/alice@alpha.test/AB.asc", bytes.Repeat([]byte("key "), 10_000)}, {"empty", []byte{}}}
	made  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

func written(t testing.TB, c Code) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, c, files, made); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriteRead(t *testing.T) {
	c := NewCode()
	data := written(t, c)
	got, err := Read(bytes.NewReader(data), c)
	if err != nil || !reflect.DeepEqual(got, files) {
		t.Fatalf("%d files, %v", len(got), err)
	}
	if bytes.Equal(data, written(t, c)) {
		t.Error("two backups are alike")
	}
	if bytes.Contains(data, []byte(c)) {
		t.Error("the code is in the backup")
	}
	if _, err := Read(bytes.NewReader(data), NewCode()); !errors.Is(err, ErrWrongCode) && !errors.Is(err, ErrDamaged) {
		t.Errorf("another code: %v", err)
	}
}

// TestDamageIsNoticed: one octet changed anywhere, or the end cut off, and nothing is given.
func TestDamageIsNoticed(t *testing.T) {
	c := NewCode()
	data := written(t, c)
	for _, at := range []int{0, len(data) / 4, len(data) / 2, len(data) * 3 / 4, len(data) - 60} {
		damaged := bytes.Clone(data)
		if damaged[at] == 'A' {
			damaged[at] = 'B'
		} else {
			damaged[at] = 'A'
		}
		if got, err := Read(bytes.NewReader(damaged), c); err == nil || got != nil {
			t.Errorf("octet %d changed: %d files, %v", at, len(got), err)
		}
	}
	for _, n := range []int{0, 1, 100, len(data) / 2} {
		if got, err := Read(bytes.NewReader(data[:n]), c); err == nil || got != nil {
			t.Errorf("%d octets left: %d files, %v", n, len(got), err)
		}
	}
}

func TestExpensiveDerivationIsRefused(t *testing.T) {
	c := NewCode()
	data := written(t, c)
	for _, dear := range []string{"-t 3 -k 99999999 -p 1", "-t 99999 -k 65536 -p 1", "-t 0 -k 65536 -p 1", "-t 3 -k 65536 -p 0"} {
		changed := bytes.Replace(data, []byte("-t 3 -k 65536 -p 1"), []byte(dear), 1)
		if _, err := Read(bytes.NewReader(changed), c); !errors.Is(err, ErrNotBackup) {
			t.Errorf("%s: %v", dear, err)
		}
	}
}

func TestCode(t *testing.T) {
	c := NewCode()
	shown := c.String()
	if len(shown) != 28+6 || c == NewCode() {
		t.Fatal("the code is not what it should be")
	}
	for _, typed := range []string{shown, strings.ToLower(shown), " " + strings.ReplaceAll(shown, "-", " ") + "\n", string(c),
		strings.NewReplacer("0", "o", "1", "l").Replace(shown)} {
		if got, err := ParseCode(typed); err != nil || got != c {
			t.Errorf("%q: %v", typed, err)
		}
	}
	wrong := 0
	for i := range len(c) {
		for _, letter := range alphabet {
			typo := []byte(c)
			typo[i] = byte(letter)
			if _, err := ParseCode(string(typo)); err == nil && string(typo) != string(c) {
				wrong++
			}
		}
	}
	if wrong > 10 { // of 868; one in 1,024 passes
		t.Errorf("%d typing errors pass", wrong)
	}
	for _, bad := range []string{"", "ABCD", string(c) + "A", strings.Repeat("é", 28), "*" + string(c)[1:]} {
		if _, err := ParseCode(bad); err == nil || strings.Contains(err.Error(), string(c)[5:]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	c, err := ParseCode(fixedCode)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(written(f, c)[:200])
	f.Add([]byte("-----BEGIN PGP MESSAGE-----\nComment: sealpost backup 1, argon2id -t 1 -k 8 -p 1 -l 32, salt 0123456789\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("-k 65536")) {
			data = bytes.Replace(data, []byte("-k 65536"), []byte("-k 8"), 1)
		}
		if got, err := Read(bytes.NewReader(data), c); err != nil && got != nil {
			t.Error("files of a bad backup")
		}
	})
}

func FuzzParseCode(f *testing.F) {
	f.Add(fixedCode)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCode(text)
		if err != nil {
			return
		}
		if again, err := ParseCode(c.String()); err != nil || again != c {
			t.Error(err)
		}
	})
}
