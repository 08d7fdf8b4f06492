// Package backup writes and reads backups: an OpenPGP message that holds a tar archive, encrypted under a recovery code.
//
// Nothing but stock programs is needed to open one: docs/backup.md says how. The passphrase of the message is
// Argon2id of the code, in hexadecimal, because no OpenPGP program of today that a user is likely to have can do Argon2
// itself (RFC 9580 §3.7.1.4); the message's own key derivation is the iterated and salted one, its integrity that of a version 1
// SEIPD packet, which all can read.
package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"golang.org/x/crypto/argon2"
)

// Errors of Read.
var (
	ErrNotBackup = errors.New("this is no backup of Sealpost")
	ErrWrongCode = errors.New("the recovery code does not open this backup")
	ErrDamaged   = errors.New("the backup is damaged")
)

// File is one file of the archive.
type File struct {
	Name string
	Data []byte
}

// Limits of what is read, in bytes and files: a forged backup must not fill the memory.
const (
	maxMessage = 1 << 30
	maxFiles   = 200_000
)

// derivation is how the passphrase follows from the code, as the armor's comment says it.
type derivation struct {
	salt        string // printable
	passes, kib uint32
	lanes       uint8
}

// The cost of a guess: RFC 9106 §4, second recommended option. The code has 130 bits; this is for those who shorten it.
var ours = derivation{passes: 3, kib: 64 << 10, lanes: 1}

// What is accepted from a file.
const (
	maxPasses = 16
	maxKiB    = 1 << 20
)

const comment = "sealpost backup 1, argon2id -t %d -k %d -p %d -l 32, salt %s"

// passphrase of the message: 64 hexadecimal digits.
func (d derivation) passphrase(c Code) []byte {
	key := argon2.IDKey([]byte(c.plain()), []byte(d.salt), d.passes, d.kib, d.lanes, 32)
	defer clear(key)
	return []byte(hex.EncodeToString(key))
}

// Write writes a backup of the files, which are made at that time, armored.
func Write(w io.Writer, c Code, files []File, made time.Time) error {
	d := ours
	d.salt = newSalt()
	out, err := armor.EncodeWithChecksumOption(w, "PGP MESSAGE", map[string]string{"Comment": fmt.Sprintf(comment, d.passes, d.kib, d.lanes, d.salt)}, true)
	if err != nil {
		return err
	}
	config := &packet.Config{
		DefaultCipher: packet.CipherAES256, Time: func() time.Time { return made },
		S2KConfig: &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, S2KCount: 1 << 20}, // Argon2 has done the work
	}
	plain, err := openpgp.SymmetricallyEncrypt(out, d.passphrase(c), &openpgp.FileHints{FileName: "sealpost.tar", ModTime: made}, config)
	if err != nil {
		return err
	}
	if err := writeTar(plain, files, made); err != nil {
		return err
	}
	if err := errors.Join(plain.Close(), out.Close()); err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n")
	return err
}

func writeTar(w io.Writer, files []File, made time.Time) error {
	archive := tar.NewWriter(w)
	for _, f := range files {
		header := &tar.Header{Name: "sealpost/" + f.Name, Mode: 0o600, Size: int64(len(f.Data)), ModTime: made.Truncate(time.Second), Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if _, err := archive.Write(f.Data); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return archive.Close()
}

// Read opens a backup to its end and then gives its files: nothing is given of one that was changed. The error unwraps
// to ErrNotBackup, ErrWrongCode or ErrDamaged.
func Read(r io.Reader, c Code) ([]File, error) {
	block, err := armor.Decode(bufio.NewReader(io.LimitReader(r, maxMessage)))
	if err != nil {
		return nil, ErrNotBackup
	}
	d, err := readComment(block.Header["Comment"])
	if err != nil {
		return nil, err
	}
	tried := false
	prompt := func([]openpgp.Key, bool) ([]byte, error) {
		if tried {
			return nil, ErrWrongCode
		}
		tried = true
		return d.passphrase(c), nil
	}
	message, err := openpgp.ReadMessage(block.Body, nil, prompt, &packet.Config{MaxDecompressedMessageSize: limit(maxMessage)})
	switch {
	case errors.Is(err, ErrWrongCode):
		return nil, ErrWrongCode
	case err != nil:
		return nil, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	plain, err := io.ReadAll(io.LimitReader(message.UnverifiedBody, maxMessage))
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return readTar(plain)
}

func limit(n int64) *int64 { return &n }

func readComment(text string) (derivation, error) {
	var d derivation
	if _, err := fmt.Sscanf(text, strings.ReplaceAll(comment, "%s", "%s"), &d.passes, &d.kib, &d.lanes, &d.salt); err != nil {
		return d, ErrNotBackup
	}
	if d.passes == 0 || d.passes > maxPasses || d.kib > maxKiB || d.lanes == 0 || len(d.salt) < 8 {
		return d, fmt.Errorf("%w: it asks for a key derivation this version does not do", ErrNotBackup)
	}
	return d, nil
}

func readTar(plain []byte) ([]File, error) {
	var files []File
	for archive := tar.NewReader(bytes.NewReader(plain)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil || len(files) == maxFiles {
			return nil, fmt.Errorf("%w (its archive cannot be read)", ErrDamaged)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("%w (%s)", ErrDamaged, header.Name)
		}
		files = append(files, File{strings.TrimPrefix(header.Name, "sealpost/"), data})
	}
}
