package bridge

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/keydisc"
)

// How an incoming message travels:
//
//	learn    the sender's certificate from an Autocrypt field, under the rules of a first pin; once it has been
//	         judged, the other recipients' from what it says about them (gossip.go)
//	open     classify by structure, decrypt to the end, verify; nothing is released before
//	judge    one verdict about the whole message: how it came, whose signature, how trusted
//	present  every look-alike of our status field dropped, ours on top, the rest as it was; what was
//	         encrypted gets a Message-ID if it has none that an answer can be known by
//
// The verdict of the first opening is kept: a message never changes under its UID, however
// often the cache forgets it. What cannot be opened is served as it is, saying why.

// openStored turns a message as the provider stores it into what the client sees. An error
// means that it could not be done now; bad mail is not an error.
func (a *Account) openStored(ctx context.Context, stored mimescan.Source) (*mirror.Opened, error) {
	a.bridge.learnAutocrypt(ctx, stored, func(from string, c *keydisc.Certificate) bool {
		if a.Owns(from) {
			a.learnOwn(ctx, c)
		}
		_, device := a.bridge.deviceAt(from)
		return device || a.Owns(from)
	})
	result, signers, err := a.open(ctx, stored)
	if err != nil {
		return nil, err
	}
	if result.Message != nil {
		defer result.Message.Close()
	}
	v := judge(result, signers)
	a.bridge.metrics.Opened(string(v.encryption), string(v.signature))
	first := firstOpening{account: a.Address(), status: v.status()}
	if err := a.recall(ctx, stored, &first); err != nil {
		return nil, err
	}
	if !first.known {
		a.learnGossip(ctx, result, v, signers)
	}
	message, err := a.present(stored, result, first.status)
	if err != nil {
		return nil, err
	}
	if v.encryption == pgpmime.EncryptionOpenPGP {
		if message, first.encrypted, err = a.answerable(message, stored, first.digest); err != nil {
			_ = message.Close()
			return nil, err
		}
	}
	return &mirror.Opened{Message: message, Kind: kindOf(result), Keywords: v.keywords(), Hash: first.digest, Save: first.save}, nil
}

// open decrypts and verifies. signers are the contacts whose certificates were tried.
func (a *Account) open(ctx context.Context, stored mimescan.Source) (*pgpmime.Result, map[keydisc.Fingerprint]contacts.Contact, error) {
	keys, giveBack, err := a.keys()
	if err != nil {
		return nil, nil, err
	}
	defer giveBack()
	devicesBack, err := a.bridge.deviceKeys.lend(ctx, &keys, a.ownDevices()...)
	defer devicesBack()
	if err != nil {
		return nil, nil, err
	}
	return a.openWith(ctx, stored, keys)
}

func (s *sender) openWith(ctx context.Context, stored mimescan.Source, keys pgpmime.Keys) (*pgpmime.Result, map[keydisc.Fingerprint]contacts.Contact, error) {
	signers := map[keydisc.Fingerprint]contacts.Contact{}
	certificates := func(from string) []*keydisc.Certificate {
		var found []*keydisc.Certificate
		for _, c := range s.bridge.signersOf(ctx, from) {
			signers[c.Certificate.Fingerprint()] = c
			found = append(found, c.Certificate)
		}
		return found
	}
	result, err := pgpmime.Open(stored, keys, certificates, s.bridge.now(), s.bridge.spoolDir)
	return result, signers, err
}

// keys are copies of the account's keys, lent for one message.
func (a *Account) keys() (keys pgpmime.Keys, giveBack func(), err error) {
	sealKeys, err := a.ring.SealKeys()
	if err != nil {
		return pgpmime.Keys{}, nil, err
	}
	decrypters, giveBack, err := a.ring.Decrypters()
	return pgpmime.Keys{Decrypters: decrypters, SealKeys: sealKeys, Own: a.Addresses()}, giveBack, err
}

// verdict is what the status field says: one statement about the whole message.
type verdict struct {
	encryption pgpmime.Encryption
	signature  pgpmime.Signature
	signer     keydisc.Fingerprint
	trust      contacts.Trust // "" where no signature speaks
	pq         string
	reason     string
}

func judge(r *pgpmime.Result, signers map[keydisc.Fingerprint]contacts.Contact) verdict {
	v := verdict{encryption: r.Encryption, signature: r.Signature, signer: r.Signer, pq: "-", reason: r.Reason}
	if r.Encryption == pgpmime.EncryptionOpenPGP || r.Encryption == pgpmime.EncryptionSealed {
		v.pq = "no"
		if r.PQ {
			v.pq = "yes"
		}
	}
	if r.Signature == pgpmime.SignatureNone {
		return v
	}
	v.trust = contacts.Unknown
	if c, ok := signers[r.Signer]; ok && r.Signer != "" {
		v.trust = c.Trust
	}
	// A certificate that contests the pin is anybody's until the user has decided.
	if v.trust == contacts.Changed && v.signature == pgpmime.SignatureGood {
		v.signature = pgpmime.SignatureMismatch
	}
	return v
}

