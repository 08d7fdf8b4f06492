package bridge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/keydisc"
)

// How a certificate is published:
//
//	ask      the user names the places, once; nothing is ever published otherwise
//	request  upload to the key server, or a mail to the domain's Web Key Service (publishwks.go)
//	confirm  the user opens the key server's link; the service's question is answered by us
//	find     it counts as published once it was found where others look for it
//	follow   whenever the certificate differs from what was handed over last (longer expiry, other subkeys, a
//	         revocation), it is requested again
//
// Whoever changes a key need not know of this: what was handed over is remembered by its digest. The record of the change
// only makes the next look come at once.

// publisher is what an account needs for it.
type publisher struct {
	working *sync.Mutex   // one publication at a time
	wake    chan struct{} // there is something to do
	seen    map[imap.UID]bool
	inbox   uint32 // UIDVALIDITY of those seen
	version uint64 // of the INBOX when it was looked through
}

func newPublisher() publisher {
	return publisher{working: &sync.Mutex{}, wake: make(chan struct{}, 1), seen: map[imap.UID]bool{}}
}

const (
	publicationPatience = 7 * 24 * time.Hour // how long an answer is waited for
	publicationInterval = 10 * time.Minute   // between looks at what is to do
)

// Publish hands the certificate of an address of the account over at the places; f is "" for the key that speaks for the
// address. It is the user's decision, and remembered. Other addresses of the certificate are not published: that they
// belong together could not be taken back. What failed is in the result; the error says that nothing could be
// tried. ErrNoKey if there is no such key.
func (a *Account) Publish(ctx context.Context, address string, places []Place, f keydisc.Fingerprint) ([]Publication, error) {
	address = normalized(address)
	certificate, err := a.certificateToPublish(address, f)
	if err != nil {
		return nil, err
	}
	a.publisher.working.Lock()
	defer a.publisher.working.Unlock()
	defer a.wakePublisher()
	var done []Publication
	for _, place := range places {
		p, err := a.publications().get(ctx, a.Address(), address, place)
		if err != nil {
			return done, err
		}
		p.Fingerprint, p.wanted, p.attempts = certificate.Fingerprint(), true, 0
		if err := a.request(ctx, p, certificate); err != nil {
			return done, err
		}
		done = append(done, p.Publication)
	}
	return done, nil
}

func (a *Account) certificateToPublish(address string, f keydisc.Fingerprint) (certificate *keydisc.Certificate, err error) {
	if f == "" {
		certificate, err = a.ring.CertificateFor(address, a.bridge.now())
	} else {
		certificate, err = a.ring.CertificateOf(f)
	}
	if err != nil {
		return nil, err
	}
	if !a.Owns(address) || !slices.Contains(certificate.Addresses(), address) {
		return nil, fmt.Errorf("certificate %s has no user ID of %s; publish another key, or another address (--account)", certificate.Fingerprint(), address)
	}
	return certificate, nil
}

// Publications are where certificates of the account were published by the user, and how that stands.
func (a *Account) Publications(ctx context.Context) ([]Publication, error) {
	rows, err := a.publications().of(ctx, a.Address())
	var all []Publication
	for _, p := range rows {
		all = append(all, p.Publication)
	}
	return all, err
}

func (a *Account) publications() publications { return publications{a.bridge.db} }

func (a *Account) wakePublisher() {
	select {
	case a.publisher.wake <- struct{}{}:
	default:
	}
}

// request hands the certificate over and notes how that went; the error is of noting.
func (a *Account) request(ctx context.Context, p *publication, certificate *keydisc.Certificate) error {
	attempts := 0
	if p.State == PublicationFailed {
		attempts = p.attempts
	}
	digest, err := digestOf(certificate, p.Address)
	p.digest = digest
	if err == nil {
		err = a.handOverAt(ctx, p, certificate)
	}
	if err == nil {
		p.wanted = false
		return a.note(ctx, p)
	}
	if ctx.Err() != nil {
		return ctx.Err() // nothing is known; the digest is not noted, so that it is tried again
	}
	p.enter(PublicationFailed, reasonOf(err), a.bridge.now())
	if p.attempts = attempts; isTemporary(err) {
		p.again(a.bridge.now(), retryAfter(err))
	}
	return a.note(ctx, p)
}

func (a *Account) handOverAt(ctx context.Context, p *publication, certificate *keydisc.Certificate) error {
	switch p.Place {
	case PlaceVKS:
		return a.upload(ctx, p, certificate)
	case PlaceWKS:
		return a.askService(ctx, p, certificate)
	}
	return permanentError{fmt.Errorf("there is no place %q", p.Place)}
}

// digestOf tells whether a certificate has changed since it was handed over.
func digestOf(c *keydisc.Certificate, address string) ([]byte, error) {
	own, err := c.ForAddress(address)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(own.Bytes())
	return sum[:], nil
}

func retryAfter(err error) time.Duration {
	var server *keydisc.ServerError
	if errors.As(err, &server) {
		return server.RetryAfter
	}
	return 0
}

func reasonOf(err error) string {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal.Error()
	}
	return err.Error()
}

