package pgpmime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// maxAttachment bounds what OpenAttachment returns, in bytes.
const maxAttachment = 64 << 10

// OpenAttachment is the content of the one part of that media type in a message for a program: signed as a whole by
// signer, whose address From names, and the part encrypted to target, one of the account's keys. It is encrypted with
// the message (RFC 3156 §6) or inside the part alone, as Web Key Services do it. What it returns must never be shown
// or sent on: anybody may have put it there. Other errors than those that wrap ErrIO say why the message is not such
// a one.
func OpenAttachment(message mimescan.Source, k Keys, signer *keydisc.Certificate, target keydisc.Fingerprint, mediaType string, now time.Time, dir string) ([]byte, error) {
	r, err := Open(message, k, func(string) []*keydisc.Certificate { return []*keydisc.Certificate{signer} }, now, dir)
	if err != nil {
		return nil, err
	}
	if r.Message != nil {
		defer r.Message.Close()
		message = r.Message
	}
	if r.Signature != SignatureGood || r.Signer != signer.Fingerprint() {
		return nil, fmt.Errorf("it is not signed by %s (signature=%s %s)", signer.Fingerprint(), r.Signature, r.Reason)
	}
	content, err := sole(message, mediaType)
	if err != nil {
		return nil, err
	}
	if r.Encryption == EncryptionOpenPGP {
		return content, nil
	}
	k.Decrypters = only(k.Decrypters, target)
	return decryptSmall(content, k, dir)
}

// only is the key with that fingerprint.
func only(all openpgp.EntityList, f keydisc.Fingerprint) openpgp.EntityList {
	for _, e := range all {
		if fmt.Sprintf("%X", e.PrimaryKey.Fingerprint) == string(f) {
			return openpgp.EntityList{e}
		}
	}
	return nil
}

// sole is the content of the one part of that type.
func sole(message mimescan.Source, mediaType string) ([]byte, error) {
	root, err := mimescan.Scan(message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIO, err)
	}
	var found []*mimescan.Part
	collect(root, mediaType, &found)
	if len(found) != 1 || root.Limited {
		return nil, fmt.Errorf("it has %d parts of type %s, not one", len(found), mediaType)
	}
	return small(mimescan.DecodeBody(message, found[0]))
}

func collect(p *mimescan.Part, mediaType string, found *[]*mimescan.Part) {
	if p.MediaType == mediaType {
		*found = append(*found, p)
	}
	for _, child := range p.Children {
		collect(child, mediaType, found)
	}
}

func small(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxAttachment+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIO, err)
	}
	if len(data) > maxAttachment {
		return nil, errors.New("its attachment is too large")
	}
	return data, nil
}

// decryptSmall is the text of an OpenPGP message, after all of it was authenticated.
func decryptSmall(data []byte, k Keys, dir string) ([]byte, error) {
	o := &opener{keys: k, dir: dir}
	packets, _, err := o.decrypt(bytes.NewReader(data))
	if err == nil {
		defer packets.Close()
		payload, _, literal := o.literal(packets)
		if err = literal; err == nil {
			defer payload.Close()
			return small(payload.Reader())
		}
	}
	if o.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIO, o.err)
	}
	return nil, fmt.Errorf("its attachment cannot be opened (%w)", err)
}
