package imapd

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// next reads the client's next line or command and either answers it or makes it ready for the
// library.
func (g *gate) next() error {
	g.expectCommand()
	if g.idling {
		return g.endIdle()
	}
	if _, err := g.in.Peek(1); err != nil {
		return err
	}
	g.expectProgress()
	c := &command{gate: g}
	err := c.read()
	var refusal refused
	switch {
	case errors.As(err, &refusal):
		return g.refuse(c, string(refusal))
	case err != nil:
		return err
	}
	g.mu.Lock()
	g.tag, g.name = c.tag, c.name
	g.mu.Unlock()
	return g.dispatch(c)
}

// endIdle passes on the line that ends an IDLE (RFC 2177 §3). Anything but DONE makes the
// library answer BAD.
func (g *gate) endIdle() error {
	line, err := g.readLine(maxLiteral)
	if err != nil {
		return err
	}
	g.idling = false
	g.ready = []byte("NOT DONE\r\n")
	if strings.EqualFold(strings.TrimSpace(line), "DONE") {
		g.ready = []byte("DONE\r\n")
	}
	return nil
}

// refuse answers a command that the library does not get to see.
func (g *gate) refuse(c *command, answer string) error {
	tag := c.tag
	if tag == "" {
		tag = "*"
	}
	if g.bad++; g.bad > maxBadCommands {
		return g.bye("Too many bad commands")
	}
	return g.say(tag + " " + answer)
}

// dispatch answers what is the gate's own business and passes the rest on.
func (g *gate) dispatch(c *command) error {
	switch c.name {
	case "CAPABILITY":
		g.mu.Lock()
		caps := g.capabilities()
		g.mu.Unlock()
		return g.say("* CAPABILITY "+caps, c.tag+" OK CAPABILITY completed")
	case "ID": // RFC 2971
		return g.say(`* ID ("name" "Sealpost")`, c.tag+" OK ID completed")
	case "STARTTLS":
		return g.upgrade(c)
	case "LOGIN", "AUTHENTICATE":
		return g.authenticate(c)
	case "APPEND":
		return g.append(c)
	case "IDLE":
		g.idling = g.authenticated.Load() && c.args == ""
	}
	if v, ok := verbs[c.name]; ok {
		return g.answer(v, c)
	}
	if mailboxCommands[c.name] && !modifiedUTF7.MatchString(c.args) {
		return g.refuseName(c)
	}
	return g.pass(strings.TrimSuffix(c.text, c.args) + quoteAtoms(c.args))
}

// quoteAtoms quotes what may be in a mailbox name (RFC 9051 §9, ASTRING-CHAR) and what the library
// does not take for part of one.
func quoteAtoms(args string) string {
	if !strings.ContainsAny(args, "]}") {
		return args
	}
	var out strings.Builder
	for a := (&arguments{args}); !a.empty(); {
		switch c := a.next(); {
		case c == '"':
			s, err := a.quoted()
			if err != nil {
				return args
			}
			out.WriteString(quoted(s))
		case c == ' ', c == '(', c == ')', c == '{':
			a.skip(c)
			out.WriteByte(c)
		default:
			atom := a.until(` ()"`)
			if strings.ContainsAny(atom, "]}") && !strings.ContainsAny(atom, `\{`) {
				atom = quoted(atom)
			}
			out.WriteString(atom)
		}
	}
	return out.String()
}

func (g *gate) pass(text string) error {
	g.ready = []byte(text + "\r\n")
	return nil
}

// upgrade is STARTTLS (RFC 9051 §6.2.1). What the client sent in the clear after the command
// may come from somebody else: it ends the connection.
func (g *gate) upgrade(c *command) error {
	g.mu.Lock()
	secure := g.secure
	g.mu.Unlock()
	switch {
	case secure || g.server.options.TLS == nil || g.authenticated.Load():
		return g.refuse(c, "BAD STARTTLS is not available")
	case g.in.Buffered() > 0:
		return g.bye("Data after STARTTLS")
	}
	if err := g.say(c.tag + " OK Begin TLS negotiation"); err != nil {
		return err
	}
	g.startTLS()
	return nil
}