// upload gives the verifying key server the certificate with the user IDs of that address alone.
func (a *Account) upload(ctx context.Context, p *publication, certificate *keydisc.Certificate) error {
	own, err := certificate.ForAddress(p.Address)
	if err != nil {
		return err
	}
	status, err := a.bridge.finder.Upload(ctx, own, p.Address, p.wanted)
	if err != nil {
		return err
	}
	host, now := a.bridge.finder.VKSHost(), a.bridge.now()
	switch status {
	case keydisc.VKSPublished, keydisc.VKSRevoked:
		p.enter(PublicationPublished, "", now)
	case keydisc.VKSPending:
		p.enter(PublicationRequested, "open the link in the mail from "+host+" to "+p.Address, now)
		p.again(now, 0)
	default:
		return permanentError{fmt.Errorf("%s does not publish it for %s; ask for it again with sealpost key publish --to vks", host, p.Address)}
	}
	return nil
}

// note saves the publication and logs what has become of it.
func (a *Account) note(ctx context.Context, p *publication) error {
	ctx = context.WithoutCancel(ctx) // it has happened
	if err := a.publications().save(ctx, p); err != nil {
		return err
	}
	return a.bridge.audit.Append(ctx, audit.Entry{
		Time: a.bridge.now(), Account: p.Account, Event: "publish", Recipient: p.Address, Fingerprint: string(p.Fingerprint),
		Detail: string(p.Place) + " " + string(p.State),
	})
}

// followPublications does what is to do about publications until ctx ends.
func (a *Account) followPublications(ctx context.Context) {
	for ctx.Err() == nil {
		pending, err := a.tendPublications(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Warn("publications could not be looked at; trying again later", "cause", err)
		}
		a.awaitPublication(ctx, pending)
	}
}

// awaitPublication returns when it is time to look again: soon if a service may ask and mail arrives.
func (a *Account) awaitPublication(ctx context.Context, pending bool) {
	var arrived <-chan struct{}
	wait := publicationInterval
	if pending {
		wait = time.Minute
		if inbox, err := a.mirror.Mailbox(ctx, "INBOX"); err == nil {
			changes, end := inbox.Watch()
			defer end()
			if arrived = changes; inbox.Snapshot().Version != a.publisher.version {
				return // it changed since it was looked through
			}
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-a.publisher.wake:
	case <-arrived:
	case <-timer.C:
	}
}

// tendPublications does once what is to do now. pending says that a Web Key Service may still ask.
func (a *Account) tendPublications(ctx context.Context) (pending bool, err error) {
	a.publisher.working.Lock()
	defer a.publisher.working.Unlock()
	all, err := a.publications().of(ctx, a.Address())
	if err != nil {
		return false, err
	}
	var errs []error
	if slices.ContainsFunc(all, (*publication).pending) {
		errs = append(errs, a.answerServices(ctx, all))
	}
	for _, p := range all {
		errs = append(errs, a.tend(ctx, p))
		pending = pending || p.pending()
	}
	return pending, errors.Join(errs...)
}

// tend does what is to do about one publication.
func (a *Account) tend(ctx context.Context, p *publication) error {
	certificate, err := a.ring.CertificateOf(p.Fingerprint)
	if errors.Is(err, ErrNoKey) {
		return nil // it was published from here, and the key has gone
	}
	if err != nil {
		return err
	}
	now := a.bridge.now()
	digest, err := digestOf(certificate, p.Address)
	switch {
	case err == nil && !bytes.Equal(digest, p.digest):
		return a.request(ctx, p, certificate)
	case p.Next.IsZero() || now.Before(p.Next):
		return nil
	case p.State == PublicationFailed:
		return a.request(ctx, p, certificate)
	}
	return a.lookFor(ctx, p, certificate)
}

// lookFor sees whether others find the certificate now, and gives up after some days.
func (a *Account) lookFor(ctx context.Context, p *publication, certificate *keydisc.Certificate) error {
	found, err := a.isPublished(ctx, p, certificate)
	now := a.bridge.now()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && found:
		p.enter(PublicationPublished, "", now)
		return a.note(ctx, p)
	case now.Sub(p.Changed) >= publicationPatience:
		p.enter(PublicationFailed, p.givenUp(a.bridge.finder.VKSHost()), now)
		return a.note(ctx, p)
	}
	p.again(now, 0)
	return a.publications().save(ctx, p)
}

func (a *Account) isPublished(ctx context.Context, p *publication, certificate *keydisc.Certificate) (bool, error) {
	if p.Place == PlaceVKS {
		return a.bridge.finder.Verified(ctx, p.Fingerprint, p.Address)
	}
	there, err := a.bridge.finder.InDirectory(ctx, p.Fingerprint, p.Address)
	return there != nil && there.Has(certificate), err
}

// givenUp is why nothing more is waited for.
func (p *publication) givenUp(host string) string {
	const again = "; ask for it again with sealpost key publish"
	switch {
	case p.Place == PlaceVKS:
		return "the link in the mail from " + host + " was not opened in time" + again
	case p.State == PublicationConfirmed:
		return "the Web Key Directory does not show it, although " + p.service + " was answered" + again
	case p.Reason != "":
		return p.Reason + again
	}
	return p.service + " has not asked for a confirmation" + again
}
