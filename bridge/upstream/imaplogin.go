package upstream

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// credentials of one login. They are never part of an error.
type credentials struct{ username, password string }

// maxHandshakeLines bounds what the server may say in answer to one command of the login.
const maxHandshakeLines = 200

// imapLogin is the part of an IMAP connection that we speak ourselves: greeting, STARTTLS,
// CAPABILITY and the login. go-imap gets the connection afterwards.
type imapLogin struct {
	*wire
	tags int
	caps map[string]bool // upper case; nil: not known
}

// dialIMAP connects and logs in. The capabilities are those after the login.
func dialIMAP(ctx context.Context, at Endpoint, config *tls.Config, timeout time.Duration, who credentials) (*imapLogin, error) {
	w, err := dial(ctx, at, config, timeout)
	if err != nil {
		return nil, err
	}
	l := &imapLogin{wire: w}
	if err := l.run(ctx, config, who); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *imapLogin) run(ctx context.Context, config *tls.Config, who credentials) error {
	if err := l.greeting(); err != nil {
		return failure(ctx, "connect", l.at, err)
	}
	if l.at.Security == "starttls" {
		if err := l.startTLS(ctx, config); err != nil {
			return failure(ctx, "connect", l.at, err)
		}
	}
	if err := l.login(who); err != nil {
		return failure(ctx, "login", l.at, err)
	}
	if err := l.capabilities(); err != nil {
		return failure(ctx, "login", l.at, err)
	}
	l.detach()
	return nil
}

func (l *imapLogin) greeting() error {
	line, err := l.line()
	if err != nil {
		return err
	}
	word, rest, _ := strings.Cut(strings.TrimPrefix(line, "* "), " ")
	switch {
	case !strings.HasPrefix(line, "* "):
		return notSpoken("connect", l.at, line)
	case strings.EqualFold(word, "OK"):
		l.learn(rest)
		return nil
	case strings.EqualFold(word, "BYE"):
		return &Error{Kind: KindTemporary, Host: l.at.Address(), Op: "connect", Reply: oneLine(rest),
			Remedy: "Try again later", Err: errors.New("the server turned us away")}
	case strings.EqualFold(word, "PREAUTH"):
		// RFC 9051 §7.1.4: PREAUTH would keep us from STARTTLS. With TLS it would be
		// a login as somebody the server chose.
		return &Error{Kind: KindProtocol, Host: l.at.Address(), Op: "connect",
			Err:    errors.New("the server claims that we are logged in already (PREAUTH)"),
			Remedy: "Somebody else may be answering; check host, port and network"}
	}
	return notSpoken("connect", l.at, line)
}

// learn takes the capabilities from a response code, if it is one of those.
func (l *imapLogin) learn(text string) {
	if code, _, ok := strings.Cut(text, "]"); ok && len(code) > 12 && strings.EqualFold(code[:12], "[CAPABILITY ") {
		l.setCaps(code[12:])
	}
}

func (l *imapLogin) setCaps(list string) {
	l.caps = map[string]bool{}
	for _, c := range strings.Fields(list) {
		l.caps[strings.ToUpper(c)] = true
	}
}

// command sends a command and reads up to its tagged answer, which it returns without the
// tag. answer, if not nil, is asked for what to send at each continuation request.
func (l *imapLogin) command(line string, answer func(challenge string) (string, error)) (status, text string, err error) {
	l.tags++
	tag := "S" + strconv.Itoa(l.tags)
	if err := l.write(tag + " " + line + "\r\n"); err != nil {
		return "", "", err
	}
	for range maxHandshakeLines {
		got, err := l.line()
		if err != nil {
			return "", "", err
		}
		switch {
		case strings.HasPrefix(got, tag+" "):
			status, text, _ = strings.Cut(got[len(tag)+1:], " ")
			return strings.ToUpper(status), text, nil
		case strings.HasPrefix(got, "* "):
			if err := l.untagged(got[2:]); err != nil {
				return "", "", err
			}
		case strings.HasPrefix(got, "+") && answer != nil:
			send, err := answer(strings.TrimSpace(got[1:]))
			if err != nil {
				return "", "", err
			}
			if err := l.write(send + "\r\n"); err != nil {
				return "", "", err
			}
		default:
			return "", "", notSpoken("login", l.at, got)
		}
	}
	return "", "", &limitError{"the server keeps talking without answering"}
}

func (l *imapLogin) untagged(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(word) {
	case "CAPABILITY":
		l.setCaps(rest)
	case "BYE":
		return &Error{Kind: KindTemporary, Host: l.at.Address(), Op: "login", Reply: oneLine(rest), Remedy: "Try again later",
			Err: errors.New("the server ended the connection")}
	}
	return nil
}

