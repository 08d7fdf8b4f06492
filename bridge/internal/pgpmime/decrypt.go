package pgpmime

import (
	"bufio"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/internal/spool"
)

// Limits of one OpenPGP message.
const (
	maxESK        = 100 // encrypted session keys
	maxAttempts   = 200 // private-key operations: a hidden recipient is tried with every key
	maxSignatures = 10
	maxExpanded   = 256 << 20 // bytes out of a compressed packet
)

// failure is a verdict on a message that cannot be opened: a token for the status field.
type failure string

func (f failure) Error() string { return string(f) }

// The failures of decryption.
const (
	failNoKey       failure = "no-key"
	failIntegrity   failure = "integrity"
	failSED         failure = "sed" // tag 9, without integrity protection (RFC 9580 §5.7)
	failMalformed   failure = reasonMalformed
	failUnsupported failure = "unsupported"
	failTooLarge    failure = reasonTooLarge
	failTooManyKeys failure = "too-many-keys"
)

// sealed data and the ways to its session key.
type ciphertext struct {
	keys    []*packet.EncryptedKey
	data    packet.EncryptedDataPacket
	version int // of the data packet: 1 or 2; the obsolete tag 20 counts as 1
	pq      bool
	rest    *packet.Reader
}

// dearmor is the binary OpenPGP message in r, which may be binary already.
func dearmor(r io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 4<<10)
	if first, err := in.Peek(1); err != nil || first[0]&0x80 != 0 {
		return in, nil
	}
	block, err := armor.Decode(in)
	if err != nil || block.Type != openpgp.MessageType {
		return nil, failMalformed
	}
	return block.Body, nil
}

// readCiphertext reads up to the encrypted data; no private key is touched. Every way to the session
// key is counted before the next is parsed.
func readCiphertext(r io.Reader) (*ciphertext, error) {
	binary, err := dearmor(r)
	if err != nil {
		return nil, err
	}
	c := &ciphertext{rest: packet.NewReader(binary), pq: true}
	for n := 0; n <= maxESK; n++ {
		p, err := c.rest.NextWithUnsupported()
		if err != nil {
			return nil, failMalformed
		}
		if done, err := c.add(p); done || err != nil {
			return c, err
		}
	}
	return nil, failTooManyKeys
}

// add takes the next packet; done with the encrypted data.
func (c *ciphertext) add(p packet.Packet) (done bool, err error) {
	switch p := p.(type) {
	case *packet.EncryptedKey:
		c.pq = c.pq && postQuantum(p.Algo)
		c.keys = append(c.keys, p)
	case *packet.SymmetricKeyEncrypted:
		c.pq = false
	case *packet.UnsupportedPacket:
		switch p.IncompletePacket.(type) {
		case *packet.EncryptedKey, *packet.SymmetricKeyEncrypted:
			c.pq = false // a way to the session key that we cannot judge
		default:
			return false, failUnsupported
		}
	case packet.Padding:
	case *packet.SymmetricallyEncrypted:
		if !p.IntegrityProtected {
			return false, failSED
		}
		c.data, c.version = p, p.Version
		c.pq = c.pq && len(c.keys) > 0
		return true, nil
	case *packet.AEADEncrypted:
		c.data, c.version, c.pq = p, 1, c.pq && len(c.keys) > 0
		return true, nil
	default:
		return false, failMalformed
	}
	return false, nil
}

// postQuantum algorithms for session keys (RFC 9980 §4).
func postQuantum(a packet.PublicKeyAlgorithm) bool {
	return a == packet.PubKeyAlgoMlkem768X25519 || a == packet.PubKeyAlgoMlkem1024X448
}

// open finds the session key with one of our keys and starts decryption. Version 6 session keys
// go with version 2 data and only with it (RFC 9580 §10.3.2.1).
func (c *ciphertext) open(ring openpgp.EntityList) (io.ReadCloser, error) {
	attempts := 0
	for _, esk := range c.keys {
		if (esk.Version == 6) != (c.version == 2) {
			continue
		}
		for _, e := range ring {
			for _, key := range e.DecryptionKeys(esk.KeyId, time.Time{}, nil) {
				if attempts++; attempts > maxAttempts {
					return nil, failTooManyKeys
				}
				if plaintext, err := c.try(esk, key.PrivateKey); err == nil {
					return plaintext, nil
				}
			}
		}
	}
	return nil, failNoKey
}

func (c *ciphertext) try(esk *packet.EncryptedKey, key *packet.PrivateKey) (io.ReadCloser, error) {
	if key == nil || key.Encrypted {
		return nil, failNoKey
	}
	if err := esk.Decrypt(key, nil); err != nil {
		return nil, err
	}
	return c.data.Decrypt(esk.CipherFunc, esk.Key)
}

