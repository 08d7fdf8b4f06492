package pgpmime

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// HeaderMode is an RFC 9788 §3.2 header confidentiality policy.
type HeaderMode string

const (
	Baseline HeaderMode = "baseline" // hcp_baseline: Subject → [...], Comments, Keywords and what else tells the content dropped
	Shy      HeaderMode = "shy"      // hcp_shy: also To, Cc, display names, Date in UTC
)

// EncryptOptions of one ciphertext.
type EncryptOptions struct {
	Recipients []*keydisc.Certificate // everyone who can open it, the sender's own among them
	Signer     *openpgp.Entity        // nil: unsigned; otherwise sign inside, encrypt outside
	Headers    HeaderMode
	Gossip     []Gossip // Autocrypt-Gossip fields inside the protected part; never for Bcc
	Autocrypt  string   // raw value of the outer Autocrypt field; "" for none
	Time       time.Time
}

// Gossip is another recipient's certificate told to all recipients.
type Gossip struct {
	Address     string
	Certificate *keydisc.Certificate
}

// Encrypt reads a normalised message (see Normalise) and writes it as
// multipart/encrypted: the visible header first, then the two parts. The caller has
// already removed Bcc and the fields that identify the client.
// SEIPDv2 where every recipient advertises it, else SEIPDv1; no compression; armor
// with a checksum for SEIPDv1 only; intended recipients in the signature. Never tag 9.
func Encrypt(w io.Writer, message mimescan.Source, o EncryptOptions) error {
	h, err := readHead(message)
	if err != nil {
		return fmt.Errorf("encrypt message: %w", err)
	}
	outer, err := outerFields(h.fields, o)
	if err != nil {
		return err
	}
	inner, err := innerFields(h, outer, o)
	if err != nil {
		return err
	}
	if o.Autocrypt != "" {
		outer = append(outer, Field{"Autocrypt", o.Autocrypt})
	}
	return writeEncrypted(w, outer, o, func(plaintext io.Writer) error {
		if err := writeFields(plaintext, inner); err != nil {
			return err
		}
		if _, err := io.WriteString(plaintext, "\r\n"); err != nil {
			return err
		}
		_, err := io.Copy(plaintext, io.NewSectionReader(message, h.body, message.Size()-h.body))
		return err
	})
}

func writeFields(w io.Writer, fields []Field) error {
	for _, f := range fields {
		if err := writeField(w, f.Name, f.Value); err != nil {
			return err
		}
	}
	return nil
}

// ownFields are the non-structural fields that travel: not those only we may write, nor
// those that would give Bcc away or pass for protection that is not ours.
func ownFields(h mimescan.Header) []Field {
	var fields []Field
	for _, f := range h {
		switch strings.ToLower(f.Name) {
		case "", "bcc", "resent-bcc", "hp-outer", "autocrypt", "autocrypt-gossip":
			continue
		}
		if !structural(f.Name) && !lookalike(f.Raw) {
			fields = append(fields, Field{f.Name, f.Value()})
		}
	}
	return fields
}

// outerFields is the header everybody sees (RFC 9788 §3.2).
func outerFields(h mimescan.Header, o EncryptOptions) ([]Field, error) {
	confide := map[HeaderMode]func(Field) (Field, bool){"": baseline, Baseline: baseline, Shy: shy}[o.Headers]
	if confide == nil {
		return nil, fmt.Errorf("header confidentiality %q is not known; use baseline or shy", o.Headers)
	}
	var outer []Field
	for _, f := range ownFields(h) {
		if f, ok := confide(f); ok {
			outer = append(outer, f)
		}
	}
	return outer, nil
}

// baseline is hcp_baseline (RFC 9788 §3.2.1); not ok for a field that is left out.
func baseline(f Field) (Field, bool) {
	if strings.EqualFold(f.Name, "Subject") {
		return Field{f.Name, hiddenSubject}, true
	}
	return f, !tellsContent(f.Name)
}

// hiddenSubject stands for a protected subject (RFC 9788 §3.2.1).
const hiddenSubject = "[...]"

// shy is hcp_shy (RFC 9788 §3.2.2).
func shy(f Field) (Field, bool) {
	switch strings.ToLower(f.Name) {
	case "from", "to", "cc":
		if list, err := mimescan.StrictAddresses(f.Value); err == nil {
			f.Value = bareAddresses(list)
		}
	case "date":
		if at, err := mimescan.ParseDate(f.Value); err == nil {
			f.Value = at.UTC().Format(time.RFC1123Z)
		}
	}
	return baseline(f)
}

