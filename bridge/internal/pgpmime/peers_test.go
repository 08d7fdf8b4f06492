//go:build peers

package pgpmime

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// peer is another OpenPGP program with alice's and bob's keys.
type peer struct {
	*testing.T
	dir string
}

func newPeer(t *testing.T, program, debianPackage string) peer {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing: apt-get install %s", program, debianPackage)
	}
	// Not t.TempDir(): gpg-agent's socket does not fit into a long path.
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := peer{t, dir}
	for _, name := range []string{"alice", "bob"} {
		var public bytes.Buffer
		if err := key(t, name).Serialize(&public); err != nil {
			t.Fatal(err)
		}
		p.file(name+".cert", public.String())
		var secret bytes.Buffer
		if err := key(t, name).SerializePrivateWithoutSigning(&secret, nil); err != nil {
			t.Fatal(err)
		}
		p.file(name+".key", secret.String())
	}
	return p
}

func (p peer) file(name, content string) string {
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		p.Fatal(err)
	}
	return path
}

func (p peer) run(input, program string, args ...string) (stdout, stderr string) {
	p.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdin = p.dir, strings.NewReader(input)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+p.dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		p.Fatalf("%s %v: %v\n%s", program, args, err, errs.String())
	}
	return out.String(), errs.String()
}

func newGPG(t *testing.T) peer {
	p := newPeer(t, "gpg", "gnupg")
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", p.dir, "--kill", "all").Run() })
	p.gpg("", "--import", "alice.key", "bob.key")
	return p
}

func (p peer) gpg(input string, args ...string) (stdout, stderr string) {
	p.Helper()
	return p.run(input, "gpg", append([]string{"--batch", "--no-tty", "--trust-model", "always", "--status-fd", "2"}, args...)...)
}

// armoredPart is the second part of a PGP/MIME message.
func armoredPart(t *testing.T, message string) string {
	t.Helper()
	root, err := mimescan.Scan(source(message))
	if err != nil || len(root.Children) != 2 {
		t.Fatal(err, message)
	}
	body := root.Children[1].Body
	return message[body.Start:body.End]
}

