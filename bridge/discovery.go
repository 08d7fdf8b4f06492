package bridge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/export"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/keydisc"
)

// Discovery is where queries over the mail of all accounts are answered and exports are made.
func (b *Bridge) Discovery(version string) *export.Desk {
	o := export.Options{DB: b.db, Audit: b.audit, Holds: b.holds, Signer: b.exportSigner, Version: version, Now: b.now, CheckSignature: CheckSignature,
		Encrypt: func(w io.Writer, certificates []byte) (io.WriteCloser, error) {
			return encryptFile(w, certificates, b.now())
		}}
	if len(b.announceTo) > 0 {
		o.Announce = b.announce
	}
	for _, a := range b.accounts {
		o.Custodians = append(o.Custodians, export.Custodian{Address: a.Address(), Mirror: a.mirror})
	}
	return export.New(o)
}

// announce mails a notice from the account to those who have to know of exports.
func (b *Bridge) announce(ctx context.Context, account, what string) error {
	a, ok := b.Account(account)
	if !ok {
		return fmt.Errorf("there is no account %s", account)
	}
	text := "From: <" + a.Address() + ">\r\nTo: <" + strings.Join(b.announceTo, ">, <") + ">\r\nSubject: Notice of an export\r\nAuto-Submitted: auto-generated\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + what + "\r\n"
	if err := a.Submit(ctx, Envelope{From: a.Address(), To: b.announceTo}, strings.NewReader(text)); err != nil {
		return fmt.Errorf("the notice to %s was not sent: %w", strings.Join(b.announceTo, ", "), err)
	}
	return nil
}

// exportSigner is the account's key.
func (b *Bridge) exportSigner(address string) (export.Signer, error) {
	a, ok := b.Account(address)
	if !ok {
		return export.Signer{}, fmt.Errorf("there is no account %s", address)
	}
	certificate, err := a.ring.Certificate()
	if err != nil {
		return export.Signer{}, fmt.Errorf("%s has no key to sign with; make one with sealpost key generate: %w", address, err)
	}
	armored, err := a.ring.ExportCertificate(certificate.Fingerprint())
	if err != nil {
		return export.Signer{}, err
	}
	return export.Signer{Address: a.Address(), Fingerprint: string(certificate.Fingerprint()), Certificate: armored, Sign: a.signFile}, nil
}

func (a *Account) signFile(w io.Writer, data io.Reader) error {
	key, err := a.ring.Signer()
	if err != nil {
		return err
	}
	return pgpmime.SignFile(w, data, key, a.bridge.now())
}

// encryptFile encrypts to the certificates of others that can be used now.
func encryptFile(w io.Writer, certificates []byte, now time.Time) (io.WriteCloser, error) {
	parsed, err := keydisc.ParseCertificates(certificates)
	if err != nil {
		return nil, fmt.Errorf("certificate to encrypt to: %w", err)
	}
	return pgpmime.EncryptFile(w, parsed, now)
}

// CheckSignature says which certificate's key has made an armored detached signature over data; the key had to be valid when it signed.
func CheckSignature(certificates, data, signature []byte) (fingerprint string, err error) {
	parsed, err := keydisc.ParseCertificates(bytes.Clone(certificates))
	if err != nil {
		return "", err
	}
	f, _, err := pgpmime.CheckFile(parsed, data, signature, time.Now())
	return string(f), err
}