// bareAddresses is an address list without display names.
func bareAddresses(list []*mail.Address) string {
	var specs []string
	for _, a := range list {
		bare := (&mail.Address{Address: a.Address}).String()
		specs = append(specs, strings.TrimSuffix(strings.TrimPrefix(bare, "<"), ">"))
	}
	return strings.Join(specs, ", ")
}

// innerFields is the header of the payload (RFC 9788 §2): all fields as they were, what was
// left visible of them, and the structure of the body marked as protected.
func innerFields(h head, outer []Field, o EncryptOptions) ([]Field, error) {
	inner := ownFields(h.fields)
	for _, g := range o.Gossip {
		value, err := autocryptValue(g.Address, g.Certificate, "", o.Time)
		if errors.Is(err, ErrAutocryptSize) {
			continue
		}
		if err != nil {
			return nil, err
		}
		inner = append(inner, Field{"Autocrypt-Gossip", value})
	}
	for _, f := range outer {
		inner = append(inner, Field{"HP-Outer", f.Name + ": " + f.Value}) // RFC 9788 §2.2
	}
	contentType, err := protectedType(h)
	if err != nil {
		return nil, err
	}
	inner = append(inner, Field{"MIME-Version", "1.0"}, Field{"Content-Type", contentType})
	return append(inner, contentFields(h.fields)...), nil
}

// contentFields are the Content- fields but the type, the first of each name.
func contentFields(h mimescan.Header) []Field {
	seen := map[string]bool{"content-type": true}
	var fields []Field
	for _, f := range h {
		name := strings.ToLower(f.Name)
		if structural(name) && name != "mime-version" && !seen[name] {
			seen[name] = true
			fields = append(fields, Field{f.Name, f.Value()})
		}
	}
	return fields
}

// protectedType is the content type of a message marked hp="cipher" (RFC 9788 §2.1.1), and for older
// readers protected-headers="v1".
func protectedType(h head) (string, error) {
	part, err := mediaType(h.raw)
	if err != nil {
		return "", err
	}
	value := strings.TrimRight(h.fields.Get("Content-Type"), "; \t")
	media, _, _ := strings.Cut(value, ";")
	if !strings.EqualFold(strings.TrimSpace(media), part.MediaType) {
		value = part.MediaType // absent or unusable: what it counts as (RFC 2045 §5.2)
	}
	for _, name := range []string{"hp", "protected-headers"} {
		value = withoutParam(value, name)
	}
	return value + `; hp="cipher"; protected-headers="v1"`, nil
}

// withoutParam removes a parameter from a content type.
func withoutParam(value, name string) string {
	pieces := splitParams(value)
	kept := pieces[:1]
	for _, p := range pieces[1:] {
		key, _, _ := strings.Cut(p, "=")
		key, _, _ = strings.Cut(strings.TrimSpace(key), "*")
		if !strings.EqualFold(key, name) {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ";")
}

// splitParams splits at the semicolons outside quoted strings.
func splitParams(s string) []string {
	var pieces []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ';' && !quoted:
			pieces = append(pieces, s[start:i])
			start = i + 1
		}
	}
	return append(pieces, s[start:])
}

// writeEncrypted writes a PGP/MIME message (RFC 3156 §4) with the given visible fields
// whose plaintext comes from write.
func writeEncrypted(w io.Writer, visible []Field, o EncryptOptions, write func(io.Writer) error) error {
	var id [18]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	boundary := "=_" + hex.EncodeToString(id[:])
	if err := writeFields(w, visible); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, encryptedStart, boundary, boundary, boundary); err != nil {
		return err
	}
	if err := encryptTo(w, o, write); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\r\n--%s--\r\n", boundary)
	return err
}

const encryptedStart = "MIME-Version: 1.0\r\n" +
	"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n boundary=\"%s\"\r\n" +
	"\r\n--%s\r\n" +
	"Content-Type: application/pgp-encrypted\r\n" +
	"Content-Description: PGP/MIME version identification\r\n" +
	"\r\nVersion: 1\r\n" +
	"\r\n--%s\r\n" +
	"Content-Type: application/octet-stream; name=\"encrypted.asc\"\r\n" +
	"Content-Description: OpenPGP encrypted message\r\n" +
	"Content-Disposition: inline; filename=\"encrypted.asc\"\r\n" +
	"\r\n"