// status is the value of X-Sealpost-Status.
func (v verdict) status() string {
	return fmt.Sprintf("encryption=%s; signature=%s; signer=%s; trust=%s; pq=%s; reason=%s",
		v.encryption, v.signature, orDash(string(v.signer)), orDash(string(v.trust)), v.pq, orDash(v.reason))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// The keywords of the mirror; never stored upstream.
const (
	KeywordEncrypted      imap.Flag = "$Encrypted"
	KeywordSignedGood     imap.Flag = "$SignedGood"
	KeywordSignedBad      imap.Flag = "$SignedBad"
	KeywordSignerVerified imap.Flag = "$SignerVerified"
	KeywordDecryptFailed  imap.Flag = "$DecryptFailed"
)

func (v verdict) keywords() []imap.Flag {
	var flags []imap.Flag
	switch v.encryption {
	case pgpmime.EncryptionOpenPGP:
		flags = append(flags, KeywordEncrypted)
	case pgpmime.EncryptionFailed:
		flags = append(flags, KeywordDecryptFailed)
	}
	switch v.signature {
	case pgpmime.SignatureGood:
		flags = append(flags, KeywordSignedGood)
		if v.trust == contacts.Verified {
			flags = append(flags, KeywordSignerVerified)
		}
	case pgpmime.SignatureBad, pgpmime.SignatureMismatch:
		flags = append(flags, KeywordSignedBad)
	}
	return flags
}

func kindOf(r *pgpmime.Result) mirror.Kind {
	switch {
	case r.Encryption == pgpmime.EncryptionFailed:
		return mirror.Failed
	case r.Sealed:
		return mirror.Sealed
	case r.Encryption == pgpmime.EncryptionOpenPGP:
		return mirror.Encrypted
	}
	return mirror.Clear
}

// recall finds the status these bytes got at their first opening; there is none if this is it.
func (a *Account) recall(ctx context.Context, stored mimescan.Source, first *firstOpening) error {
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(stored, 0, stored.Size())); err != nil {
		return err
	}
	first.digest = hash.Sum(nil)
	return a.bridge.journal.recall(ctx, first)
}

// present writes the message with our status field on top.
func (s *sender) present(stored mimescan.Source, r *pgpmime.Result, status string) (*spool.Spool, error) {
	source := stored
	if r.Message != nil {
		source = r.Message
	}
	message := spool.New(s.bridge.spoolDir)
	if err := pgpmime.WithStatus(message, source, status); err != nil {
		_ = message.Close()
		return nil, err
	}
	return message, nil
}

// learnAutocrypt takes the sender's certificate from the message's Autocrypt field
// (Autocrypt 1.1 §2.3): exactly one From, exactly one valid field whose addr is that From,
// not a report. Whatever is wrong with it is no reason not to show the message. own takes what is about an address of
// the user's own.
func (b *Bridge) learnAutocrypt(ctx context.Context, stored mimescan.Source, own func(from string, c *keydisc.Certificate) bool) {
	header, err := mimescan.ReadTop(stored)
	if err != nil || header.MediaType() == "multipart/report" {
		return
	}
	from := addressesIn(strings.Join(header.Values("From"), ", "))
	if len(from) != 1 {
		return
	}
	certificate := soleAutocrypt(header.Values("Autocrypt"), from[0])
	if certificate == nil {
		return
	}
	if own(from[0], certificate) {
		return
	}
	effective := b.now()
	if date, err := mimescan.ParseDate(header.Get("Date")); err == nil && date.Before(effective) {
		effective = date
	}
	if err := b.contacts.Learn(ctx, from[0], certificate, "autocrypt", effective); err != nil {
		b.log.Debug("a certificate in an Autocrypt field was not taken", "cause", err)
	}
}

// soleAutocrypt is the certificate of the one valid field; nil if there is none or more than one.
func soleAutocrypt(fields []string, from string) *keydisc.Certificate {
	var sole *keydisc.Certificate
	for _, field := range fields {
		parsed, err := keydisc.ParseAutocrypt(field)
		if err != nil || normalized(parsed.Address) != normalized(from) {
			continue
		}
		if sole != nil {
			return nil
		}
		sole = parsed.Certificate
	}
	return sole
}