// authenticate counts attempts, keeps passwords off clear connections, and brings
// AUTHENTICATE into the form with an initial response (RFC 4959), which is one line.
func (g *gate) authenticate(c *command) error {
	if g.authenticated.Load() {
		return g.refuse(c, "BAD Already logged in")
	}
	g.mu.Lock()
	allowed := g.mayLogin()
	g.mu.Unlock()
	if !allowed {
		return g.refuse(c, "NO [PRIVACYREQUIRED] Use STARTTLS before logging in")
	}
	if g.attempts++; g.attempts > maxLoginAttempts {
		return g.bye("Too many failed logins")
	}
	if c.name == "LOGIN" {
		return g.pass(c.text)
	}
	mechanism, response, has := strings.Cut(c.args, " ")
	if !strings.EqualFold(mechanism, "PLAIN") {
		return g.refuse(c, "NO [CANNOT] The mechanism must be PLAIN")
	}
	if !has {
		if err := g.say("+ "); err != nil {
			return err
		}
		g.expectProgress()
		line, err := g.readLine(maxLiteral)
		if err != nil {
			return err
		}
		response = strings.TrimSpace(line)
	}
	if decoded, err := base64.StdEncoding.DecodeString(response); err != nil || len(decoded) == 0 {
		return g.refuse(c, "BAD AUTHENTICATE cancelled or malformed")
	}
	return g.pass(c.tag + " AUTHENTICATE PLAIN " + response)
}

// append accepts or refuses the message of an APPEND before the library sees the command.
func (g *gate) append(c *command) error {
	switch {
	case c.message < 0:
		return g.refuse(c, "BAD APPEND needs a message")
	case !g.authenticated.Load():
		return g.refuseMessage(c, "BAD Log in first")
	case c.message > g.limit.Load():
		return g.refuseMessage(c, fmt.Sprintf("NO [TOOBIG] The message is larger than the %d bytes the provider accepts once encrypted", g.limit.Load()))
	case c.message == 0:
		return g.refuseMessage(c, "NO [CANNOT] The message is empty") // RFC 9051 §6.3.12: a literal of zero cancels
	}
	if c.sync {
		if err := g.say("+ Ready for the message"); err != nil {
			return err
		}
	}
	g.message = c.message
	return g.pass(fmt.Sprintf("%s{%d+}", c.text, c.message))
}

// refuseMessage refuses an APPEND; a message that comes without being asked for is read to
// its end, so that it is never taken for commands.
func (g *gate) refuseMessage(c *command, answer string) error {
	if !c.sync {
		if c.message > maxDrain {
			return g.bye("The message is far too large")
		}
		if err := g.drain(c.message); err != nil {
			return err
		}
		if _, err := g.readLine(maxLiteral); err != nil {
			return err
		}
	}
	return g.refuse(c, answer)
}