// encryptTo writes one armored OpenPGP message: sign inside, encrypt outside (RFC 9787 §5.2).
func encryptTo(w io.Writer, o EncryptOptions, write func(io.Writer) error) error {
	recipients, giveBack, err := borrowed(o.Recipients, o.Time)
	defer giveBack()
	if err != nil {
		return err
	}
	params := &openpgp.EncryptParams{Config: encryptConfig(o.Time)}
	preferAES256(recipients, params.Config)
	if o.Signer != nil {
		params.Signers = []*openpgp.Entity{o.Signer}
	}
	armored := newArmor(w, !allSEIPDv2(recipients, params.Config))
	plaintext, err := openpgp.EncryptWithParams(armored, recipients, nil, params)
	if err != nil {
		return fmt.Errorf("encrypt message: %w", err)
	}
	if err := write(plaintext); err != nil {
		return err
	}
	if err := plaintext.Close(); err != nil {
		return fmt.Errorf("encrypt message: %w", err)
	}
	return armored.Close()
}

// allSEIPDv2 says whether every recipient advertises version 2 of the encrypted data packet, which
// is then what go-crypto writes.
func allSEIPDv2(recipients []*openpgp.Entity, config *packet.Config) bool {
	for _, e := range recipients {
		if sig, err := e.PrimarySelfSignature(config.Now(), config); err != nil || !sig.SEIPDv2 {
			return false
		}
	}
	return true
}

// preferAES256 adds AES-256 to the preferences of certificates that do not have it: those of one
// recipient, or their absence, would have go-crypto take AES-128 for all. Every program in use
// reads AES-256, and post-quantum ones have to; so RFC 9580 §12.1 is not followed here.
func preferAES256(recipients []*openpgp.Entity, config *packet.Config) {
	for _, e := range recipients {
		sig, err := e.PrimarySelfSignature(config.Now(), config)
		if err != nil {
			continue // encryption will say so
		}
		if aes, suite := uint8(packet.CipherAES256), [2]uint8{uint8(packet.CipherAES256), uint8(packet.AEADModeOCB)}; !endsIn(sig.PreferredSymmetric, aes) || !endsIn(sig.PreferredCipherSuites, suite) {
			sig.PreferredSymmetric = append(sig.PreferredSymmetric, aes)
			sig.PreferredCipherSuites = append(sig.PreferredCipherSuites, suite)
		}
	}
}

// encryptConfig: AES-256, SHA-256 where the recipients' preferences leave a choice, and intended
// recipients in signatures. go-crypto panics without an AEADConfig when a recipient supports SEIPDv2.
func encryptConfig(at time.Time) *packet.Config {
	return &packet.Config{
		DefaultCipher: packet.CipherAES256,
		AEADConfig:    &packet.AEADConfig{},
		Time:          clock(at),
	}
}

// clock stands still at that time; the zero time means now.
func clock(at time.Time) func() time.Time {
	if at.IsZero() {
		at = time.Now()
	}
	return func() time.Time { return at }
}

func endsIn[T comparable](list []T, last T) bool { return len(list) > 0 && list[len(list)-1] == last }

// borrowed are the certificates, each once, lent for encrypting until giveBack is called, which must be done after an error, too.
func borrowed(certs []*keydisc.Certificate, at time.Time) (list []*openpgp.Entity, giveBack func(), err error) {
	var debts []func()
	giveBack = func() {
		for _, settle := range debts {
			settle()
		}
	}
	for _, c := range once(certs) {
		e, settle, err := c.BorrowToEncrypt(at)
		if err != nil {
			return nil, giveBack, fmt.Errorf("certificate %s: %w", c.Fingerprint(), err)
		}
		list, debts = append(list, e), append(debts, settle)
	}
	if len(list) == 0 {
		return nil, giveBack, errNobody
	}
	return list, giveBack, nil
}

var errNobody = errors.New("encrypt message: no recipient has a certificate")

func once(certs []*keydisc.Certificate) (list []*keydisc.Certificate) {
	seen := map[keydisc.Fingerprint]bool{}
	for _, c := range certs {
		if !seen[c.Fingerprint()] {
			seen[c.Fingerprint()] = true
			list = append(list, c)
		}
	}
	return list
}

// entities are fresh copies of the certificates, each once.
func entities(certs []*keydisc.Certificate) ([]*openpgp.Entity, error) {
	var list []*openpgp.Entity
	for _, c := range once(certs) {
		e, err := c.Entity()
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", c.Fingerprint(), err)
		}
		list = append(list, e)
	}
	if len(list) == 0 {
		return nil, errNobody
	}
	return list, nil
}
