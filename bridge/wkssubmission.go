package bridge

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

// A user who keeps his key himself mails the certificate to the submission address (draft-koch-openpgp-webkey-service-22 §4). He is
// asked back at his address, by a mail that only that key can read; what he answers proves that both are his. From then on the directory
// has his certificate, and the gateway neither opens his mail nor signs for him.
//
// Requests and answers must be encrypted to the submission address, whose key is made when the gateway starts.

const (
	submissionLasts = 72 * time.Hour // for the answer
	maxSubmission   = 1 << 20        // bytes of a certificate
	// An address is asked that often in that time at most, and once about each certificate: whoever floods it is slowed down.
	maxSubmissions    = 4
	submissionsWithin = 10 * time.Minute
)

// isSubmission says whether an address is that of the gateway's Web Key Service.
func (g *Gateway) isSubmission(address string) bool {
	return g.options.Submission != "" && normalized(address) == normalized(g.options.Submission)
}

// takeSubmission deals with a mail to the submission address; nil, or why not.
func (g *Gateway) takeSubmission(ctx context.Context, raw *spool.Spool) *Refusal {
	text, mediaType, err := g.openSubmission(ctx, raw)
	if err == nil && mediaType == wksType {
		err = g.confirm(ctx, text)
	} else if err == nil {
		err = g.askBack(ctx, text)
	}
	var refusal *Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return refusal
	}
	return localRefusal(err)
}

func badSubmission(format string, args ...any) *Refusal {
	return &Refusal{Reason: ReasonMalformed, Text: "this address publishes OpenPGP certificates; " + fmt.Sprintf(format, args...)}
}

// openSubmission is the one part of a mail that matters: a certificate, or an answer.
func (g *Gateway) openSubmission(ctx context.Context, raw *spool.Spool) (text []byte, mediaType string, err error) {
	ring, err := g.users.ring(ctx, g.options.Submission)
	if err != nil {
		return nil, "", err
	}
	keys, giveBack, err := ring.Decrypters()
	if err != nil {
		return nil, "", err
	}
	defer giveBack()
	result, _, err := g.openWith(ctx, raw, pgpmime.Keys{Decrypters: keys, Own: []string{g.options.Submission}})
	if err != nil {
		return nil, "", err
	}
	if result.Message == nil || result.Encryption != pgpmime.EncryptionOpenPGP {
		return nil, "", badSubmission("send yours encrypted, with a program that knows the Web Key Service")
	}
	defer result.Message.Close()
	root, err := mimescan.Scan(result.Message)
	if err != nil {
		return nil, "", err
	}
	for _, mediaType := range []string{wksType, "application/pgp-keys"} {
		if part := partOfType(root, mediaType); part != nil {
			text, err := io.ReadAll(io.LimitReader(mimescan.DecodeBody(result.Message, part), maxSubmission))
			return text, mediaType, err
		}
	}
	return nil, "", badSubmission("there is none in this mail")
}

// askBack keeps a certificate, and asks the address whether it is its own.
func (g *Gateway) askBack(ctx context.Context, data []byte) error {
	certificates, err := keydisc.ParseCertificates(data)
	if err != nil || len(certificates) != 1 {
		return badSubmission("this mail does not hold exactly one")
	}
	var addresses []string
	for _, address := range certificates[0].Addresses() {
		if g.Hosts(address) && !g.isSubmission(address) {
			addresses = append(addresses, normalized(address))
		}
	}
	if len(addresses) == 0 {
		return badSubmission("this one has no address of the domains it is for")
	}
	if taken, err := g.takeRevocation(ctx, addresses, certificates[0]); taken || err != nil {
		return err
	}
	return g.askAll(ctx, addresses, certificates[0])
}

// askAll takes the certificate as soon as one of its addresses was asked: if it were mailed in again for the others' sake, as an MTA does
// after a temporary refusal, that one would be asked each time.
func (g *Gateway) askAll(ctx context.Context, addresses []string, c *keydisc.Certificate) error {
	var refused []error
	for _, address := range addresses {
		one, err := c.ForAddress(address)
		if err == nil {
			err = one.Check(address, g.bridge.now())
		}
		if err != nil {
			err = badSubmission("this one cannot be used for %s: %s", address, err)
		} else {
			err = g.ask(ctx, address, one)
		}
		if err != nil {
			g.log.Warn("an address of a submitted certificate was not asked", "address", address, "cause", err)
			refused = append(refused, err)
		}
	}
	if len(refused) < len(addresses) {
		return nil
	}
	return refused[0]
}

