package pgpmime

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"net/mail"
	"os"
	"strings"
	"testing"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

func sealed(t testing.TB, message string, sealKey []byte) string {
	t.Helper()
	var out bytes.Buffer
	if _, err := Seal(&out, source(message), cert(t, "bob"), sealKey, []byte("uid 1"), testNow); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestOpenSealed(t *testing.T) {
	part := plain("text\n")
	signed := outerHeader + builder{t}.signedMIME(part, builder{t}.signature("alice", crypto.SHA256, testNow, part))
	for _, c := range []struct {
		name, message string
		signature     Signature
	}{
		{"plain", letter, SignatureNone},
		{"signed", signed, SignatureGood},
		{"tampered", strings.Replace(signed, "text\r\n", "test\r\n", 1), SignatureBad},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, shown := opened(t, sealed(t, c.message, testSealKey))
			if r.Encryption != EncryptionSealed || r.Signature != c.signature || shown != c.message {
				t.Errorf("%s, %s: %s", r.Encryption, r.Signature, shown)
			}
		})
	}
}

// Ciphertext with a visible subject is sealed, too. Its verdict is the one it has without a seal.
func TestOpenSealedCiphertext(t *testing.T) {
	b := builder{t}
	visible := strings.Replace(outerHeader, "[...]", "visible", 1)
	for _, c := range []struct {
		name, message string
		encryption    Encryption
		signature     Signature
		reason        string
	}{
		{"for us", visible + encryptedMIME(b.toBob(b.packets(b.payload(), 0))), EncryptionOpenPGP, SignatureNone, ""},
		{"signed", visible + encryptedMIME(b.toBob(b.packets(b.payload(), 0, "alice"))), EncryptionOpenPGP, SignatureGood, ""},
		{"signed, then encrypted", visible + encryptedMIME(b.toBob(b.packets(b.good(b.payload()), 0))), EncryptionOpenPGP, SignatureGood, ""},
		{"inline", visible + plain("") + b.toBob(b.packets(victim+"\n", 0, "alice")), EncryptionOpenPGP, SignatureGood, reasonInline},
		{"for somebody else", visible + encryptedMIME(b.armored("PGP MESSAGE", b.pkesk("alice", 1), framed(18, b.seipd(b.packets(b.payload(), 0))))), EncryptionFailed, SignatureNone, "no-key"},
		{"broken", visible + mime(encryptedType, control), EncryptionFailed, SignatureNone, reasonMalformed},
		{"not the root", visible + mime("multipart/alternative", encryptedMIME(b.toBob(b.packets(b.payload(), 0))), plain("x")), EncryptionSealed, SignatureNone, ""},
		{"a seal in a seal", sealed(t, letter, testSealKey), EncryptionOpenPGP, SignatureNone, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, shown := opened(t, sealed(t, c.message, testSealKey))
			if !r.Sealed || r.Encryption != c.encryption || r.Signature != c.signature || r.Reason != c.reason {
				t.Errorf("sealed=%v encryption=%s signature=%s reason=%s", r.Sealed, r.Encryption, r.Signature, r.Reason)
			}
			if decrypted := strings.Contains(shown, "\r\n\r\ncanary-"); decrypted != (c.encryption == EncryptionOpenPGP) || !decrypted && shown != c.message {
				t.Errorf("shown is\n%s", shown)
			}
		})
	}
}

// What a sender has encrypted was never safer than its own session keys, whatever the seal's are.
func TestPostQuantumOfSealedCiphertext(t *testing.T) {
	inside := strings.Replace(encrypted(t, letter, EncryptOptions{Recipients: certs(t, "bob")}), "[...]", "visible", 1)
	var out bytes.Buffer
	if _, err := Seal(&out, source(inside), cert(t, "pq"), testSealKey, nil, testNow); err != nil {
		t.Fatal(err)
	}
	if r, _ := opened(t, out.String(), "pq", "bob"); r.Encryption != EncryptionOpenPGP || r.PQ {
		t.Errorf("encryption=%s pq=%v", r.Encryption, r.PQ)
	}
	out.Reset()
	if _, err := Seal(&out, source(letter), cert(t, "pq"), testSealKey, nil, testNow); err != nil {
		t.Fatal(err)
	}
	if r, _ := opened(t, out.String(), "pq"); r.Encryption != EncryptionSealed || !r.PQ {
		t.Errorf("encryption=%s pq=%v", r.Encryption, r.PQ)
	}
}

