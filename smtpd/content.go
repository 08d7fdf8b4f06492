package smtpd

import "bytes"

// contentLines repairs one thing of a message before the library reads it: after CR CR LF the library does not know that a line
// begins, and so overlooks the end of the message and the dots behind (RFC 5321 §4.5.2). Some cameras write every line so, and a
// message whose last line ends with CR gets there, too: a client would wait for its time limit and send again. The first CR, which counts as an end of line by
// itself, becomes CRLF. Nothing but CRLF.CRLF ends a message.
type contentLines struct {
	begun bool   // within a line that is too long to be read at once
	after bool   // the line before ended with LF alone
	held  []byte // CRs at the end of what was passed on of the line
}

// next is what the library shall read for a line, or for the next piece of a long one.
func (c *contentLines) next(line []byte) []byte {
	first := !c.begun
	if len(c.held) > 0 {
		line = append(bytes.Clone(c.held), line...)
		c.held = nil
	}
	c.begun = !bytes.HasSuffix(line, []byte("\n"))
	if c.begun {
		keep := min(2, len(line)-len(bytes.TrimRight(line, "\r")))
		c.held = bytes.Clone(line[len(line)-keep:])
		return line[:len(line)-keep]
	}
	text, doubled := bytes.CutSuffix(line, []byte("\r\r\n"))
	begins := first && !c.after
	c.after = !bytes.HasSuffix(line, []byte("\r\n"))
	switch {
	case !doubled:
		return line
	case begins && string(text) == ".": // with CRLF behind it the dot would end the message
		text = nil
	}
	return append(bytes.Clone(text), "\r\n\r\n"...)
}
