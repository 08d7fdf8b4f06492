package pgpmime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/keydisc"
)

// What follows is about files that are handed to others, not about mail.

// SignFile writes an armored detached signature over data, made at that time.
func SignFile(w io.Writer, data io.Reader, signer *openpgp.Entity, at time.Time) error {
	armored, err := armor.Encode(w, openpgp.SignatureType, nil)
	if err != nil {
		return err
	}
	if err := openpgp.DetachSign(armored, []*openpgp.Entity{signer}, data, &packet.Config{Time: clock(at)}); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return armored.Close()
}

// ErrNotSigned says that no certificate's key has made a signature.
var ErrNotSigned = errors.New("it is not a good signature by this certificate")

// CheckFile says which certificate's key has made a detached signature over data with SignFile. The key had to be valid when, by its own
// word, it signed: what is signed is read years later. ErrNotSigned if there is no such signature.
func CheckFile(certificates []*keydisc.Certificate, data, signature []byte, now time.Time) (keydisc.Fingerprint, time.Time, error) {
	ring, err := entities(certificates)
	if err != nil {
		return "", time.Time{}, err
	}
	sigs, err := readSignatures(bytes.NewReader(signature))
	if err != nil || !asWritten(sigs, signature) {
		return "", time.Time{}, ErrNotSigned
	}
	made, ok := signedAt(sigs)
	if !ok || made.After(now.Add(futureTolerance)) {
		return "", time.Time{}, ErrNotSigned
	}
	_, signer, err := openpgp.VerifyDetachedSignature(openpgp.EntityList(ring), bytes.NewReader(data), bytes.NewReader(sigs), verifyConfig(made))
	if err != nil || signer == nil {
		return "", time.Time{}, ErrNotSigned
	}
	for _, c := range certificates {
		if e, err := c.Entity(); err == nil && bytes.Equal(e.PrimaryKey.Fingerprint, signer.PrimaryKey.Fingerprint) {
			return c.Fingerprint(), made, nil
		}
	}
	return "", time.Time{}, ErrNotSigned
}

// asWritten says whether SignFile would write the armor of a signature so: armor has room for what nobody has signed.
func asWritten(sigs, armored []byte) bool {
	var again bytes.Buffer
	w, err := armor.Encode(&again, openpgp.SignatureType, nil)
	if err != nil {
		return false
	}
	_, err = w.Write(sigs)
	return err == nil && w.Close() == nil && bytes.Equal(again.Bytes(), armored)
}

// futureTolerance is how far two clocks may be apart.
const futureTolerance = 24 * time.Hour

// signedAt is when the one signature there is was made.
func signedAt(sigs []byte) (time.Time, bool) {
	in := packet.NewReader(bytes.NewReader(sigs))
	p, err := in.Next()
	sig, ok := p.(*packet.Signature)
	if _, more := in.Next(); err != nil || !ok || more != io.EOF {
		return time.Time{}, false
	}
	return sig.CreationTime, true
}

// EncryptFile makes a binary OpenPGP message to the certificates out of what is written; Close ends it.
func EncryptFile(w io.Writer, certificates []*keydisc.Certificate, at time.Time) (io.WriteCloser, error) {
	recipients, err := entities(certificates)
	if err != nil {
		return nil, err
	}
	params := &openpgp.EncryptParams{Config: encryptConfig(at), Hints: &openpgp.FileHints{IsUTF8: false}}
	preferAES256(recipients, params.Config)
	plaintext, err := openpgp.EncryptWithParams(w, recipients, nil, params)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return plaintext, nil
}
