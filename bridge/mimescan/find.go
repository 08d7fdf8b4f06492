package mimescan

// Find is the part with that section number in the message p (RFC 9051 §6.4.5.1), nil if there is
// none; without numbers it is p itself. The only part of a message that is not multipart has the
// number 1: Find then returns the message's own Part, whose Body it is. Where it returns a
// message/rfc822, its Message is what HEADER and TEXT of that section mean.
func (p *Part) Find(path []int) *Part {
	message := true // p stands for a message, not for a numbered part
	for _, n := range path {
		if !message && p.Message != nil {
			p, message = p.Message, true
		}
		switch {
		case n >= 1 && n <= len(p.Children):
			p = p.Children[n-1]
		case !message || n != 1 || len(p.Children) > 0:
			return nil
		}
		message = false
	}
	return p
}