// decrypt spools the packets inside the encrypted data of r. Nothing of them is
// looked at before the last byte has been authenticated: go-crypto hands out SEIPDv1 plaintext
// before it knows (EFAIL). The error is a failure, or of spooling. The caller
// closes the spool.
func (o *opener) decrypt(r io.Reader) (packets *spool.Spool, pq bool, err error) {
	defer guard(&err)
	c, err := readCiphertext(r)
	if err != nil {
		return nil, false, err
	}
	plaintext, err := c.open(o.keys.Decrypters)
	if err != nil {
		return nil, c.pq, err
	}
	packets = spool.New(o.dir)
	_, err = io.Copy(o.sink(packets), plaintext)
	if err == nil {
		err = plaintext.Close() // verifies the MDC or the final tag
	}
	if err != nil {
		_ = packets.Close()
		return nil, c.pq, failIntegrity
	}
	if _, err := c.rest.Next(); err != io.EOF {
		_ = packets.Close()
		return nil, c.pq, failMalformed // something follows that is not encrypted
	}
	return packets, c.pq, nil
}

// guard turns a panic of the OpenPGP library over a hostile message into a failure: one
// bad message must not end the daemon.
func guard(err *error) {
	if recover() != nil {
		*err = failMalformed
	}
}

// signedPackets is the inside of an encrypted message: perhaps signatures, the data once, perhaps
// signatures. Only its first compressed packet, if any, is looked into.
func signedPackets(packets *spool.Spool) (io.Reader, error) {
	in := packet.NewReader(packets.Reader())
	p, err := in.Next()
	if err != nil {
		return nil, failMalformed
	}
	c, ok := p.(*packet.Compressed)
	if !ok {
		return packets.Reader(), nil
	}
	limit := min(64<<20+4*packets.Size(), maxExpanded)
	return c.LimitedBodyReader(&limit), nil
}

// literal spools the data inside decrypted packets and says whether there are signatures. The
// structure is checked here before anything is verified: the library collects packets without
// limit. The caller closes the spool.
func (o *opener) literal(packets *spool.Spool) (payload *spool.Spool, signed bool, err error) {
	defer guard(&err)
	r, err := signedPackets(packets)
	if err != nil {
		return nil, false, err
	}
	in := packet.NewReader(r)
	data, before, err := toLiteral(in)
	if err != nil {
		return nil, false, err
	}
	payload = spool.New(o.dir)
	_, err = io.Copy(o.sink(payload), data.Body)
	if err == nil {
		err = onlySignatures(in)
	}
	if err != nil {
		_ = payload.Close()
		return nil, false, tooLarge(err)
	}
	return payload, before > 0, nil
}

func tooLarge(err error) error {
	if errors.Is(err, pgperrors.ErrMessageTooLarge) {
		return failTooLarge
	}
	return failMalformed
}

// toLiteral reads up to the data and counts the signatures announced before it.
func toLiteral(in *packet.Reader) (data *packet.LiteralData, signatures int, err error) {
	for signatures <= maxSignatures {
		p, err := in.Next()
		if err != nil {
			return nil, 0, tooLarge(err)
		}
		switch p := p.(type) {
		case *packet.OnePassSignature, *packet.Signature:
			signatures++
		case packet.Padding:
		case *packet.LiteralData:
			return p, signatures, nil
		default: // a second layer of encryption or compression among them
			return nil, 0, failMalformed
		}
	}
	return nil, 0, failMalformed
}

// onlySignatures reads what follows the data to its end.
func onlySignatures(in *packet.Reader) error {
	for range maxSignatures + 2 {
		p, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch p.(type) {
		case *packet.Signature, packet.Padding:
		default:
			return failMalformed
		}
	}
	return failMalformed
}

// verifyConfig refuses MD5, SHA-1 and RIPEMD in message signatures (RFC 9580 §9.5) and in the
// signatures that bind a certificate together. Intended recipients are checked in judge: the library would
// compare them with the decryption key only. Compression inside is refused: literal has undone it.
func verifyConfig(now time.Time) *packet.Config {
	no, none := false, int64(0)
	weak := map[crypto.Hash]bool{crypto.MD5: true, crypto.SHA1: true, crypto.RIPEMD160: true}
	return &packet.Config{
		Time:                        clock(now.Add(clockSkew)),
		CheckIntendedRecipients:     &no,
		MaxDecompressedMessageSize:  &none,
		RejectHashAlgorithms:        weak,
		RejectMessageHashAlgorithms: weak,
	}
}

// clockSkew is how far in the future a signature may be made.
const clockSkew = time.Hour

// faults keeps the first error that says nothing about the message.
type faults struct{ err error }

// sink passes writes on and keeps the error of a failed one.
func (f *faults) sink(w io.Writer) io.Writer { return &faultWriter{w, f} }

type faultWriter struct {
	w io.Writer
	f *faults
}

func (w *faultWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.f.note(err)
	return n, err
}

func (f *faults) note(err error) {
	if err != nil && f.err == nil {
		f.err = err
	}
}

// watched is a Source whose read errors are kept: they must not become a verdict.
type watched struct {
	src interface {
		io.ReaderAt
		Size() int64
	}
	f *faults
}

func (w watched) Size() int64 { return w.src.Size() }

func (w watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.src.ReadAt(p, off)
	if err != nil && err != io.EOF {
		w.f.note(err)
	}
	if err == io.EOF && off+int64(n) < w.src.Size() {
		w.f.note(fmt.Errorf("message ends after %d of %d bytes", off+int64(n), w.src.Size()))
	}
	return n, err
}

// canonical is a part's bytes with CRLF line ends, as signatures are made over them (RFC 3156 §5).
func canonical(r io.Reader) io.Reader { return &crlfReader{in: bufio.NewReader(r)} }