// drain reads n bytes and forgets them.
func (g *gate) drain(n int64) error {
	for n > 0 {
		g.expectProgress()
		m, err := g.in.Discard(int(min(n, 64<<10)))
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// readLine reads a line of at most limit bytes, without its end.
func (g *gate) readLine(limit int) (string, error) {
	var line []byte
	for {
		piece, err := g.in.ReadSlice('\n')
		if line = append(line, piece...); len(line) > limit {
			return "", g.bye("Line too long")
		}
		if err == nil {
			line = line[:len(line)-1]
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			return string(line), nil
		}
		if len(piece) == 0 || g.in.Buffered() > 0 {
			return "", err
		}
		g.expectProgress()
	}
}

// refused is the answer to a command that cannot be passed on.
type refused string

func (r refused) Error() string { return string(r) }

// command is one command as the library gets it.
type command struct {
	gate    *gate
	text    string // the whole command on one line; with a message: up to its literal
	tag     string
	name    string
	args    string
	message int64 // bytes of an APPEND's message, -1 if there is none
	sync    bool  // the client waits to be asked for it
}

// read reads a command with its literals (RFC 9051 §4.3).
func (c *command) read() error {
	c.message = -1
	for {
		line, err := c.gate.readLine(maxCommand)
		if err != nil {
			return err
		}
		text, size, sync, literal := cutLiteral(line)
		if len(c.text)+len(text) > maxCommand {
			return c.gate.bye("Command too long")
		}
		c.text += text
		err = c.parse()
		switch {
		case err != nil && literal && !sync:
			return c.gate.bye("Malformed command") // what follows is not worth reading
		case err != nil:
			return err
		case !literal && inQuotes(line):
			return refused("BAD A quoted string is not closed")
		case !literal:
			return nil
		}
		if c.name == "APPEND" && strings.TrimSpace(c.args) != "" {
			c.message, c.sync = size, sync
			return nil
		}
		if err := c.readLiteral(size, sync); err != nil {
			return err
		}
	}
}

// parse takes tag, name and arguments from what has been read of the command.
func (c *command) parse() error {
	tag, rest, _ := strings.Cut(c.text, " ")
	name, args, _ := strings.Cut(rest, " ")
	if !isTag(tag) || name == "" {
		return refused("BAD A command is a tag, a space and a name")
	}
	c.tag, c.name, c.args = tag, strings.ToUpper(name), args
	if strings.ContainsAny(c.text, "\x00\r") {
		return refused("BAD A command must not contain NUL or CR")
	}
	if c.name == "UID" {
		name, args, _ = strings.Cut(args, " ")
		c.name, c.args = "UID "+strings.ToUpper(name), args
	}
	return nil
}

// isTag checks a tag (RFC 9051 §9).
func isTag(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`(){%*"\+`, s[i]) >= 0 {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// readLiteral reads a literal that is an argument and adds it as a quoted string.
func (c *command) readLiteral(size int64, sync bool) error {
	switch {
	case size > maxLiteral && sync:
		return refused("NO [TOOBIG] Literals are limited to 4096 bytes for this command")
	case size > maxDrain:
		return c.gate.bye("Literal far too long")
	case size > maxLiteral:
		return c.skip(size)
	case sync:
		if err := c.gate.say("+ Go ahead"); err != nil {
			return err
		}
	}
	literal := make([]byte, size)
	c.gate.expectProgress()
	if _, err := io.ReadFull(c.gate.in, literal); err != nil {
		return err
	}
	if strings.ContainsAny(string(literal), "\x00\r\n") {
		return c.skip(0)
	}
	c.text += quoted(string(literal))
	c.gate.expectProgress()
	return nil
}

// skip reads the rest of a command that is refused, its literals included.
func (c *command) skip(size int64) error {
	if err := c.gate.drain(size); err != nil {
		return err
	}
	line, err := c.gate.readLine(maxCommand)
	if err != nil {
		return err
	}
	if _, size, sync, literal := cutLiteral(line); literal && !sync {
		if size > maxDrain {
			return c.gate.bye("Literal far too long")
		}
		return c.skip(size)
	}
	return refused("NO [TOOBIG] Literals are limited to 4096 bytes on one line for this command")
}

// cutLiteral takes the literal's announcement off the end of a line: {n}, {n+} or {n-}
// (RFC 9051 §4.3, RFC 7888).
func cutLiteral(line string) (text string, size int64, sync, ok bool) {
	start := strings.LastIndexByte(line, '{')
	if start < 0 || !strings.HasSuffix(line, "}") || inQuotes(line) {
		return line, 0, false, false
	}
	digits := line[start+1 : len(line)-1]
	sync = true
	if n := len(digits); n > 0 && (digits[n-1] == '+' || digits[n-1] == '-') {
		digits, sync = digits[:n-1], false
	}
	number, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return line, 0, false, false
	}
	return line[:start], int64(number), sync, true
}

// inQuotes says whether a quoted string is open at the end of the line.
func inQuotes(line string) bool {
	open := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '"':
			open = !open
		case line[i] == '\\' && open:
			i++
		}
	}
	return open
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
