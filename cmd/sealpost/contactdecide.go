package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/keydisc"
)

// decision is what the user decides about a contact.
type decision struct {
	Address, Account string
	What             string // accept, keep, block, unblock, forget, or verify
	Number           string // for verify: a safety number, or the content of its QR code
	Fingerprint      string // for verify: a fingerprint instead
}

// decided is what became of it.
type decided struct {
	Contact  contactInfo
	Mismatch string // why nothing was recorded: what was compared is not the same
}

var contactDecideOperation = operation[decision, decided]{"contact-decide", false, func(ctx context.Context, s *service, d decision, _ bridge.Progress) (decided, error) {
	c, err := d.apply(ctx, s)
	var other *contacts.OtherCertificateError
	switch {
	case errors.Is(err, bridge.ErrMismatch), errors.As(err, &other):
		return decided{Mismatch: err.Error()}, nil
	case errors.Is(err, contacts.ErrNone):
		err = fmt.Errorf("nothing is known of %s; see sealpost contact find", d.Address)
	}
	return decided{Contact: infoOf(c)}, err
}}

func (d decision) apply(ctx context.Context, s *service) (contacts.Contact, error) {
	switch d.What {
	case "accept":
		return s.bridge.AcceptContact(ctx, d.Address)
	case "keep":
		return s.bridge.KeepContact(ctx, d.Address)
	case "block", "unblock":
		return s.bridge.BlockContact(ctx, d.Address, d.What == "block")
	case "forget":
		return contacts.Contact{Address: d.Address, Trust: contacts.Unknown}, s.bridge.ForgetContact(ctx, d.Address)
	}
	if d.Fingerprint != "" {
		return s.bridge.VerifyContact(ctx, d.Address, keydisc.Fingerprint(d.Fingerprint))
	}
	a, err := s.owner(ctx, d.Account)
	if err != nil {
		return contacts.Contact{}, err
	}
	return a.VerifyByNumber(ctx, d.Address, d.Number)
}

// decide has it done and prints what became of the contact.
func (d decision) decide(ctx context.Context, g *globals, asJSON bool) error {
	if err := checkAddresses(d.Address); err != nil {
		return err
	}
	done, err := call(ctx, g, contactDecideOperation, d)
	if err != nil {
		return err
	}
	if done.Mismatch != "" {
		fmt.Fprintf(g.stderr, "%s: %s; nothing was recorded. Read it again. If it stays so, somebody else's certificate may be known here: sealpost contact block %s\n",
			d.Address, done.Mismatch, d.Address)
		return errAttention
	}
	return printContacts(g, []contactInfo{done.Contact}, asJSON)
}

type contactAcceptCmd struct {
	Address string `arg:"" help:"Mail address."`
	Keep    bool   `help:"Stay with the certificate in use instead, and dismiss the other."`
	JSON    bool   `help:"Print JSON."`
}

func (contactAcceptCmd) Help() string {
	return "Example:\n\n    sealpost contact accept bob@bravo.test\n\nAsk the contact over another channel first; better still, compare: sealpost contact verify."
}

// Run implements the command.
func (c contactAcceptCmd) Run(ctx context.Context, g *globals) error {
	what := map[bool]string{false: "accept", true: "keep"}[c.Keep]
	return decision{Address: c.Address, What: what}.decide(ctx, g, c.JSON)
}

type contactBlockCmd struct {
	Address string `arg:"" help:"Mail address."`
	Off     bool   `help:"Let mail go there again."`
	JSON    bool   `help:"Print JSON."`
}

func (contactBlockCmd) Help() string {
	return "Example:\n\n    sealpost contact block mallory@bravo.test\n\nNothing is sent to a blocked address, neither encrypted nor clear."
}

// Run implements the command.
func (c contactBlockCmd) Run(ctx context.Context, g *globals) error {
	what := map[bool]string{false: "block", true: "unblock"}[c.Off]
	return decision{Address: c.Address, What: what}.decide(ctx, g, c.JSON)
}

type contactForgetCmd struct {
	Address string `arg:"" help:"Mail address."`
	JSON    bool   `help:"Print JSON."`
}

func (contactForgetCmd) Help() string {
	return "Example:\n\n    sealpost contact forget bob@bravo.test\n\nDanger: the address is a stranger's then. That it had a certificate no longer keeps mail to it from going clear."
}

// Run implements the command.
func (c contactForgetCmd) Run(ctx context.Context, g *globals) error {
	return decision{Address: c.Address, What: "forget"}.decide(ctx, g, c.JSON)
}

type contactVerifyCmd struct {
	Address     string `arg:"" help:"Mail address."`
	Account     string `help:"Your account, if there are several." placeholder:"ADDRESS"`
	Number      string `help:"The number the contact sees, or what the QR code on the contact's screen holds." placeholder:"DIGITS"`
	Fingerprint string `help:"The fingerprint the contact gives you, for contacts who use another program." placeholder:"HEX"`
	Answer      string `help:"Without a terminal: whether the numbers are the same." enum:",same,different" default:"" placeholder:"same|different"`
	JSON        bool   `help:"Print JSON."`
}