// ask asks an address about a certificate, unless it was asked just now.
func (g *Gateway) ask(ctx context.Context, address string, c *keydisc.Certificate) error {
	nonce := rand.Text()
	var asked bool
	err := g.bridge.db.Write(ctx, func(tx *sql.Tx) (err error) {
		asked, err = g.wait(ctx, tx, address, nonce, c)
		return err
	})
	if err != nil || asked {
		return err
	}
	question := fmt.Sprintf("type: confirmation-request\r\nsender: %s\r\naddress: %s\r\nfingerprint: %s\r\nnonce: %s\r\n",
		g.options.Submission, address, c.Fingerprint(), nonce)
	if err = g.mailQuestion(ctx, address, c, question); err == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	return errors.Join(err, g.bridge.db.Write(ctx, func(tx *sql.Tx) error { // nobody has got this question
		_, err := tx.ExecContext(ctx, `DELETE FROM submission WHERE nonce = ?`, nonce)
		return err
	}))
}

// wait keeps a certificate until its question is answered. A question that was asked just now stands.
func (g *Gateway) wait(ctx context.Context, tx *sql.Tx, address, nonce string, c *keydisc.Certificate) (asked bool, err error) {
	c, err = g.upToDate(ctx, tx, address, c)
	if err != nil {
		return false, err
	}
	now := g.bridge.now()
	if _, err := tx.ExecContext(ctx, `DELETE FROM submission WHERE asked < ?`, now.Add(-submissionLasts).UnixNano()); err != nil {
		return false, err
	}
	asked, err = g.askedLately(ctx, tx, address, c)
	if asked || err != nil {
		return asked, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO submission (address, fingerprint, certificate, nonce, asked) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (address, fingerprint) DO UPDATE SET certificate = excluded.certificate, nonce = excluded.nonce, asked = excluded.asked`,
		address, string(c.Fingerprint()), c.Bytes(), nonce, now.UnixNano())
	return false, err
}

// askedLately says whether the address was asked about that very certificate. One question too many is refused.
func (g *Gateway) askedLately(ctx context.Context, tx *sql.Tx, address string, c *keydisc.Certificate) (bool, error) {
	var all, copies, same int
	err := tx.QueryRowContext(ctx, `SELECT count(*), count(CASE WHEN fingerprint = ? THEN 1 END), count(CASE WHEN certificate = ? THEN 1 END)
		FROM submission WHERE address = ? AND asked > ?`,
		string(c.Fingerprint()), c.Bytes(), address, g.bridge.now().Add(-submissionsWithin).UnixNano()).Scan(&all, &copies, &same)
	if err != nil || same > 0 {
		return same > 0, err
	}
	if all >= maxSubmissions || copies > 0 { // a changed copy would be one more question, as often as anybody changes it
		return false, &Refusal{Reason: ReasonRate, Text: "too many certificates for " + address + " were mailed in; try again later"}
	}
	return false, nil
}

// mailQuestion sends it, signed by the submission address and encrypted to the certificate in question.
func (g *Gateway) mailQuestion(ctx context.Context, address string, c *keydisc.Certificate, question string) error {
	ring, err := g.users.ring(ctx, g.options.Submission)
	if err != nil {
		return err
	}
	_, signer, giveBack, err := ring.For(normalized(g.options.Submission), g.bridge.now())
	if err != nil {
		return err
	}
	defer giveBack()
	plain, body := spool.New(g.bridge.spoolDir), spool.New(g.bridge.spoolDir)
	defer plain.Close()
	defer body.Close()
	_, err = fmt.Fprintf(plain, "From: <%s>\r\nTo: <%s>\r\nSubject: Confirm your key publication\r\nDate: %s\r\nMessage-ID: %s\r\nWks-Draft-Version: 3\r\nWks-Phase: confirm\r\nMIME-Version: 1.0\r\nContent-Type: %s\r\n\r\n%s",
		g.options.Submission, address, g.bridge.now().UTC().Format(time.RFC1123Z), newMessageID(g.options.Submission), wksType, question)
	if err == nil {
		err = pgpmime.Encrypt(body, plain, pgpmime.EncryptOptions{Recipients: []*keydisc.Certificate{c}, Signer: signer, Time: g.bridge.now()})
	}
	if err != nil {
		return err
	}
	international := strings.ContainsFunc(g.options.Submission+address, func(r rune) bool { return r > unicode.MaxASCII })
	results, err := g.inside.Submit(ctx, []upstream.Transaction{{From: g.options.Submission, To: []string{address}, Body: body, UTF8: international}})
	if err = errors.Join(append(results, err)...); err != nil {
		return providerRefusal(err)
	}
	return nil
}

// takeRevocation publishes one for all addresses whose users have mailed in that certificate before; false if there is none.
func (g *Gateway) takeRevocation(ctx context.Context, addresses []string, news *keydisc.Certificate) (taken bool, err error) {
	for _, address := range addresses {
		own, _, err := g.users.submitted(ctx, address)
		if err != nil {
			return taken, err
		}
		if own == nil || own.Fingerprint() != news.Fingerprint() || !news.Revoked(g.bridge.now()) {
			continue
		}
		if own, err = own.Update(news); err == nil {
			err = g.spread(ctx, address, own)
		}
		if err != nil {
			return taken, err
		}
		taken = true
	}
	return taken, nil
}

// upToDate is a certificate with what is known of it from before: an old copy, or the answer to an old question, must not undo a revocation.
func (g *Gateway) upToDate(ctx context.Context, tx *sql.Tx, address string, c *keydisc.Certificate) (*keydisc.Certificate, error) {
	var stored []byte
	err := tx.QueryRowContext(ctx, `SELECT certificate FROM submitted_certificate WHERE address = ?`, address).Scan(&stored)
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	updated, err := keydisc.ParseUpdate(stored, c)
	if err != nil {
		return c, nil // it is another one
	}
	if updated.Revoked(g.bridge.now()) {
		return nil, badSubmission("this one was revoked by %s", address)
	}
	return updated, nil
}

// spread publishes a revocation: it is signed by the key itself, so nobody need be asked, and nobody could read the question. No question
// about that certificate can be answered any more.
func (g *Gateway) spread(ctx context.Context, address string, c *keydisc.Certificate) error {
	err := g.bridge.db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM submission WHERE address = ? AND fingerprint = ?`, address, string(c.Fingerprint())); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE submitted_certificate SET certificate = ? WHERE address = ?`, c.Bytes(), address)
		return err
	})
	if err != nil {
		return err
	}
	return g.bridge.audit.Append(ctx, audit.Entry{
		Time: g.bridge.now(), Account: address, Event: "key", Fingerprint: string(c.Fingerprint()), Detail: "revoked by the user",
	})
}

// confirm publishes what an answer confirms. The same answer again changes nothing: its reply may have got lost.
func (g *Gateway) confirm(ctx context.Context, text []byte) error {
	answer, err := keydisc.ParseConfirmationResponse(text)
	if err != nil {
		return badSubmission("this is no answer to its question: %s", err)
	}
	var c *keydisc.Certificate
	err = g.bridge.db.Write(ctx, func(tx *sql.Tx) error {
		if c, err = g.waiting(ctx, tx, answer.Address, answer.Nonce); err != nil {
			return err
		}
		if c, err = g.upToDate(ctx, tx, answer.Address, c); err != nil {
			return err
		}
		return g.publishSubmitted(ctx, tx, answer.Address, answer.Nonce, c)
	})
	if err != nil {
		return err
	}
	return g.bridge.audit.Append(ctx, audit.Entry{
		Time: g.bridge.now(), Account: answer.Address, Event: "key", Fingerprint: string(c.Fingerprint()), Detail: "mailed in by the user and confirmed",
	})
}

// waiting is the certificate that a question was about.
func (g *Gateway) waiting(ctx context.Context, tx *sql.Tx, address, nonce string) (*keydisc.Certificate, error) {
	var data []byte
	err := tx.QueryRowContext(ctx, `SELECT certificate FROM submission WHERE address = ? AND nonce = ? AND asked >= ?`,
		address, nonce, g.bridge.now().Add(-submissionLasts).UnixNano()).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, badSubmission("this answers no question of the last days; send the certificate again")
	}
	if err != nil {
		return nil, err
	}
	certificates, err := keydisc.ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	return certificates[0], nil
}

// publishSubmitted puts a certificate into the directory. The other questions to its address are void.
func (g *Gateway) publishSubmitted(ctx context.Context, tx *sql.Tx, address, nonce string, c *keydisc.Certificate) error {
	if err := enrol(ctx, tx, address); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM submission WHERE address = ? AND nonce <> ?`, address, nonce); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO submitted_certificate (address, certificate, confirmed) VALUES (?, ?, ?)
		ON CONFLICT (address) DO UPDATE SET certificate = excluded.certificate, confirmed = excluded.confirmed`, address, c.Bytes(), g.bridge.now().UnixNano())
	return err
}

// keepsOwnKey says whether a user has mailed in a certificate that can be used: he signs and opens himself.
func (g *Gateway) keepsOwnKey(ctx context.Context, address string) (bool, error) {
	_, good, err := g.users.submitted(ctx, address)
	return good, err
}

// openSubmissionKey makes the key of the submission address, once.
func (g *Gateway) openSubmissionKey(ctx context.Context) error {
	if g.options.Submission == "" {
		return nil
	}
	if !g.Hosts(g.options.Submission) || g.inside == nil || strings.Contains(g.options.Submission, "\n") {
		return fmt.Errorf("gateway: %s must be in a hosted domain, and needs inbound and its next hop", g.options.Submission)
	}
	_, err := g.users.sending(ctx, g.options.Submission)
	return err
}