// startTLS secures the connection (RFC 9051 §6.2.1). There is no going on without.
func (l *imapLogin) startTLS(ctx context.Context, config *tls.Config) error {
	if l.caps == nil {
		if err := l.capabilities(); err != nil {
			return err
		}
	}
	if !l.caps["STARTTLS"] {
		return noStartTLS(l.at)
	}
	status, text, err := l.command("STARTTLS", nil)
	if err != nil {
		return err
	}
	if status != "OK" {
		return &Error{Kind: KindTLS, Host: l.at.Address(), Op: "connect", Reply: oneLine(text),
			Err: errors.New("STARTTLS was refused"), Remedy: "Try implicit TLS (imaps://)"}
	}
	// What the server claimed so far anybody may have written.
	l.caps = nil
	return l.secure(ctx, config)
}

func noStartTLS(at Endpoint) error {
	return &Error{Kind: KindTLS, Host: at.Address(), Op: "connect",
		Err:    errors.New("the server offers no STARTTLS on this port"),
		Remedy: fmt.Sprintf("Try implicit TLS (%ss://); if it did offer it before, somebody in between removes it", at.Protocol)}
}

// capabilities asks for them unless the server has volunteered them since they last changed.
func (l *imapLogin) capabilities() error {
	if l.caps != nil {
		return nil
	}
	status, text, err := l.command("CAPABILITY", nil)
	if err != nil {
		return err
	}
	if status != "OK" || l.caps == nil {
		return notSpoken("connect", l.at, text)
	}
	return nil
}

// login uses AUTHENTICATE PLAIN (RFC 4616) where offered, else LOGIN.
func (l *imapLogin) login(who credentials) error {
	if err := l.capabilities(); err != nil {
		return err
	}
	if strings.ContainsAny(who.username+who.password, "\x00\r\n") {
		return &Error{Kind: KindAuth, Host: l.at.Address(), Op: "login",
			Err: errors.New("user name or password holds a control character"), Remedy: "Store the password again"}
	}
	plain, initial := l.caps["AUTH=PLAIN"], l.caps["SASL-IR"]
	if !plain && l.caps["LOGINDISABLED"] {
		return &Error{Kind: KindAuth, Host: l.at.Address(), Op: "login",
			Err: errors.New("the server offers no login with a password here"), Remedy: "Use TLS, or OAuth 2.0 if the provider requires it"}
	}
	l.caps = nil
	var status, text string
	var err error
	if plain {
		status, text, err = l.authenticatePlain(who, initial)
	} else {
		status, text, err = l.plainLogin(who)
	}
	if err != nil {
		return err
	}
	if status != "OK" {
		return l.refused(status, text)
	}
	l.learn(text)
	return nil
}

func (l *imapLogin) authenticatePlain(who credentials, initial bool) (status, text string, err error) {
	response := base64.StdEncoding.EncodeToString([]byte("\x00" + who.username + "\x00" + who.password))
	if initial { // RFC 4959
		return l.command("AUTHENTICATE PLAIN "+response, nil)
	}
	sent := false
	return l.command("AUTHENTICATE PLAIN", func(string) (string, error) {
		if sent {
			return "*", nil // RFC 9051 §6.2.2: cancels
		}
		sent = true
		return response, nil
	})
}

// plainLogin sends both arguments as literals where quoted strings cannot hold them.
func (l *imapLogin) plainLogin(who credentials) (status, text string, err error) {
	user, userRest := astring(who.username)
	password, passwordRest := astring(who.password)
	line := "LOGIN " + user
	var pending []string
	if userRest != "" {
		pending = append(pending, userRest+" "+password)
	} else {
		line += " " + password
	}
	if passwordRest != "" {
		pending = append(pending, passwordRest)
	}
	return l.command(line, func(string) (string, error) {
		if len(pending) == 0 {
			return "", &limitError{"the server asks for more than a user name and a password"}
		}
		next := pending[0]
		pending = pending[1:]
		return next, nil
	})
}

// astring is a quoted string, or the head of a synchronising literal and its content.
func astring(s string) (head, content string) {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return "{" + strconv.Itoa(len(s)) + "}", s
		}
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`, ""
}

// refused tells a wrong password from a server that is merely busy (RFC 5530 §3).
func (l *imapLogin) refused(status, text string) error {
	e := &Error{Kind: KindAuth, Host: l.at.Address(), Op: "login", Reply: oneLine(text), Remedy: remedyPassword}
	code := strings.ToUpper(text)
	switch {
	case status == "BAD":
		e.Kind, e.Remedy = KindProtocol, "Check host and port"
	case strings.HasPrefix(code, "[UNAVAILABLE]"), strings.HasPrefix(code, "[INUSE]"), strings.HasPrefix(code, "[LIMIT]"),
		strings.HasPrefix(code, "[SERVERBUG]"), strings.Contains(code, "TOO MANY"):
		e.Kind, e.Remedy = KindTemporary, "Try again later"
	}
	return e
}

const remedyPassword = "Check user name and password; some providers want an app password"
