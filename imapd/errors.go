package imapd

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"syscall"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// codeExpungeIssued is of RFC 9051 §7.1; go-imap has no name for it.
const codeExpungeIssued imap.ResponseCode = "EXPUNGEISSUED"

// passedOn are the provider's response codes that mean the same to the client.
var passedOn = map[imap.ResponseCode]bool{
	imap.ResponseCodeAlreadyExists: true, imap.ResponseCodeCannot: true, imap.ResponseCodeHasChildren: true, imap.ResponseCodeInUse: true,
	imap.ResponseCodeLimit: true, imap.ResponseCodeNonExistent: true, imap.ResponseCodeNoPerm: true, imap.ResponseCodeOverQuota: true,
	imap.ResponseCodeTooBig: true, imap.ResponseCodeTryCreate: true, imap.ResponseCodeUnavailable: true, imap.ResponseCodeExpired: true,
	imap.ResponseCodeCorruption: true, imap.ResponseCodeContactAdmin: true, "USEATTR": true, // RFC 6154 §3
}

func no(code imap.ResponseCode, text string) *imap.Error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

func bad(text string) *imap.Error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Text: text}
}

// answer turns an error into what the client may read; the cause goes to the log. missing is
// the code for a mailbox that does not exist: TRYCREATE where the client names a destination
// (RFC 9051 §7.1), else NONEXISTENT.
func answer(log *slog.Logger, err error, missing imap.ResponseCode) error {
	if err == nil {
		return nil
	}
	response := translate(err, missing)
	level := slog.LevelDebug
	if response.Code == imap.ResponseCodeServerBug {
		level = slog.LevelError
	}
	log.Log(context.Background(), level, "imap: command failed", "answer", response.Text, "cause", err)
	return response
}

func translate(err error, missing imap.ResponseCode) *imap.Error {
	var provider *imap.Error
	var refusal *bridge.Refusal
	switch {
	case errors.Is(err, mirror.ErrNotKept) && (errors.Is(err, syscall.ENOSPC) || !errors.Is(err, mirror.ErrOffline)):
		return notKept(err)
	case errors.Is(err, syscall.ENOSPC):
		return no(imap.ResponseCodeUnavailable, "The disk of Sealpost's state folder is full: free some and try again")
	case errors.Is(err, mirror.ErrNoMailbox):
		return no(missing, "There is no such mailbox")
	case errors.Is(err, mirror.ErrExpunged):
		return no(codeExpungeIssued, "Some of the messages no longer exist")
	case errors.Is(err, mirror.ErrOffline), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return no(imap.ResponseCodeUnavailable, "The mail provider cannot be reached; try again later")
	case errors.Is(err, bridge.ErrCredentials):
		return imapserver.ErrAuthFailed
	case errors.Is(err, errUnknownEncoding):
		return no(imap.ResponseCodeUnknownCTE, "The part's transfer encoding is not known")
	case errors.As(err, &refusal):
		return no(refusalCode(refusal), safeText(refusal.Error()))
	case errors.As(err, &provider):
		return fromProvider(provider)
	}
	return no(imap.ResponseCodeServerBug, "Sealpost could not do that; its log says why")
}

// notKept refuses a deletion because of a legal hold whose archive did not take the message.
func notKept(err error) *imap.Error {
	text := "A legal hold stands and what was to be deleted could not be kept first, so nothing was deleted; "
	if errors.Is(err, syscall.ENOSPC) {
		return no(imap.ResponseCodeUnavailable, text+"the disk of Sealpost's state folder is full: free some and try again")
	}
	return no(imap.ResponseCodeUnavailable, text+"try again; Sealpost's log says why")
}

func refusalCode(r *bridge.Refusal) imap.ResponseCode {
	switch r.Reason {
	case bridge.ReasonTooLarge:
		return imap.ResponseCodeTooBig
	case bridge.ReasonUnreachable, bridge.ReasonProvider, bridge.ReasonLocal, bridge.ReasonLookup:
		return imap.ResponseCodeUnavailable
	}
	return imap.ResponseCodeCannot
}

// fromProvider passes on a provider's answer to what the client asked for. Its BAD would be
// ours, not the client's.
func fromProvider(provider *imap.Error) *imap.Error {
	response := no("", "The provider says: "+safeText(provider.Text))
	if passedOn[provider.Code] {
		response.Code = provider.Code
	}
	return response
}

// safeText makes text from elsewhere fit for one response line: go-imap writes it as it is.
func safeText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 400)]
}
