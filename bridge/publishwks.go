package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/keydisc"
)

// The Web Key Service of a domain (draft-koch-openpgp-webkey-service-22 §4) is asked by mail and asks back by mail.
// An automatic answer to mail is what an attacker would like to cause: it goes only to a service that the user has
// asked, within some days, about mail that arrived since, that is signed by the certificate which the service's own
// directory had when it was asked, and that was encrypted to the very key that is published. What goes back is the nonce
// and nothing else that the mail held, encrypted to the service.

// wksType is the media type of the service's messages.
const wksType = "application/vnd.gnupg.wks"

// maxAnswers bounds how often one service is answered about one request.
const maxAnswers = 5

// askService sends the certificate to the Web Key Service of the address's domain, unless its directory has it already.
func (a *Account) askService(ctx context.Context, p *publication, certificate *keydisc.Certificate) error {
	found, err := a.isPublished(ctx, p, certificate)
	if err == nil && found {
		p.enter(PublicationPublished, "", a.bridge.now())
		return nil
	}
	_, domain, _ := strings.Cut(p.Address, "@")
	service, err := a.bridge.finder.WebKeyService(ctx, p.Address)
	if errors.Is(err, keydisc.ErrNoWebKeyService) {
		return permanentError{fmt.Errorf("%s: %w; publish at the key server (--to vks), or run your own directory (sealpost wkd export)", domain, err)}
	}
	if err != nil {
		return fmt.Errorf("the Web Key Service of %s: %w", domain, err)
	}
	if err := certificate.Check(p.Address, a.bridge.now()); err != nil {
		return fmt.Errorf("the service could not encrypt its question to it: %w", err)
	}
	one, err := certificate.OneUserID(p.Address, service.BareUserIDs)
	if err != nil {
		return fmt.Errorf("%s takes only user IDs that are the address alone: %w", domain, err)
	}
	if err := a.expectQuestion(ctx, p, service); err != nil {
		return err
	}
	armored, err := one.Armored()
	if err != nil {
		return err
	}
	return a.tellService(ctx, p, "Key publishing request", "application/pgp-keys", string(armored))
}

// expectQuestion notes, before the service is asked, what its question must be like.
func (a *Account) expectQuestion(ctx context.Context, p *publication, service *keydisc.WebKeyService) error {
	inbox, err := a.mirror.Mailbox(ctx, "INBOX")
	if err != nil {
		return fmt.Errorf("the mailbox that the question will come to: %w", err)
	}
	state, now := inbox.Snapshot(), a.bridge.now()
	p.enter(PublicationRequested, "", now)
	if service.Unasked {
		p.enter(PublicationConfirmed, "", now)
	}
	p.again(now, 0)
	p.service, p.certificate, p.nonces = service.Address, service.Certificate.Bytes(), nil
	p.validity, p.nextUID = state.UIDValidity, state.UIDNext
	unsent := *p
	unsent.digest = nil // after a crash it is sent again
	return a.publications().save(ctx, &unsent)
}

