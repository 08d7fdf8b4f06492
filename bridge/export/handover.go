package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/sealpost/sealpost/bridge/audit"
)

// HandOver is the last link of the chain of custody: to whom an export was given. It is signed by the device and lies beside the list of
// files, whose digest it names; another hand-over names the one before.
type HandOver struct {
	Number int    `json:"number"`
	Time   string `json:"time"` // of this device's clock, RFC 3339, UTC
	To     string `json:"to"`
	Note   string `json:"note,omitempty"`
	Sums   string `json:"sums"` // hex SHA-256 of SHA256SUMS
	Prev   string `json:"prev"` // hex SHA-256 of the record before; "" for the first
}

var handOverFile = regexp.MustCompile(`^handover-([1-9][0-9]{0,3})\.json(\.asc)?$`)

func handOverName(number int) string { return fmt.Sprintf("handover-%d.json", number) }

// HandOver records that a finished export of this device was given to somebody: in its folder, signed, and in the decision log. The export is
// verified first; the error says what is wrong with it.
func (d *Desk) HandOver(ctx context.Context, dir, to, note string) (*HandOver, error) {
	if err := checkRecords(dir); err != nil {
		return nil, err
	}
	v, err := Verify(ctx, dir, VerifyOptions{CheckSignature: d.o.CheckSignature})
	if err != nil {
		return nil, err
	}
	if len(v.Problems) > 0 {
		return nil, fmt.Errorf("%s is not as it was signed: %s", dir, v.Problems[0])
	}
	signer, err := d.signerOf(v.Fingerprint)
	if err != nil {
		return nil, err
	}
	list, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if err != nil {
		return nil, err
	}
	h := HandOver{Number: len(v.HandOvers) + 1, Time: d.o.Now().UTC().Format("2006-01-02T15:04:05Z"), To: to, Note: note, Sums: hashOf(list)}
	if h.Number > 1 {
		before, err := os.ReadFile(filepath.Join(dir, handOverName(h.Number-1)))
		if err != nil {
			return nil, err
		}
		h.Prev = hashOf(before)
	}
	text, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return nil, err
	}
	// The log first: a record in the folder that the log does not know would be worse.
	err = d.o.Audit.Append(ctx, audit.Entry{Account: signer.Address, Event: "export", Decision: "handed over", Fingerprint: signer.Fingerprint,
		Detail: fmt.Sprintf("%s %s, record %s", sumsFile, h.Sums, hashOf(text))})
	if err != nil {
		return nil, err
	}
	s := &sink{dir: dir}
	if _, err := s.putClear(handOverName(h.Number)+".asc", func(w io.Writer) error { return signer.Sign(w, bytes.NewReader(text)) }); err != nil {
		return nil, err
	}
	_, err = s.putClear(handOverName(h.Number), func(w io.Writer) error { _, err := w.Write(text); return err })
	return &h, err
}

// checkRecords refuses to go on where a record is missing of which there is the signature: a crash leaves that, and so does somebody
// who removes a record.
func checkRecords(dir string) error {
	signatures, err := filepath.Glob(filepath.Join(dir, "handover-*.json.asc"))
	for _, path := range signatures {
		if _, missing := os.Stat(strings.TrimSuffix(path, ".asc")); errors.Is(missing, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("%s is the signature of a record that is not there; if the last hand-over was cut off, remove it and repeat", path))
		}
	}
	return err
}

// signerOf is the account of this device whose key has that fingerprint.
func (d *Desk) signerOf(fingerprint string) (Signer, error) {
	for _, c := range d.o.Custodians {
		s, err := d.o.Signer(c.Address)
		if err == nil && strings.EqualFold(s.Fingerprint, fingerprint) {
			return s, nil
		}
	}
	return Signer{}, fmt.Errorf("the export was signed by %s, which is no key in use on this device; record the hand-over where it was made", fingerprint)
}

// handOvers checks the records there are: numbered from 1, each signed by the export's signer and naming the list and the one before.
func (v *verifier) handOvers(list []byte) {
	prev := ""
	for number := 1; ; number++ {
		text, err := v.read(handOverName(number))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		var h HandOver
		if err == nil {
			err = json.Unmarshal(text, &h)
		}
		if err == nil {
			err = v.signedBySigner(text, handOverName(number)+".asc")
		}
		if err == nil && (h.Number != number || h.Sums != hashOf(list) || h.Prev != prev) {
			err = errors.New("it is about another export, or not the next one")
		}
		if err != nil {
			v.problem("%s is no record of this export's hand-over: %v", handOverName(number), err)
			return
		}
		prev = hashOf(text)
		v.HandOvers = append(v.HandOvers, h)
	}
}

func (v *verifier) signedBySigner(text []byte, signatureName string) error {
	signature, err := v.read(signatureName)
	if err != nil {
		return err
	}
	certificates := v.o.Certificates
	if certificates == nil {
		if certificates, err = v.read(certificateFile); err != nil {
			return err
		}
	}
	fingerprint, err := v.o.CheckSignature(certificates, text, signature)
	if err == nil && fingerprint != v.Fingerprint {
		err = fmt.Errorf("it is signed by %s", fingerprint)
	}
	return err
}

// beside says whether a file is one that stands beside the list: the signature, the time stamp, and the records that were checked.
func (v *verifier) beside(path string) bool {
	if path == sumsFile || path == signatureFile || path == tokenFile {
		return true
	}
	found := handOverFile.FindStringSubmatch(path)
	if found == nil {
		return false
	}
	for _, h := range v.HandOvers {
		if fmt.Sprint(h.Number) == found[1] {
			return true
		}
	}
	return false
}
