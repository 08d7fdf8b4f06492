package bridge

import (
	"bytes"
	"encoding/base64"
	"io"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// traceFields were written on the way here, not by the author: they stay outside of the encryption, on top.
var traceFields = []string{"Received", "Return-Path", "Delivered-To", "X-Original-To", "Received-SPF", "Authentication-Results"}

// brokenByEncryption are signatures over what is not there any more (RFC 6376, RFC 8617).
var brokenByEncryption = []string{"DKIM-Signature", "ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"}

// encrypt writes the message encrypted, below its trace.
func (s *sender) encrypt(w io.Writer, m *outgoing, o pgpmime.EncryptOptions) error {
	header, err := mimescan.ReadTop(m.message)
	if err != nil {
		return err
	}
	var outside bool
	for _, f := range header {
		if among(f.Name, traceFields) {
			outside = true
			if _, err := w.Write(f.Raw); err != nil {
				return err
			}
		}
	}
	if !outside && !slices.ContainsFunc(header, func(f mimescan.Field) bool { return among(f.Name, brokenByEncryption) }) {
		return pgpmime.Encrypt(w, m.message, o)
	}
	author := spool.New(s.bridge.spoolDir)
	defer author.Close()
	if err := pgpmime.Normalise(author, m.message.Reader(), slices.Concat(traceFields, brokenByEncryption), nil); err != nil {
		return err
	}
	return pgpmime.Encrypt(w, author, o)
}

func among(name string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// encryptedAlready says whether a message is PGP/MIME or S/MIME ciphertext, with nothing readable beside it.
func encryptedAlready(message *spool.Spool) (bool, error) {
	ciphertext, err := pgpmime.Ciphertext(message)
	if ciphertext || err != nil {
		return ciphertext, err
	}
	root, err := mimescan.Scan(message)
	if err != nil || root.MediaType != "application/pkcs7-mime" && root.MediaType != "application/x-pkcs7-mime" || root.Encoding != "base64" {
		return false, err
	}
	return enveloped(io.NewSectionReader(message, root.Body.Start, root.Body.Len()))
}

// The content types of ciphertext (RFC 5652 §6.1, RFC 5083 §2.1), in DER.
var (
	envelopedData     = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03}
	authEnvelopedData = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17}
)

// enveloped says whether base64 text is one CMS structure that holds ciphertext (RFC 8551 §3.3): what the header calls it does not
// count, and nothing may stand behind it.
func enveloped(text io.Reader) (bool, error) {
	strict := &base64Lines{r: text}
	size, err := io.Copy(io.Discard, io.TeeReader(base64.NewDecoder(base64.StdEncoding, strict), &strict.begin))
	if err != nil { // no base64 throughout
		return false, strict.err
	}
	begin := strict.begin.b
	length, indefinite, n := derLength(begin)
	if n == 0 || !indefinite && int64(n)+length != size {
		return false, nil
	}
	return bytes.HasPrefix(begin[n:], envelopedData) || bytes.HasPrefix(begin[n:], authEnvelopedData), nil
}

// derLength reads the head of a SEQUENCE: how long its contents are and where they begin; 0 if it is none.
func derLength(b []byte) (length int64, indefinite bool, n int) {
	if len(b) < 20 || b[0] != 0x30 {
		return 0, false, 0
	}
	switch first := b[1]; {
	case first < 0x80:
		return int64(first), false, 2
	case first == 0x80: // BER, as streaming programs write it
		return 0, true, 2
	case first > 0x85:
		return 0, false, 0
	default:
		for _, c := range b[2 : 2+first-0x80] {
			length = length<<8 | int64(c)
		}
		return length, false, 2 + int(first) - 0x80
	}
}

// base64Lines passes text on, and tells an error of reading it from one in the text.
type base64Lines struct {
	r     io.Reader
	err   error
	begin beginning
}

func (l *base64Lines) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

// beginning keeps the first bytes that are written to it.
type beginning struct{ b []byte }

func (s *beginning) Write(p []byte) (int, error) {
	s.b = append(s.b, p[:min(len(p), max(0, 64-len(s.b)))]...)
	return len(p), nil
}
