package bridge

import (
	"fmt"
	"slices"
	"strings"
)

// Decision about one recipient of one message. The zero value refuses.
type Decision int

const (
	Refuse Decision = iota
	Encrypt
	Cleartext
)

// String is the decision as users and the log see it.
func (d Decision) String() string {
	switch d {
	case Encrypt:
		return "encrypt"
	case Cleartext:
		return "clear"
	}
	return "refuse"
}

// Mode is what the policy wants for a recipient. The zero value is the strictest.
type Mode string

const (
	Require Mode = "require" // encrypt or refuse
	Prefer  Mode = "prefer"  // encrypt if the recipient can read it
	Never   Mode = "never"   // send clear
)

// Rule gives the mode for recipients that match: an address, "*@domain", a bare domain
// (both mean that domain alone), or "*". International domains match in either spelling.
type Rule struct {
	Match   string
	From    string // only for mail from senders that match; "" is "*"
	Encrypt Mode
	Fixed   bool   // no sender can loosen it for one message; a rule that requires is fixed anyway
	Name    string // in the log; "": its place in the list
}

// Policy is the configuration's [policy] table. The zero value requires encryption.
type Policy struct {
	Default    Mode
	Level      string // that the default is from; "": the configuration's [policy]
	Fixed      bool   // no sender can loosen the default for one message
	AllowSplit bool   // mixed = "split": some recipients encrypted, the rest clear
	Rules      []Rule
	// And is another policy that is in force, too: the stricter word counts.
	And *Policy
	// Tags at the beginning or the end of a subject, by which a sender says the same as with X-Sealpost-Policy;
	// "" is none.
	TagRequire, TagClear string
}

// Force is a sender's wish for one message (X-Sealpost-Policy).
type Force string

const (
	ForceNothing Force = ""
	ForceRequire Force = "require"
	ForceClear   Force = "clear"
)

// MessageFacts are what the decision needs to know of the message.
type MessageFacts struct {
	From string // the address in From
	// Authors are all that a gateway's message names in From, or may name if it cannot be read.
	Authors []string
	// Envelope is the envelope's sender, normalised; "": nobody, or not known.
	Envelope string
	Device   string // the lane it comes through; "": a mail program
	Force    Force
	// RepliesToEncrypted: it answers a message that reached us end-to-end encrypted, and
	// so is taken to quote it (RFC 9787 §6.3).
	RepliesToEncrypted bool
	// Ciphertext: the mail program has encrypted it already.
	Ciphertext bool
	// What a gateway sees besides users' mail. Foreign: the author is nobody of ours (forwarded mail, a list's). Report: an
	// MTA's own report, in which nothing of a decrypted message is left. Bulk: of a list; nobody was asked for certificates.
	Foreign, Report, Bulk bool
}

// RecipientFacts are what the decision needs to know of a recipient. The zero value
// knows nothing and is refused.
type RecipientFacts struct {
	Address    string
	Blocked    bool   // by the user: nothing goes there
	Usable     bool   // a certificate that may be encrypted to now
	Problem    Reason // why a known certificate may not be used; "" if none is known
	ProblemTxt string // the same in words
	Ever       bool   // had a certificate at some time
	Conclusive bool   // every lookup gave a definite answer
	Inside     bool   // of the gateway's own domains: the message does not leave the company
}

// Verdict is the decision for one recipient, with the rule or reason that led to it.
type Verdict struct {
	Address  string
	Decision Decision
	Rule     string // name of the rule that decided
	Reason   Reason // why refused; "" otherwise
	Text     string // the reason in words, with the way out; safe to show
}

// The rules that a gateway adds to those of the configuration.
const (
	ruleInside  = "inside"
	ruleForeign = "author elsewhere"
	ruleReport  = "delivery report"
	ruleBulk    = "bulk mail"
)

// Decide is the whole policy, a pure function: it says for each recipient what happens to
// the message. If any recipient is refused nothing may be sent to anybody.
func (p Policy) Decide(m MessageFacts, recipients []RecipientFacts) []Verdict {
	verdicts := make([]Verdict, len(recipients))
	for i, r := range recipients {
		verdicts[i] = p.decideOne(m, r)
	}
	if !p.AllowSplit {
		refuseMixture(verdicts)
	}
	return verdicts
}

func (p Policy) decideOne(m MessageFacts, r RecipientFacts) Verdict {
	mode, rule := p.modeFor(m, r.Address)
	v := Verdict{Address: r.Address, Rule: rule}
	switch {
	case r.Blocked:
		return refuse(v, ReasonPolicy, "you have blocked this address. To write to it again: sealpost contact block --off "+r.Address)
	case m.Ciphertext:
		v.Decision, v.Rule = Encrypt, "encrypted by the mail program"
	case r.Inside && !p.speaksOf(m, r.Address):
		v.Decision, v.Rule = Cleartext, ruleInside
	case m.Report && mode != Require:
		v.Decision, v.Rule = Cleartext, ruleReport
	case mode == Never:
		return clearUnlessReply(v, m)
	case m.passes(mode):
		v.Decision, v.Rule = Cleartext, ruleForeign
	case r.Usable:
		v.Decision = Encrypt
	case r.Problem != "":
		return refuse(v, r.Problem, r.ProblemTxt)
	case mode != Prefer:
		return refuseUnfound(v, r)
	case !r.Conclusive:
		return refuse(v, ReasonLookup, "it could not be found out whether this address has an OpenPGP certificate. Try again later, or import the certificate (sealpost contact import)")
	case r.Ever:
		return refuse(v, ReasonCertificate, "this address had a certificate before and none can be found now; mail to it is not sent clear. Import a certificate (sealpost contact import), or send this one message with the header X-Sealpost-Policy: clear")
	case m.Bulk:
		v.Rule = ruleBulk
		return clearUnlessReply(v, m)
	default:
		return clearUnlessReply(v, m)
	}
	return v
}

