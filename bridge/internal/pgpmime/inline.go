package pgpmime

import (
	"bufio"
	"io"
	"unicode/utf8"

	"github.com/sealpost/sealpost/bridge/internal/spool"
)

// inline rebuilds a message whose whole text was one OpenPGP message: the outer header and the
// decrypted text, which names no charset: UTF-8 if it can be, else what the outer header says.
func (o *opener) inline(s shape, packets, payload *spool.Spool, signed, pq bool) (*Result, error) {
	valid, err := isUTF8(payload.Reader())
	if err != nil {
		return nil, err
	}
	charset := "utf-8"
	if label := s.root.Params["charset"]; !valid {
		charset = firstOf(charsetToken(label), "iso-8859-1")
	}
	shown := rebuild(s.head.fields, decrypted{})
	shown = append(shown, field("Content-Type", "text/plain; charset="+charset), field("Content-Transfer-Encoding", "8bit"))
	v := verdict{signature: SignatureNone}
	if signed {
		v = o.verifyInside(packets, senderOf(shown))
	}
	r := &Result{Encryption: EncryptionOpenPGP, Signature: v.signature, Signer: v.signer, PQ: pq}
	r.Reason = firstOf(v.reason, s.reason)
	r.Autocrypt = autocrypt(shown, s.root.MediaType)
	text, err := spool.FromReader(o.dir, &crlfReader{in: bufio.NewReader(payload.Reader()), bareCR: true}, 0)
	if err != nil {
		return nil, err
	}
	defer text.Close()
	r.Message, err = o.assemble(shown, text, 0)
	return r, err
}

// charsetToken is a charset name that can stand in a header, "" for one that cannot, or that
// is what the bytes have been found not to be.
func charsetToken(label string) string {
	for _, c := range []byte(label) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_') {
			return ""
		}
	}
	switch label {
	case "utf-8", "UTF-8", "us-ascii", "US-ASCII":
		return ""
	}
	return label
}

func isUTF8(r io.Reader) (bool, error) {
	in := bufio.NewReader(r)
	for {
		c, n, err := in.ReadRune()
		if err == io.EOF {
			return true, nil
		}
		if err != nil || c == utf8.RuneError && n == 1 {
			return false, err
		}
	}
}
