package pgpmime

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"regexp"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// sealField carries the keyed identifier of a sealed message: "v=1; n=INSTANCE; id=ID". ID is the HMAC-SHA256 under
// the seal key of the instance and the SHA-256 of the original; both are hexadecimal.
const sealField = "X-Sealpost-Seal"

var sealValue = regexp.MustCompile(`^v=1; n=([0-9a-f]{32}); id=([0-9a-f]{64})$`)

// Seal writes message encrypted to one's own certificate, as PGP/MIME whose plaintext is
// the message byte for byte. The outer header keeps only what a mail program needs to
// list and thread it: From, To, Cc, Date, Message-ID, In-Reply-To, References; Subject becomes
// [...]. X-Sealpost-Seal carries the keyed identifier, which is returned: another device
// with the same key gives the same one to the same message and instance. The instance
// tells apart messages with the same bytes.
func Seal(w io.Writer, message mimescan.Source, own *keydisc.Certificate, sealKey, instance []byte, at time.Time) (id string, err error) {
	h, err := readHead(message)
	if err != nil && !errors.Is(err, errHeaderTooLong) {
		return "", fmt.Errorf("seal message: %w", err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, whole(message)); err != nil {
		return "", fmt.Errorf("seal message: %w", err)
	}
	nonce := sha256.Sum256(instance)
	id = sealID(sealKey, nonce[:16], sum.Sum(nil))
	visible := append(sealedHeader(h.fields, own, at), Field{sealField, "v=1; n=" + hex.EncodeToString(nonce[:16]) + "; id=" + id})
	o := EncryptOptions{Recipients: []*keydisc.Certificate{own}, Time: at}
	return id, writeEncrypted(w, visible, o, func(plaintext io.Writer) error {
		n, err := io.Copy(plaintext, whole(message))
		if err == nil && n != message.Size() {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}

func whole(src mimescan.Source) io.Reader { return io.NewSectionReader(src, 0, src.Size()) }

func sealID(key, nonce, sum []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(nonce)
	mac.Write(sum)
	return hex.EncodeToString(mac.Sum(nil))
}

// sealedHeader is a valid header (RFC 5322 §3.6) made of what can be used of the original's.
func sealedHeader(h mimescan.Header, own *keydisc.Certificate, at time.Time) []Field {
	from := addressField(h.Get("From"))
	if addresses := own.Addresses(); from == "" && len(addresses) > 0 {
		from = addresses[0]
	}
	fields := []Field{{"From", from}}
	for _, name := range []string{"To", "Cc"} {
		if value := addressField(h.Get(name)); value != "" {
			fields = append(fields, Field{name, value})
		}
	}
	fields = append(fields, Field{"Subject", hiddenSubject}, Field{"Date", dateField(h.Get("Date"), at)})
	for _, name := range []string{"Message-ID", "In-Reply-To", "References"} {
		if value := messageIDs(h.Get(name), name); value != "" {
			fields = append(fields, Field{name, value})
		}
	}
	return fields
}

// addressField is an address list as RFC 5322 has it, in ASCII; "" if it cannot be made of value.
func addressField(value string) string {
	if len(value) > maxAddresses {
		return ""
	}
	list, err := mail.ParseAddressList(mimescan.DecodeWords(value))
	if parsed, errRaw := mail.ParseAddressList(value); errRaw == nil {
		list, err = parsed, nil
	}
	if err != nil {
		return ""
	}
	var out []string
	for _, a := range list {
		if s := a.String(); isASCII(s) && len(s) < 900 {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

// maxAddresses is the longest address list that is kept visible, in bytes.
const maxAddresses = 64 << 10

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func dateField(value string, at time.Time) string {
	if _, err := mail.ParseDate(value); err == nil && isASCII(value) && len(value) < 100 {
		return value
	}
	return clock(at)().Format(time.RFC1123Z)
}

var messageID = regexp.MustCompile(`<[!-;=?-~]{1,900}>`)

// messageIDs are the identifiers in value (RFC 5322 §3.6.4); of Message-ID the first.
func messageIDs(value, name string) string {
	limit := 100
	if name == "Message-ID" {
		limit = 1
	}
	return strings.Join(messageID.FindAllString(value, limit), " ")
}

// sealed says whether payload is what the outer header's seal identifier was made for, with one of
// our keys. A forger has none: his seal counts for nothing.
func (o *opener) sealed(outer mimescan.Header, payload *spool.Spool) bool {
	values := outer.Values(sealField)
	if len(values) != 1 {
		return false
	}
	seal := sealValue.FindStringSubmatch(values[0])
	if seal == nil {
		return false
	}
	nonce, err := hex.DecodeString(seal[1])
	if err != nil {
		return false
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, payload.Reader()); err != nil {
		o.note(err)
		return false
	}
	for _, key := range o.keys.SealKeys {
		if hmac.Equal([]byte(seal[2]), []byte(sealID(key, nonce, sum.Sum(nil)))) {
			return true
		}
	}
	return false
}

// ErrNotSealed says that a message does not carry a seal of one of our keys.
var ErrNotSealed = errors.New("message is not sealed by one of our keys")

// Unseal returns the original bytes of a sealed message, ErrNotSealed if it is none of ours. The
// caller closes them. Other errors wrap ErrIO.
func Unseal(message mimescan.Source, k Keys, dir string) (*spool.Spool, error) {
	o := &opener{keys: k, dir: dir}
	original, err := o.unseal(watched{message, &o.faults})
	if o.err == nil {
		return original, err
	}
	if original != nil {
		_ = original.Close()
	}
	return nil, fmt.Errorf("%w: %w", ErrIO, o.err)
}

func (o *opener) unseal(src mimescan.Source) (*spool.Spool, error) {
	s, err := classify(src)
	if err != nil || s.kind != kindEncrypted || s.reason != "" {
		return nil, ErrNotSealed
	}
	packets, _, err := o.decrypt(mimescan.DecodeBody(src, s.ciphertext))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSealed, err)
	}
	defer packets.Close()
	original, _, err := o.literal(packets)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSealed, err)
	}
	if !o.sealed(s.head.fields, original) {
		_ = original.Close()
		return nil, ErrNotSealed
	}
	return original, nil
}
