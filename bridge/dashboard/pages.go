package dashboard

import (
	"net/http"
	"strconv"

	"github.com/sealpost/sealpost/bridge"
)

// The pages, in the order of the menu. Their reading changes nothing and asks nobody over the network.

// stackDays is the window of decisions that pages sum up.
const stackDays = 30

func (d *Dashboard) overview(r *http.Request) (view, error) {
	s, err := d.bridge.Stack(r.Context(), stackDays)
	return view{Page: "overview", Title: "Overview", Data: s}, err
}

func (d *Dashboard) audit(r *http.Request) (view, error) {
	s, err := d.bridge.Stack(r.Context(), stackDays)
	return view{Page: "audit", Title: "Audit", Data: s}, err
}

func (d *Dashboard) keys(r *http.Request) (view, error) {
	s, err := d.bridge.Stack(r.Context(), 1)
	return view{Page: "keys", Title: "Keys", Data: s}, err
}

func (d *Dashboard) contacts(r *http.Request) (view, error) {
	list, err := d.bridge.Contacts().List(r.Context())
	return view{Page: "contacts", Title: "Contacts", Data: list}, err
}

// contactView is one contact with all there is to decide about it.
type contactView struct {
	bridge.Contact
	Problem  string // why its certificate cannot be used
	Account  string // whose safety numbers these are
	Accounts []string
	Numbers  []numberView
	NoNumber string // why there are none
	History  []bridge.LogEntry
}

// numberView is a safety number to compare.
type numberView struct {
	Number, Fingerprint string
	QR                  code
	Pending             bool
}

// historyLength is how many decisions a contact's page shows.
const historyLength = 20

func (d *Dashboard) contact(r *http.Request) (view, error) {
	address := r.URL.Query().Get("address")
	c, known, err := d.bridge.Contacts().Get(r.Context(), address)
	if err != nil || !known {
		return view{}, &problem{http.StatusNotFound, "Nothing is known of this address."}
	}
	v := contactView{Contact: c}
	if c.Certificate != nil {
		if err := c.Certificate.Check(c.Address, d.now()); err != nil {
			v.Problem = err.Error()
		}
	}
	if err := d.addNumbers(r, &v); err != nil {
		return view{}, err
	}
	v.History, _, err = d.bridge.NewestDecisions(r.Context(), c.Address, 0, historyLength)
	return view{Page: "contact", Title: c.Address, Data: v}, err
}

// addNumbers fills in the safety numbers of the account that the address names, or the first.
func (d *Dashboard) addNumbers(r *http.Request, v *contactView) error {
	for _, a := range d.bridge.Accounts() {
		v.Accounts = append(v.Accounts, a.Address())
	}
	a := d.account(r.URL.Query().Get("account"))
	if a == nil || v.Certificate == nil {
		return nil
	}
	v.Account = a.Address()
	numbers, err := a.SafetyNumbers(r.Context(), v.Address)
	if err != nil {
		v.NoNumber = err.Error()
		return nil
	}
	for _, n := range numbers {
		drawn, err := qrCode(n.Number.QR())
		if err != nil {
			return err
		}
		v.Numbers = append(v.Numbers, numberView{n.Number.String(), string(n.Candidate.Fingerprint()), drawn, n.Pending})
	}
	return nil
}

// account is the one with that address, else the first; nil if there is none.
func (d *Dashboard) account(address string) *bridge.Account {
	if a, ok := d.bridge.Account(address); ok {
		return a
	}
	if all := d.bridge.Accounts(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// decisionsView is a page of the log.
type decisionsView struct {
	Address string // what it is filtered by
	Entries []bridge.LogEntry
	Older   int64 // where the next page begins; 0: there is none
}

// pageLength is how many entries a page of the log has.
const pageLength = 50

func (d *Dashboard) decisions(r *http.Request) (view, error) {
	v := decisionsView{Address: r.URL.Query().Get("address")}
	before, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	if err != nil || before < 0 {
		before = 0
	}
	entries, more, err := d.bridge.NewestDecisions(r.Context(), v.Address, before, pageLength)
	v.Entries = entries
	if more {
		v.Older = entries[len(entries)-1].Seq
	}
	return view{Page: "decisions", Title: "Decisions", Data: v}, err
}

func (d *Dashboard) outbox(r *http.Request) (view, error) {
	waiting, err := d.bridge.Outbox().List(r.Context())
	return view{Page: "outbox", Title: "Outbox", Data: waiting}, err
}