// openedNow is opened, at the time it is: what peers sign is of now.
func openedNow(t *testing.T, message string) (*Result, string) {
	t.Helper()
	k := Keys{Decrypters: openpgp.EntityList{key(t, "bob")}, SealKeys: [][]byte{testSealKey}}
	r, err := Open(source(message), k, directory(t, "alice"), time.Now(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if r.Message == nil {
		return r, message
	}
	t.Cleanup(func() { _ = r.Message.Close() })
	return r, content(t, r.Message)
}

func TestGPGReadsWhatWeWrite(t *testing.T) {
	p := newGPG(t)
	// Every length modulo three: gpg 2.2 stumbles over base64 without padding and checksum.
	for i, recipients := range [][]string{{"bob"}, {"bob", "alice"}, {"bob", "rsa"}, {"bob"}, {"bob"}, {"bob"}} {
		message := letter + strings.Repeat("x", i)
		sent := encrypted(t, message, EncryptOptions{Recipients: certs(t, recipients...), Signer: key(t, "alice"), Time: time.Now()})
		plaintext, status := p.gpg(armoredPart(t, sent), "--decrypt")
		if plaintext != payloadOf(t, sent) || !strings.HasSuffix(plaintext, message[strings.Index(message, "canary-body"):]) {
			t.Errorf("gpg reads\n%s", plaintext)
		}
		for _, want := range []string{"GOODSIG", "DECRYPTION_OKAY", "VALIDSIG " + string(cert(t, "alice").Fingerprint())} {
			if !strings.Contains(status, "[GNUPG:] "+want) {
				t.Errorf("no %s in\n%s", want, status)
			}
		}
	}
}

func TestGPGReadsASealedMessage(t *testing.T) {
	p := newGPG(t)
	for _, original := range []string{letter, "bare \n and \r and \x00 and \xff, no end", ""} {
		plaintext, _ := p.gpg(armoredPart(t, sealed(t, original, testSealKey)), "--decrypt")
		if plaintext != original {
			t.Errorf("%q reads %q", original, plaintext)
		}
	}
}

func TestWeReadWhatGPGWrites(t *testing.T) {
	p := newGPG(t)
	inner := builder{t}.payload()
	for name, args := range map[string][]string{
		"signed":         {"--sign", "-u", "alice@alpha.test"},
		"uncompressed":   {"--sign", "-u", "alice@alpha.test", "--compress-algo", "none"},
		"bzip2":          {"--sign", "-u", "alice@alpha.test", "--compress-algo", "bzip2"},
		"text signature": {"--sign", "-u", "alice@alpha.test", "--textmode"},
		"hidden":         {"--sign", "-u", "alice@alpha.test", "--throw-keyids"},
		"unsigned":       {},
	} {
		armored, _ := p.gpg(inner, append([]string{"--encrypt", "--armor", "-r", "bob@bravo.test"}, args...)...)
		r, shown := openedNow(t, outerHeader+encryptedMIME(crlf(armored)))
		want := SignatureGood
		if name == "unsigned" {
			want = SignatureNone
		}
		if r.Encryption != EncryptionOpenPGP || r.Signature != want || !strings.Contains(shown, "\r\n\r\n"+victim+"\r\n") {
			t.Errorf("%s: %+v\n%s", name, r, shown)
		}
	}
}

func TestWeVerifyWhatGPGSigns(t *testing.T) {
	p := newGPG(t)
	part := plain("text with trailing space \nand ü\n")
	for name, c := range map[string]struct {
		args []string
		want Signature
	}{
		"binary": {nil, SignatureGood}, "text": {[]string{"--textmode"}, SignatureGood},
		"SHA-512": {[]string{"--digest-algo", "SHA512"}, SignatureGood},
		"SHA-1":   {[]string{"--digest-algo", "SHA1"}, SignatureBad},
	} {
		sig, _ := p.gpg(part, append([]string{"--detach-sign", "--armor", "-u", "alice@alpha.test"}, c.args...)...)
		message := outerHeader + builder{t}.signedMIME(part, crlf(sig))
		if r, _ := openedNow(t, message); r.Signature != c.want {
			t.Errorf("%s: %+v", name, r)
		}
		if r, _ := openedNow(t, strings.Replace(message, "text with", "text without", 1)); r.Signature != SignatureBad {
			t.Errorf("%s, changed: %+v", name, r)
		}
	}
}

func TestSequoiaAndWeReadEachOther(t *testing.T) {
	p := newPeer(t, "sqop", "sqop")
	sent := encrypted(t, letter, EncryptOptions{Recipients: certs(t, "bob"), Signer: key(t, "alice"), Time: time.Now()})
	plaintext, _ := p.run(armoredPart(t, sent), "sqop", "decrypt", "--verify-with=alice.cert", "--verifications-out=verified", "bob.key")
	if plaintext != payloadOf(t, sent) {
		t.Errorf("sqop reads\n%s", plaintext)
	}
	verified, err := os.ReadFile(filepath.Join(p.dir, "verified"))
	if err != nil || !strings.Contains(string(verified), string(cert(t, "alice").Fingerprint())) {
		t.Errorf("sqop verifies %q, %v", verified, err)
	}
	armored, _ := p.run(builder{t}.payload(), "sqop", "encrypt", "--sign-with=alice.key", "bob.cert")
	if r, shown := openedNow(t, outerHeader+encryptedMIME(crlf(armored))); r.Signature != SignatureGood || !strings.Contains(shown, victim) {
		t.Errorf("%+v\n%s", r, shown)
	}
}

func TestSqReadsWhatWeWrite(t *testing.T) {
	p := newPeer(t, "sq", "sq")
	sent := encrypted(t, letter, EncryptOptions{Recipients: certs(t, "bob"), Signer: key(t, "alice"), Time: time.Now()})
	plaintext, _ := p.run(armoredPart(t, sent), "sq", "decrypt", "--recipient-key", "bob.key", "--signer-cert", "alice.cert")
	if plaintext != payloadOf(t, sent) {
		t.Errorf("sq reads\n%s", plaintext)
	}
}