func TestForeignSealIsPlainEncryption(t *testing.T) {
	foreign := sealed(t, letter, []byte("the seal key of somebody else"))
	r, shown := opened(t, foreign)
	if r.Encryption != EncryptionOpenPGP || r.Signature != SignatureNone || strings.Contains(shown, "X-Sealpost") {
		t.Errorf("%s, %s: %s", r.Encryption, r.Signature, shown)
	}
	k := Keys{Decrypters: openpgp.EntityList{key(t, "bob")}, SealKeys: [][]byte{testSealKey}}
	for name, message := range map[string]string{
		"foreign":    foreign,
		"clear":      letter,
		"not for us": strings.Replace(encrypted(t, letter, EncryptOptions{Recipients: certs(t, "alice")}), "From:", "X-Sealpost-Seal: v=1\r\nFrom:", 1),
		"moved":      moveSeal(sealed(t, letter, testSealKey), encrypted(t, letter, EncryptOptions{Recipients: certs(t, "bob")})),
		"empty":      "",
	} {
		if s, err := Unseal(source(message), k, t.TempDir()); !errors.Is(err, ErrNotSealed) || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// moveSeal puts the seal of one message on another.
func moveSeal(from, to string) string {
	h := mimescan.ParseHeader([]byte(from))
	return sealField + ": " + h.Get(sealField) + "\r\n" + to
}

func TestSealedHeaderIsValid(t *testing.T) {
	for name, original := range map[string]string{
		"broken": "From: @@@\r\nTo: \xff\xfe\r\nDate: yesterday\r\nMessage-ID: no brackets\r\nBcc: hidden@delta.test\r\n\r\n",
		"8 bit":  "From: J\u00fcrgen <j@alpha.test>\r\nTo: Jos\xe9 <a@b.test>\r\nReferences: <a@b> junk <c@d>\r\n\r\n",
		"empty":  "", "body only": "\r\nbody", "huge": "To: " + strings.Repeat("a@b.test, ", 50000) + "a@b.test\r\n\r\n",
		"injected": "To: a@b.test\rX-Evil: 1\r\nMessage-ID: <a\r\n b>\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			out := sealed(t, original, testSealKey)
			m, err := mail.ReadMessage(strings.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Header.AddressList("From"); err != nil {
				t.Errorf("From: %v", err)
			}
			if _, err := m.Header.Date(); err != nil {
				t.Errorf("Date: %v", err)
			}
			for field := range m.Header {
				switch field {
				case "From", "To", "Cc", "Subject", "Date", "Message-Id", "In-Reply-To", "References", "X-Sealpost-Seal", "Mime-Version", "Content-Type":
				default:
					t.Errorf("field %s", field)
				}
			}
			for line := range strings.SplitSeq(out, "\r\n") {
				if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") || strings.ContainsFunc(line, func(r rune) bool { return r >= 0x7f }) {
					t.Errorf("line %.100q", line)
				}
			}
		})
	}
}

func TestReadable(t *testing.T) {
	b := builder{t}
	good := outerHeader + encryptedMIME(b.toBob(b.packets(b.payload(), 0)))
	sub := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	esk, data := b.pkesk("bob", 1), b.seipd(b.packets(b.payload(), 0))
	for _, c := range []struct {
		name, message        string
		readable, ciphertext bool
	}{
		{"encrypted", good, false, true},
		{"our own", encrypted(t, letter, EncryptOptions{Recipients: certs(t, "bob")}), false, true},
		{"post-quantum", encrypted(t, letter, EncryptOptions{Recipients: certs(t, "pq", "aead", "v6")}), false, true},
		{"sealed", sealed(t, letter, testSealKey), false, true},
		{"no subject", sub("Subject: [...]\r\n", ""), false, true},
		{"dots", sub("[...]", "..."), false, true},
		{"stand-in", sub("[...]", "Encrypted Message"), false, true},
		{"subject", sub("[...]", "secret"), true, true},
		{"second subject", sub("To:", "Subject: secret\r\nTo:"), true, true},
		{"keywords", sub("To:", "Keywords: secret\r\nTo:"), true, true},
		{"clear", letter, true, false},
		{"empty", "", true, false},
		{"signed", outerHeader + b.good(plain("x")), true, false},
		{"preamble", sub("\r\n\r\n--b2-", "\r\n\r\nsecret\r\n--b2-"), true, false},
		{"usual preamble", sub("\r\n\r\n--b2-", "\r\n\r\nThis is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n--b2-"), false, true},
		{"epilogue", good + "secret", true, false},
		{"before armor", sub("-----BEGIN", "secret\r\n-----BEGIN"), true, false},
		{"after armor", sub("MESSAGE-----\r\n\r\n--", "MESSAGE-----\r\nsecret\r\n\r\n--"), true, false},
		{"control", sub("\r\n\r\nVersion: 1", "\r\n\r\nVersion: 1\r\nsecret"), true, false},
		{"line that is no field", "secret\r\n" + good, true, true},
		{"three parts", outerHeader + mime(encryptedType, control, octets(b.toBob(nil)), plain("secret")), true, false},
		{"no keys", outerHeader + encryptedMIME(b.armored("PGP MESSAGE", framed(18, data))), true, false},
		{"sed", outerHeader + encryptedMIME(b.armored("PGP MESSAGE", esk, framed(9, data))), true, false},
		{"literal", outerHeader + encryptedMIME(b.armored("PGP MESSAGE", b.packets("secret", 0))), true, false},
		{"literal after", outerHeader + encryptedMIME(b.armored("PGP MESSAGE", esk, framed(18, data), b.packets("secret", 0))), true, false},
		{"truncated", outerHeader + encryptedMIME(b.armored("PGP MESSAGE", esk, framed(18, data)[:60])), true, false},
		{"short", outerHeader + encryptedMIME(b.armored("PGP MESSAGE", esk, framed(18, []byte("\x01secret")))), true, false},
		{"inline", outerHeader + plain("") + b.toBob(b.packets("x", 0)), true, false},
	} {
		readable, err := Readable(source(c.message))
		if readable != c.readable || err != nil {
			t.Errorf("%s: readable is %v, %v", c.name, readable, err)
		}
		if ciphertext, err := Ciphertext(source(c.message)); ciphertext != c.ciphertext || err != nil {
			t.Errorf("%s: ciphertext is %v, %v", c.name, ciphertext, err)
		}
	}
}

