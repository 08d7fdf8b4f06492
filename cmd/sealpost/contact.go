package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/keydisc"
)

type contactCmd struct {
	List   contactListCmd   `cmd:"" help:"List the certificates known."`
	Find   contactFindCmd   `cmd:"" help:"Look for the certificate of an address now."`
	Show   contactShowCmd   `cmd:"" help:"Show what is known of an address."`
	Import contactImportCmd `cmd:"" help:"Take certificates from a file and pin them."`
	Accept contactAcceptCmd `cmd:"" help:"Take the other certificate that was seen for an address."`
	Verify contactVerifyCmd `cmd:"" help:"Compare safety numbers with a contact, and record it."`
	Block  contactBlockCmd  `cmd:"" help:"Send nothing to an address."`
	Forget contactForgetCmd `cmd:"" help:"Forget all about an address."`
}

func (contactCmd) Help() string { return "Example:\n\n    sealpost contact find bob@bravo.test" }

// contactInfo is one contact as printed.
type contactInfo struct {
	Address     string     `json:"address"`
	Fingerprint string     `json:"fingerprint"`
	Source      string     `json:"source"`
	Trust       string     `json:"trust"`
	FirstSeen   time.Time  `json:"first_seen"`
	LastUsed    *time.Time `json:"last_used"`
	Expires     *time.Time `json:"expires"`
	Pending     string     `json:"pending"`
	Verified    *time.Time `json:"verified,omitempty"`
	Blocked     bool       `json:"blocked,omitempty"`
	VouchedBy   string     `json:"vouched_by,omitempty"`
	VerifyAgain bool       `json:"verify_again,omitempty"`
}

func infoOf(c contacts.Contact) contactInfo {
	info := contactInfo{
		Address: c.Address, Source: string(c.Source), Trust: string(c.Trust), FirstSeen: c.FirstSeen.UTC(),
		LastUsed: unlessZero(c.LastUsed), Pending: string(c.Pending), Verified: unlessZero(c.Verified), Blocked: c.Blocked,
		VouchedBy: c.VouchedBy, VerifyAgain: !c.VerifyBy.IsZero() && !time.Now().Before(c.VerifyBy),
	}
	if c.Certificate != nil {
		info.Fingerprint, info.Expires = string(c.Certificate.Fingerprint()), unlessZero(c.Certificate.Expires())
	}
	return info
}

func infosOf(list []contacts.Contact) []contactInfo {
	infos := make([]contactInfo, len(list))
	for i, c := range list {
		infos[i] = infoOf(c)
	}
	return infos
}

// unlessZero is nil for the zero time: null in JSON.
func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func printContacts(g *globals, infos []contactInfo, asJSON bool) error {
	if asJSON {
		return g.printJSON(infos)
	}
	for _, c := range infos {
		fmt.Fprintf(g.stdout, "%s\n  %s, from %s, %s\n", c.Address, orNone(c.Fingerprint), orNone(c.Source), c.Trust)
		if c.Pending != "" {
			fmt.Fprintf(g.stdout, "  another certificate was seen: %s; nothing is sent until you take it (contact accept) or verify one of them\n", c.Pending)
		}
		if c.Verified != nil {
			fmt.Fprintf(g.stdout, "  verified %s%s\n", c.Verified.Format(time.DateOnly), verifyAgain(c.VerifyAgain))
		}
		if c.VouchedBy != "" {
			fmt.Fprintf(g.stdout, "  vouched for by the list %s\n", c.VouchedBy)
		}
		if c.Blocked {
			fmt.Fprintln(g.stdout, "  blocked: nothing is sent there")
		}
	}
	return nil
}

