package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
)

// Kind of a failure, for replies and remedies.
type Kind string

const (
	KindUnreachable Kind = "unreachable" // no route, refused, time-out, connection lost
	KindTLS         Kind = "tls"         // certificate expired, wrong name, unknown authority, no STARTTLS
	KindAuth        Kind = "auth"        // wrong user name or password
	KindRejected    Kind = "rejected"    // the server answered NO / 5xx
	KindTemporary   Kind = "temporary"   // 4xx
	KindProtocol    Kind = "protocol"    // it speaks no proper IMAP or SMTP, or exceeds a limit
)

// Error is a failure at the provider. Error() says what, with which host, and what to do.
type Error struct {
	Kind   Kind
	Host   string
	Op     string // "connect", "login", "select", "submit", …
	Code   int    // SMTP reply code, 0 otherwise
	Reply  string // the server's text, one line, control characters removed
	Remedy string // one sentence
	Err    error
}

func (e *Error) Error() string {
	s := e.Host + ": " + e.Op + " failed"
	if e.Err != nil && !repeats(e.Err) {
		s += ": " + oneLine(e.Err.Error())
	}
	if e.Reply != "" {
		s += ": the server says: "
		if e.Code != 0 {
			s += fmt.Sprintf("%d ", e.Code)
		}
		s += e.Reply
	}
	if e.Remedy != "" {
		s = strings.TrimRight(s, ".") + ". " + e.Remedy
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// repeats says whether an error is the libraries' form of the reply.
func repeats(err error) bool {
	var viaIMAP *imap.Error
	var viaSMTP *smtp.SMTPError
	return errors.As(err, &viaIMAP) || errors.As(err, &viaSMTP)
}

// RecipientError: the provider refused these recipients before anything was sent.
type RecipientError struct {
	Replies map[string]*Error // by address
}

func (e *RecipientError) Error() string {
	var parts []string
	for address, reply := range e.Replies {
		parts = append(parts, address+": "+reply.Error())
	}
	slices.Sort(parts)
	return "the provider refuses recipients, nothing was sent: " + strings.Join(parts, "; ")
}

// PartialError: these recipients were refused, and the other ones of the transaction have the message.
type PartialError struct {
	Replies map[string]*Error // by address
}

func (e *PartialError) Error() string {
	return "some recipients were refused: " + (&RecipientError{e.Replies}).Error()
}

// ErrClosed is the cause of errors after Close.
var ErrClosed = errors.New("the provider was closed")

// maxReply bounds what of a server's text is kept, in bytes.
const maxReply = 500

// oneLine makes a server's text fit for a log or a terminal: one bounded line, no control
// characters.
func oneLine(s string) string {
	if len(s) > maxReply {
		s = s[:maxReply] + "…"
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.Join(strings.Fields(s), " ")
}

// failure turns the error of a connection attempt or of a broken connection into an *Error
// with a remedy. An *Error passes unchanged.
func failure(ctx context.Context, op string, at Endpoint, err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	if ctx.Err() != nil {
		// The caller's time-out or hanging up closes the connection, and the I/O
		// error that follows only hides that.
		err = context.Cause(ctx)
	}
	e := &Error{Kind: KindUnreachable, Host: at.Address(), Op: op, Err: err}
	if explain := explainTLS(at, err); explain != nil {
		e.Kind, e.Err, e.Remedy = KindTLS, explain.Err, explain.Remedy
		return e
	}
	e.Remedy, e.Err = explainNetwork(at, err)
	var limit *limitError
	if errors.As(err, &limit) {
		e.Kind = KindProtocol
	}
	return e
}

// explained is a cause in the user's words; it unwraps to the original.
type explained struct {
	text  string
	cause error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.cause }

type explanation struct {
	Err    error
	Remedy string
}

func explainTLS(at Endpoint, err error) *explanation {
	var (
		invalid   x509.CertificateInvalidError
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		verify    *tls.CertificateVerificationError
	)
	say := func(text, remedy string) *explanation {
		return &explanation{Err: &explained{text, err}, Remedy: remedy}
	}
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return say(expiry(invalid.Cert), "Check this computer's clock; if it is right, the provider must renew its certificate")
	case errors.As(err, &name):
		return say(fmt.Sprintf("its certificate is for %s, not for %s", names(name.Certificate), at.Host),
			"Use the host name the provider documents; if it is this one, somebody else may be answering")
	case errors.As(err, &authority):
		return say("its certificate is signed by an authority this computer does not know",
			"If it is the provider's own authority, set ca_file to its certificate")
	case errors.As(err, &verify), errors.As(err, &invalid):
		return say("its certificate is not valid: "+oneLine(err.Error()), "Ask the provider")
	case errors.As(err, &record):
		return say("it does not speak TLS on this port", wrongSecurity(at))
	case errors.As(err, &alert), strings.Contains(err.Error(), "tls: "):
		return say("no secure connection could be agreed on: "+oneLine(err.Error()),
			"The server must offer TLS 1.2 or newer")
	}
	return nil
}

func expiry(cert *x509.Certificate) string {
	if cert == nil {
		return "its certificate has expired or is not valid yet"
	}
	if time.Now().Before(cert.NotBefore) {
		return "its certificate is not valid before " + cert.NotBefore.UTC().Format(time.DateTime) + " UTC"
	}
	return "its certificate expired on " + cert.NotAfter.UTC().Format(time.DateTime) + " UTC"
}

// names lists whom a certificate is for, briefly.
func names(cert *x509.Certificate) string {
	all := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no host name"
	}
	if len(all) > 4 {
		all = append(all[:4], "…")
	}
	return oneLine(strings.Join(all, ", "))
}

func wrongSecurity(at Endpoint) string {
	if at.Security == "tls" {
		return fmt.Sprintf("Check the port, or use %s+starttls://", at.Protocol)
	}
	return "Check the port"
}

func explainNetwork(at Endpoint, err error) (remedy string, explanation error) {
	var (
		dns     *net.DNSError
		timeout interface{ Timeout() bool }
	)
	say := func(text string) error { return &explained{text, err} }
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrClosed):
		return "", err
	case errors.As(err, &dns) && dns.IsNotFound:
		return "Check the host name's spelling, and the network", say("no such host " + at.Host)
	case errors.As(err, &dns):
		return "Check the network connection", say("the name " + at.Host + " could not be looked up")
	case errors.Is(err, syscall.ECONNREFUSED):
		return "Check host and port; the server may be down", say("connection refused")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "Check the network connection", say("no route to it")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return "Check the network connection, a firewall, and the port", say("it did not answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "Try again later; check the port if it goes on", say("it closed the connection")
	}
	return "", err
}

// notSpoken is the error for a server that answers something else than the protocol.
func notSpoken(op string, at Endpoint, line string) *Error {
	return &Error{
		Kind: KindProtocol, Host: at.Address(), Op: op, Reply: oneLine(line),
		Err:    fmt.Errorf("this is no %s server", strings.ToUpper(at.Protocol)),
		Remedy: "Check host and port",
	}
}

// limitError says that the server exceeded a limit of ours or broke the protocol's framing.
type limitError struct{ text string }

func (e *limitError) Error() string { return e.text }