// tellService sends a message of the protocol, encrypted to the service. It is not signed: the
// reference implementation has not our certificate to check a signature with, and gives up at one (gpg-wks-server 2.2).
func (a *Account) tellService(ctx context.Context, p *publication, subject, contentType, text string) error {
	certificates, err := keydisc.ParseCertificates(p.certificate)
	if err != nil {
		return err
	}
	id := newMessageID(p.Address)
	var m strings.Builder
	for _, field := range [][2]string{
		{"From", "<" + p.Address + ">"}, {"To", "<" + p.service + ">"}, {"Subject", subject},
		{"Date", a.bridge.now().UTC().Format(time.RFC1123Z)}, {"Message-ID", id},
		{"Wks-Draft-Version", "3"}, {"MIME-Version", "1.0"}, {"Content-Type", contentType},
	} {
		m.WriteString(field[0] + ": " + field[1] + "\r\n")
	}
	m.WriteString("\r\n" + strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n"))
	body := spool.New(a.bridge.spoolDir)
	defer body.Close()
	err = pgpmime.Encrypt(body, bytes.NewReader([]byte(m.String())), pgpmime.EncryptOptions{Recipients: certificates, Time: a.bridge.now()})
	if err != nil {
		return err
	}
	_, err = a.handOver(ctx, &outgoing{from: p.Address, messageID: id}, []parcel{{to: []string{p.service}, body: body}})
	return err
}

// answerServices looks through what has arrived since services were asked.
func (a *Account) answerServices(ctx context.Context, all []*publication) error {
	inbox, err := a.mirror.Mailbox(ctx, "INBOX")
	if errors.Is(err, mirror.ErrOffline) {
		return nil
	}
	if err != nil {
		return err
	}
	snapshot := inbox.Snapshot()
	a.publisher.version = snapshot.Version
	if a.publisher.inbox != snapshot.UIDValidity {
		a.publisher.inbox, a.publisher.seen = snapshot.UIDValidity, map[imap.UID]bool{}
	}
	var fresh []imap.UID
	for _, m := range snapshot.Messages {
		if !a.publisher.seen[m.UID] && slices.ContainsFunc(all, func(p *publication) bool { return p.after(snapshot, m.UID) }) {
			fresh = append(fresh, m.UID)
		}
	}
	from := map[imap.UID]string{}
	err = inbox.Summaries(ctx, fresh, func(uid imap.UID, s *mirror.Summary, err error) error {
		if err == nil {
			from[uid] = soleSender(s.Header)
		}
		return nil
	})
	errs := []error{err}
	for _, uid := range fresh {
		if sender, known := from[uid]; known {
			errs = append(errs, a.answerMail(ctx, all, snapshot, uid, sender)) // one must not stand in the way of others
		}
	}
	return errors.Join(errs...)
}

// after says whether a message may be the service's question: it came after the service was asked.
func (p *publication) after(s *mirror.Snapshot, uid imap.UID) bool {
	return p.pending() && (p.validity != s.UIDValidity || uid >= p.nextUID)
}

// soleSender is the one address in From, normalised; "" if there is any other number.
func soleSender(header []byte) string {
	list := addressesIn(strings.Join(mimescan.ParseHeader(header).Values("From"), ", "))
	if len(list) != 1 {
		return ""
	}
	return normalized(list[0])
}

// answerMail answers a message if it is the question of a service that was asked.
func (a *Account) answerMail(ctx context.Context, all []*publication, s *mirror.Snapshot, uid imap.UID, sender string) error {
	for _, p := range all {
		if !p.after(s, uid) || sender != p.service {
			continue
		}
		stored, err := a.mirror.Stored(ctx, s.Name, uid)
		if errors.Is(err, mirror.ErrExpunged) {
			break
		}
		if err != nil {
			return err
		}
		err = a.answer(ctx, p, stored)
		_ = stored.Close()
		if err != nil {
			return err
		}
	}
	a.publisher.seen[uid] = true
	return nil
}

// answer confirms the publication if the message asks for it; the error is for trying again.
func (a *Account) answer(ctx context.Context, p *publication, stored mimescan.Source) error {
	p.Next = a.bridge.now() // whatever it says, the directory may have changed
	question, err := a.question(p, stored)
	if errors.Is(err, pgpmime.ErrIO) {
		return err
	}
	if errors.Is(err, errOtherPublication) {
		return nil
	}
	if err != nil {
		a.log.Info("a message from a Web Key Service was not answered", "service", p.service, "cause", err)
		if p.State == PublicationRequested {
			p.Reason = "a message from " + p.service + " was not answered: " + err.Error()
		}
		return a.publications().save(ctx, p)
	}
	if slices.Contains(p.nonces, question.Nonce) || len(p.nonces) >= maxAnswers {
		return nil
	}
	if err := a.tellService(ctx, p, "Key publication confirmation", wksType, question.Response()); err != nil {
		err = fmt.Errorf("the question of %s could not be answered: %w", p.service, err)
		if isTemporary(err) {
			return err
		}
		p.enter(PublicationFailed, err.Error(), a.bridge.now())
		return a.note(ctx, p)
	}
	p.nonces = append(p.nonces, question.Nonce)
	p.enter(PublicationConfirmed, "", a.bridge.now())
	p.again(a.bridge.now(), 0)
	return a.note(ctx, p)
}

// errOtherPublication is no fault: one service may be asked about several addresses.
var errOtherPublication = errors.New("it is about another address")

// question reads the service's question, if the message is one and about this publication.
func (a *Account) question(p *publication, stored mimescan.Source) (keydisc.ConfirmationRequest, error) {
	var none keydisc.ConfirmationRequest
	certificates, err := keydisc.ParseCertificates(p.certificate)
	if err != nil {
		return none, err
	}
	keys, giveBack, err := a.keys()
	if err != nil {
		return none, fmt.Errorf("%w: %w", pgpmime.ErrIO, err)
	}
	defer giveBack()
	text, err := pgpmime.OpenAttachment(stored, keys, certificates[0], p.Fingerprint, wksType, a.bridge.now(), a.bridge.spoolDir)
	if err != nil {
		return none, err
	}
	q, err := keydisc.ParseConfirmationRequest(text)
	switch {
	case err != nil:
		return none, err
	case q.Sender != p.service:
		return none, errors.New("it wants the answer to go to another address")
	case q.Address != p.Address:
		return none, errOtherPublication
	case q.Fingerprint != p.Fingerprint:
		return none, errors.New("it is about another certificate")
	}
	return q, nil
}