func (contactVerifyCmd) Help() string {
	return `Example:

    sealpost contact verify bob@bravo.test
    sealpost contact verify bob@bravo.test --number "31415 92653 …"

Shows the safety number, which is the same on both sides. Compare it with the contact over another channel: on
the telephone, or by scanning the QR code. --answer different blocks the contact. Exits with 3 if they differ.`
}

// comparison is what there is to compare.
type comparison struct {
	Number      string `json:"number"`
	QR          string `json:"qr"`
	Fingerprint string `json:"fingerprint"`
	Pending     bool   `json:"pending"`
}

var contactNumbersOperation = operation[decision, []comparison]{"contact-numbers", false, func(ctx context.Context, s *service, d decision, _ bridge.Progress) ([]comparison, error) {
	a, err := s.owner(ctx, d.Account)
	if err != nil {
		return nil, err
	}
	numbers, err := a.SafetyNumbers(ctx, d.Address)
	if errors.Is(err, contacts.ErrNone) {
		err = fmt.Errorf("there is no certificate of %s to compare; see sealpost contact find", d.Address)
	}
	var all []comparison
	for _, n := range numbers {
		all = append(all, comparison{n.Number.String(), n.Number.QR(), string(n.Candidate.Fingerprint()), n.Pending})
	}
	return all, err
}}

// Run implements the command.
func (c contactVerifyCmd) Run(ctx context.Context, g *globals) error {
	if err := checkAddresses(c.Address); err != nil {
		return err
	}
	d := decision{Address: c.Address, Account: c.Account, What: "verify", Number: c.Number,
		Fingerprint: strings.ToUpper(strings.Join(strings.Fields(c.Fingerprint), ""))}
	if d.Number != "" || d.Fingerprint != "" {
		return d.decide(ctx, g, c.JSON)
	}
	numbers, err := call(ctx, g, contactNumbersOperation, d)
	if err != nil {
		return err
	}
	if c.Answer == "" {
		if err := c.show(g, numbers); err != nil || c.JSON {
			return err
		}
		c.Answer = askWhetherSame(g)
	}
	switch c.Answer {
	case "same":
		if len(numbers) > 1 {
			return fmt.Errorf("there are two certificates of %s; say which by --number or --fingerprint", c.Address)
		}
		d.Fingerprint = numbers[0].Fingerprint
		return d.decide(ctx, g, c.JSON)
	case "different":
		return d.differs(ctx, g)
	}
	return nil
}

// differs blocks a contact whose numbers are not the same.
func (d decision) differs(ctx context.Context, g *globals) error {
	d.What = "block"
	if _, err := call(ctx, g, contactDecideOperation, d); err != nil {
		return err
	}
	fmt.Fprintf(g.stderr, "%s is blocked: the certificate known here is not the one the contact has. Import the right one (sealpost contact import), then sealpost contact block --off %s\n", d.Address, d.Address)
	return errAttention
}

func (c contactVerifyCmd) show(g *globals, numbers []comparison) error {
	if c.JSON {
		return g.printJSON(numbers)
	}
	for _, n := range numbers {
		if n.Pending {
			fmt.Fprint(g.stdout, "Another certificate was seen. With that one it would be:\n\n")
		}
		code, err := qrText(n.QR)
		if err != nil {
			return err
		}
		fmt.Fprintf(g.stdout, "Safety number of you and %s:\n\n%s\n\n%s\nFingerprint of %s, for other programs:\n%s\n\n", c.Address, n.Number, code, c.Address, n.Fingerprint)
	}
	return nil
}

// askWhetherSame asks on a terminal; "" without one.
func askWhetherSame(g *globals) string {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return ""
	}
	fmt.Fprint(g.stderr, "Does the contact see the same number? same/different, or nothing to decide later: ")
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	return map[string]string{"same": "same", "yes": "same", "y": "same", "different": "different", "no": "different", "n": "different"}[strings.ToLower(strings.TrimSpace(line))]
}

type contactShowCmd struct {
	Address string `arg:"" help:"Mail address."`
	JSON    bool   `help:"Print JSON."`
}

func (contactShowCmd) Help() string { return "Example:\n\n    sealpost contact show bob@bravo.test" }

var contactShowOperation = operation[string, []contactInfo]{"contact-show", false, func(ctx context.Context, s *service, address string, _ bridge.Progress) ([]contactInfo, error) {
	c, ok, err := s.bridge.Contacts().Get(ctx, address)
	if err == nil && !ok {
		err = fmt.Errorf("nothing is known of %s; see sealpost contact find", address)
	}
	return []contactInfo{infoOf(c)}, err
}}

// Run implements the command.
func (c contactShowCmd) Run(ctx context.Context, g *globals) error {
	if err := checkAddresses(c.Address); err != nil {
		return err
	}
	infos, err := call(ctx, g, contactShowOperation, c.Address)
	if err != nil {
		return err
	}
	if c.JSON {
		return g.printJSON(infos[0])
	}
	return printContacts(g, infos, false)
}