// passes says whether a message goes as it is because its author is nobody of ours.
func (m MessageFacts) passes(mode Mode) bool {
	return m.Foreign && mode == Prefer && !m.RepliesToEncrypted
}

// speaksOf says whether a rule of the configuration is about an address.
func (p Policy) speaksOf(m MessageFacts, address string) bool {
	if p.And != nil && p.And.speaksOf(m, address) {
		return true
	}
	return slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.covers(m, address) })
}

func (r Rule) covers(m MessageFacts, address string) bool {
	return matches(r.Match, address) && (r.From == "" || matches(r.From, m.From) || r.Encrypt == Require && r.bindsOneOf(m.Authors))
}

// bindsOneOf says whether a rule is about one of several authors.
func (r Rule) bindsOneOf(authors []string) bool {
	return slices.ContainsFunc(authors, func(author string) bool { return matches(r.From, author) })
}

// modeFor finds the mode in force: the first matching rule, else the default; the sender's
// wish may tighten either, and loosen what is not fixed.
func (p Policy) modeFor(m MessageFacts, address string) (Mode, string) {
	mode, rule := p.ownMode(m, address)
	if p.And != nil {
		if other, why := p.And.modeFor(m, address); strictness(other) > strictness(mode) {
			return other, why
		}
	}
	return mode, rule
}

func (p Policy) ownMode(m MessageFacts, address string) (Mode, string) {
	if m.Device != "" { // nobody reads what a device says about it, and nobody is there to decide
		return Require, "device " + m.Device
	}
	mode, rule, fixed := p.Default, p.defaultName(), p.Fixed
	for i, r := range p.Rules {
		if r.covers(m, address) {
			mode, rule = r.Encrypt, r.nameAt(i)
			fixed = r.Fixed || mode == Require
			break
		}
	}
	switch {
	case m.Force == ForceRequire:
		return Require, "sender: X-Sealpost-Policy require"
	case m.Force == ForceClear && !fixed:
		return Never, "sender: X-Sealpost-Policy clear"
	}
	return mode, rule
}

func (p Policy) defaultName() string {
	if p.Level != "" {
		return p.Level + ": default " + string(p.Default)
	}
	return "default " + string(p.Default)
}

func (r Rule) nameAt(i int) string {
	name := r.Name
	if name == "" {
		name = fmt.Sprintf("rule %d", i+1)
	}
	return fmt.Sprintf("%s: %s %s", name, r.Match, r.Encrypt)
}

// matches says whether an address is what a rule's pattern means.
func matches(pattern, address string) bool {
	if pattern == "*" {
		return true
	}
	match, address := pattern, normalized(address)
	if !strings.Contains(match, "@") {
		match = "*@" + match
	}
	match = normalized(match)
	if domain, all := strings.CutPrefix(match, "*@"); all {
		return strings.HasSuffix(address, "@"+domain)
	}
	return match == address
}

func clearUnlessReply(v Verdict, m MessageFacts) Verdict {
	if m.RepliesToEncrypted {
		return refuse(v, ReasonPolicy, "this answers an encrypted message and would quote it in clear. Import the recipient's certificate (sealpost contact import), or write a new message")
	}
	v.Decision = Cleartext
	return v
}

// refuseUnfound: encryption is required and there is nothing to encrypt to. Whether that is certain makes
// no difference to what the user has to do.
func refuseUnfound(v Verdict, r RecipientFacts) Verdict {
	text := "no OpenPGP certificate is known for this address and encryption is required. Ask for the certificate and import it (sealpost contact import), or change the policy"
	if !r.Conclusive {
		text = "no OpenPGP certificate could be found for this address (not every place answered) and encryption is required. Try again later, or ask for the certificate and import it (sealpost contact import)"
	}
	return refuse(v, ReasonNoCertificate, text)
}

func refuse(v Verdict, reason Reason, text string) Verdict {
	v.Decision, v.Reason, v.Text = Refuse, reason, text
	return v
}

// refuseMixture answers mixed = "refuse": all recipients encrypted or none (RFC 9787 §7.1).
func refuseMixture(verdicts []Verdict) {
	if !Mixed(verdicts) {
		return
	}
	for i, v := range verdicts {
		if v.Decision == Cleartext && v.Rule != ruleInside {
			verdicts[i] = refuse(v, ReasonPolicy, "this address has no OpenPGP certificate but others of this message do, and the policy forbids sending it partly in clear (mixed = \"refuse\"). Send separate messages, or import the certificate")
		}
	}
}

// Mixed says whether some recipients get ciphertext and others get clear text. What stays inside the company is neither.
func Mixed(verdicts []Verdict) bool {
	var encrypted, clear bool
	for _, v := range verdicts {
		encrypted = encrypted || v.Decision == Encrypt
		clear = clear || v.Decision == Cleartext && v.Rule != ruleInside
	}
	return encrypted && clear
}

// Overall is the message's decision: refuse if anybody is refused, clear if anybody gets
// clear text, else encrypt. No recipients: refuse.
func Overall(verdicts []Verdict) Decision {
	overall := Refuse
	for _, v := range verdicts {
		switch {
		case v.Decision == Refuse:
			return Refuse
		case v.Decision == Cleartext || overall == Cleartext:
			overall = Cleartext
		default:
			overall = Encrypt
		}
	}
	return overall
}
