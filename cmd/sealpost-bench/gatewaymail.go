package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// The company's user, and people elsewhere, to whom he writes and who write to him.
const employee = "user@company.test"

func stranger(i int) string { return fmt.Sprintf("person%d@world.test", i) }

// strangers are as many as a message has recipients at most.
const strangers = 5

// people have the keys of the strangers and, for the filter that starts gpg, one of the user's.
type people struct {
	strangers openpgp.EntityList
	user      *openpgp.Entity
}

func newPeople() (p people, err error) {
	make := func(address string) (*openpgp.Entity, error) {
		return openpgp.NewEntity("", "", address, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	}
	for i := range strangers {
		e, err := make(stranger(i))
		if err != nil {
			return p, err
		}
		p.strangers = append(p.strangers, e)
	}
	p.user, err = make(employee)
	return p, err
}

// certificates of the strangers, in one file.
func (p people) certificates() ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, err
	}
	for _, e := range p.strangers {
		if err := e.Serialize(w); err != nil {
			return nil, err
		}
	}
	err = w.Close() // writes the end
	return b.Bytes(), err
}

// secret is the user's key, for gpg.
func (p people) secret() ([]byte, error) {
	var b bytes.Buffer
	err := p.user.SerializePrivate(&b, nil)
	return b.Bytes(), err
}

// plain makes message number i of a given size in bytes: text, with a word that must not be seen on the way.
func plain(text []byte, i int, to []string) []byte {
	var b bytes.Buffer
	b.Grow(len(text) + 1<<10)
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: minutes of the meeting, %d\r\nDate: %s\r\nMessage-ID: <%d.%d@company.test>\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n", employee, strings.Join(to, ">,\r\n <"), i,
		time.Now().Format(time.RFC1123Z), time.Now().UnixNano(), i)
	b.Write(text)
	return b.Bytes()
}

// textOf has lines of words, size bytes of them.
func textOf(size int) []byte {
	words := newMailbox(nil).words
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\r\n", rareWord)
	for n, line := 0, 0; b.Len() < size-80; n++ {
		word := ascii(words[n*7919%len(words)])
		if line += len(word) + 1; line > 72 {
			b.WriteString("\r\n")
			line = len(word) + 1
		}
		b.WriteString(word + " ")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// sealedFor is a message from a stranger to the user; its number goes into the header alone, so that it is encrypted once.
func (p people) sealedFor(certificate []byte, text []byte) (func(i int) []byte, error) {
	recipient, err := openpgp.ReadKeyRing(bytes.NewReader(certificate))
	if err != nil {
		return nil, fmt.Errorf("certificate of the user: %w", err)
	}
	e := &encrypter{signers: p.strangers, recipient: recipient}
	armored, err := e.seal(0, append([]byte("Content-Type: text/plain; charset=us-ascii\r\n\r\n"), text...))
	if err != nil {
		return nil, err
	}
	return func(i int) []byte {
		return fmt.Appendf(nil, "From: <%s>\r\nTo: <%s>\r\nSubject: ...\r\nDate: %s\r\nMessage-ID: <%d.%d@world.test>\r\n"+
			"MIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=bound\r\n\r\n"+
			"--bound\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--bound\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n--bound--\r\n",
			stranger(0), employee, time.Now().Format(time.RFC1123Z), time.Now().UnixNano(), i, armored)
	}, nil
}

// announced is the certificate in a message's Autocrypt field.
func announced(message []byte) ([]byte, error) {
	_, rest, found := bytes.Cut(message, []byte("keydata="))
	var data strings.Builder
	for i, line := range bytes.Split(rest, []byte("\r\n")) {
		if i > 0 && !bytes.HasPrefix(line, []byte(" ")) && !bytes.HasPrefix(line, []byte("\t")) {
			break
		}
		data.Write(bytes.TrimSpace(line))
	}
	if !found {
		return nil, errors.New("the message announces no certificate")
	}
	return base64.StdEncoding.DecodeString(strings.ReplaceAll(data.String(), " ", ""))
}

// What a message must be when it arrives.
func isPlain(m []byte) error {
	if !bytes.Contains(m, []byte(rareWord)) {
		return errors.New("a message that should have arrived readable is not")
	}
	return nil
}

func isEncrypted(m []byte) error {
	if bytes.Contains(m, []byte(rareWord)) || !bytes.Contains(m, []byte("-----BEGIN PGP MESSAGE-----")) {
		return errors.New("a message that should have been encrypted is not")
	}
	return nil
}

func isOpened(m []byte) error {
	if !bytes.Contains(m, []byte("X-Sealpost-Status: encryption=openpgp; signature=good")) {
		return errors.New("a message was not opened, or its signature not found good")
	}
	return isPlain(m)
}

// readable says whether a stranger can decrypt a message and finds the user's signature good. certificate is the user's.
func (p people) readable(message, certificate []byte) error {
	signer, err := openpgp.ReadKeyRing(bytes.NewReader(certificate))
	if err != nil {
		return err
	}
	return decrypt(append(signer, p.strangers[:1]...), message)
}