// broken is a source whose bytes cannot be read from some offset on.
type broken struct {
	*strings.Reader
	from int64
}

var errDisk = errors.New("disk is gone")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.from {
		return 0, errDisk
	}
	return b.Reader.ReadAt(p, off)
}

// A disk that fails says nothing about the message: no verdict may come of it.
func TestFaultsAreNoVerdicts(t *testing.T) {
	b := builder{t}
	long := strings.Repeat("0123456789abcdef", 40<<10)
	for _, message := range []string{
		letter, outerHeader + b.good(plain(long)), sealed(t, long, testSealKey),
		encrypted(t, letter+long, EncryptOptions{Recipients: certs(t, "bob"), Signer: key(t, "alice")}),
	} {
		k := Keys{Decrypters: openpgp.EntityList{key(t, "bob")}, SealKeys: [][]byte{testSealKey}}
		for _, from := range []int64{0, 100, int64(len(message)) / 2, int64(len(message)) - 10} {
			src := broken{strings.NewReader(message), from}
			r, err := Open(src, k, directory(t, "alice"), testNow, t.TempDir())
			if r != nil || !errors.Is(err, ErrIO) || !errors.Is(err, errDisk) {
				if message == letter && r != nil && r.Message == nil && err == nil {
					continue // only the header of a clear message is read
				}
				t.Errorf("read fault at %d: %+v, %v", from, r, err)
			}
			if _, err := Readable(src); err == nil && message != letter {
				t.Errorf("read fault at %d: readable has no error", from)
			}
		}
		missing := t.TempDir() + "/missing"
		r, err := Open(source(message), k, directory(t, "alice"), testNow, missing)
		if opens := len(message) > len(long) && !strings.Contains(message, "multipart/signed"); opens && !errors.Is(err, ErrIO) {
			t.Errorf("no place to spool: %+v, %v", r, err)
		}
	}
	k := Keys{Decrypters: openpgp.EntityList{key(t, "bob")}, SealKeys: [][]byte{testSealKey}}
	if _, err := Unseal(source(sealed(t, long, testSealKey)), k, t.TempDir()+"/missing"); !errors.Is(err, ErrIO) {
		t.Errorf("Unseal: %v", err)
	}
	if err := Encrypt(io.Discard, broken{strings.NewReader(letter), 10}, EncryptOptions{Recipients: certs(t, "bob")}); !errors.Is(err, errDisk) {
		t.Errorf("Encrypt: %v", err)
	}
}

// Nothing that was decrypted may stay behind in the spool folder.
func TestNothingStaysInTheSpoolFolder(t *testing.T) {
	dir := t.TempDir()
	k := Keys{Decrypters: openpgp.EntityList{key(t, "bob")}}
	message := encrypted(t, letter+strings.Repeat("x", 1<<20), EncryptOptions{Recipients: certs(t, "bob")})
	r, err := Open(source(message), k, directory(t), testNow, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Message.Close()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}
