package pgpmime

import (
	"bufio"
	"encoding/base64"
	"io"
	"strings"
)

// armorWriter writes a binary OpenPGP message as ASCII armor with CRLF line ends (RFC 9580 §6.2).
// go-crypto's own cannot do what gpg 2.2 needs at a tolerable speed: without a checksum, gpg reads on into
// the last line unless the base64 happens to end in padding, and calls the message invalid.
type armorWriter struct {
	out      *bufio.Writer
	base64   io.WriteCloser
	checksum bool
	crc      uint32
	column   int
}

// newArmor begins the armor. The checksum must not be written for SEIPDv2, whose readers need none
// (RFC 9580 §6.1).
func newArmor(w io.Writer, checksum bool) *armorWriter {
	a := &armorWriter{out: bufio.NewWriterSize(w, 32<<10), checksum: checksum, crc: crc24Init}
	a.base64 = base64.NewEncoder(base64.StdEncoding, armorLines{a})
	_, _ = a.out.WriteString("-----BEGIN " + armoredMessage + "-----\r\n\r\n") // a bufio.Writer reports errors at Flush
	return a
}

func (a *armorWriter) Write(p []byte) (int, error) {
	if a.checksum {
		a.crc = crc24(a.crc, p)
	}
	return a.base64.Write(p)
}

// Close ends the armor; it does not close the writer below.
func (a *armorWriter) Close() error {
	if err := a.base64.Close(); err != nil {
		return err
	}
	var end strings.Builder
	if a.column > 0 {
		end.WriteString("\r\n")
	}
	if a.checksum {
		crc := []byte{byte(a.crc >> 16), byte(a.crc >> 8), byte(a.crc)}
		end.WriteString("=" + base64.StdEncoding.EncodeToString(crc) + "\r\n")
	}
	end.WriteString("-----END " + armoredMessage + "-----\r\n")
	_, _ = a.out.WriteString(end.String())
	return a.out.Flush()
}

// armorLines breaks the base64 into lines.
type armorLines struct{ a *armorWriter }

const armorColumns = 64

func (l armorLines) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(armorColumns-l.a.column, len(rest))
		if _, err := l.a.out.Write(rest[:n]); err != nil {
			return 0, err
		}
		if l.a.column += n; l.a.column == armorColumns {
			l.a.column = 0
			if _, err := l.a.out.WriteString("\r\n"); err != nil {
				return 0, err
			}
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// The CRC-24 of RFC 9580 §6.1.1.
const (
	crc24Init = 0xB704CE
	crc24Poly = 0x1864CFB
)

var crc24Table = func() (table [256]uint32) {
	for i := range table {
		crc := uint32(i) << 16
		for range 8 {
			if crc <<= 1; crc&0x1000000 != 0 {
				crc ^= crc24Poly
			}
		}
		table[i] = crc & 0xFFFFFF
	}
	return table
}()

func crc24(crc uint32, p []byte) uint32 {
	for _, b := range p {
		crc = crc<<8&0xFFFFFF ^ crc24Table[byte(crc>>16)^b]
	}
	return crc
}
