package pgpmime

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"pgregory.net/rapid"
)

// Our armor is what the library's slower one is, with CRLF.
func TestArmorIsTheLibrarys(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 500).Draw(r, "data")
		checksum := rapid.Bool().Draw(r, "checksum")
		var ours, theirs bytes.Buffer
		w := newArmor(&ours, checksum)
		for rest := data; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(r, "write")
			if _, err := w.Write(rest[:n]); err != nil {
				r.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			r.Fatal(err)
		}
		a, err := armor.EncodeWithChecksumOption(&theirs, "PGP MESSAGE", nil, checksum)
		if err != nil {
			r.Fatal(err)
		}
		_, _ = a.Write(data)
		_ = a.Close()
		if got, want := ours.String(), crlf(strings.TrimSuffix(theirs.String(), "\n")+"\n"); got != want {
			r.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// RFC 9580 §6.1: no checksum where the message ends in SEIPDv2.
func TestChecksumOnlyForOldReaders(t *testing.T) {
	for name, want := range map[string]bool{"bob": true, "aead": false, "v6": false} {
		sent := encrypted(t, letter, EncryptOptions{Recipients: certs(t, name)})
		if got := strings.Contains(sent, "\r\n="); got != want {
			t.Errorf("%s: checksum %v", name, got)
		}
	}
}

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestWriteErrorsAreReported(t *testing.T) {
	long := letter + strings.Repeat("x", 200<<10)
	for _, after := range []int{0, 100, 1000, 60 << 10, 270 << 10} {
		if err := Encrypt(&failing{after}, source(long), EncryptOptions{Recipients: certs(t, "bob"), Signer: key(t, "alice")}); err == nil {
			t.Errorf("Encrypt: no error after %d bytes", after)
		}
		if _, err := Seal(&failing{after}, source(long), cert(t, "bob"), testSealKey, nil, testNow); err == nil {
			t.Errorf("Seal: no error after %d bytes", after)
		}
	}
}