func verifyAgain(due bool) string {
	if !due {
		return ""
	}
	return "; compare again (contact verify)"
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

type contactListCmd struct {
	JSON bool `help:"Print JSON."`
}

func (contactListCmd) Help() string { return "Example:\n\n    sealpost contact list --json" }

var contactListOperation = operation[none, []contactInfo]{"contact-list", false, func(ctx context.Context, s *service, _ none, _ bridge.Progress) ([]contactInfo, error) {
	list, err := s.bridge.Contacts().List(ctx)
	return infosOf(list), err
}}

// Run implements the command.
func (c contactListCmd) Run(ctx context.Context, g *globals) error {
	infos, err := call(ctx, g, contactListOperation, none{})
	if err != nil {
		return err
	}
	return printContacts(g, infos, c.JSON)
}

type contactFindCmd struct {
	Address string `arg:"" help:"Mail address."`
	JSON    bool   `help:"Print JSON."`
}

func (contactFindCmd) Help() string {
	return "Example:\n\n    sealpost contact find bob@bravo.test\n\nExits with 3 if there is no certificate that can be used."
}

// found is a contact and why it cannot be used, if so.
type found struct {
	contactInfo
	Problem string `json:"problem,omitempty"`
}

var contactFindOperation = operation[string, found]{"contact-find", false, func(ctx context.Context, s *service, address string, _ bridge.Progress) (found, error) {
	l := s.bridge.Contacts().Lookup(ctx, address)
	f := found{contactInfo: infoOf(l.Contact)}
	switch {
	case l.Usable == nil && l.Certificate != nil:
	case errors.Is(l.Usable, contacts.ErrNone) && !l.Conclusive:
		f.Problem = fmt.Sprintf("no certificate found, and not every place could be asked: %v", l.Cause)
	case errors.Is(l.Usable, contacts.ErrNone):
		f.Problem = "there is no certificate for this address"
	default:
		f.Problem = l.Usable.Error()
	}
	return f, nil
}}

// Run implements the command.
func (c contactFindCmd) Run(ctx context.Context, g *globals) error {
	if err := checkAddresses(c.Address); err != nil {
		return err
	}
	f, err := call(ctx, g, contactFindOperation, c.Address)
	if err != nil {
		return err
	}
	if c.JSON {
		err = g.printJSON(f)
	} else if f.Fingerprint != "" {
		err = printContacts(g, []contactInfo{f.contactInfo}, false)
	}
	if err == nil && f.Problem != "" {
		fmt.Fprintf(g.stderr, "%s: %s\n", c.Address, f.Problem)
		err = errAttention
	}
	return err
}

type contactImportCmd struct {
	File []byte `arg:"" help:"Certificates, ASCII-armored or binary; - reads standard input." type:"filecontent"`
	JSON bool   `help:"Print JSON."`
}

func (contactImportCmd) Help() string {
	return "Example:\n\n    sealpost contact import bob.asc\n\nReplaces what was pinned for the addresses in the file: make sure that it is the right person's.\n\n" +
		"Exits with 3 if some of the certificates were not taken."
}

// imported is what became of a file of certificates.
type imported struct {
	Contacts []contactInfo
	Refused  []string // why some addresses were not pinned, each named
}

var contactImportOperation = operation[[]byte, imported]{"contact-import", false, func(ctx context.Context, s *service, data []byte, _ bridge.Progress) (imported, error) {
	certificates, err := keydisc.ParseCertificates(data)
	if errors.Is(err, keydisc.ErrSecretKey) {
		return imported{}, errors.New("the file holds a secret key, not only a certificate; import your own keys with sealpost key import")
	}
	if err != nil {
		return imported{}, fmt.Errorf("no certificate could be read from the file: %w", err)
	}
	list, err := s.bridge.ImportContacts(ctx, certificates)
	done := imported{Contacts: infosOf(list)}
	var refused *contacts.RefusedError
	if len(list) > 0 && errors.As(err, &refused) {
		done.Refused, err = strings.Split(err.Error(), "\n"), nil
	}
	return done, err
}}

// Run implements the command.
func (c contactImportCmd) Run(ctx context.Context, g *globals) error {
	done, err := call(ctx, g, contactImportOperation, c.File)
	if err != nil {
		return err
	}
	err = printContacts(g, done.Contacts, c.JSON)
	for _, reason := range done.Refused {
		fmt.Fprintf(g.stderr, "not imported: %s\n", reason)
	}
	if err == nil && len(done.Refused) > 0 {
		err = errAttention
	}
	return err
}
