package dashboard

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/sealpost/sealpost/bridge"
)

// What the user decides here goes to bridge, which records it in the log of decisions.

var errUnknownForm = &problem{http.StatusBadRequest, "This form is not known; nothing was changed."}

// decideContact does what the forms of a contact's page ask for.
func (d *Dashboard) decideContact(r *http.Request, s *session) (string, error) {
	address, done := r.PostFormValue("address"), ""
	var err error
	switch r.PostFormValue("do") {
	case "verify":
		done, err = "verified", d.verify(r.Context(), address, r.PostFormValue("account"), r.PostFormValue("number"))
	case "same":
		done = "verified"
		_, err = d.bridge.VerifyContact(r.Context(), address, bridge.Fingerprint(r.PostFormValue("fingerprint")))
	case "accept":
		done = "accepted"
		_, err = d.bridge.AcceptContact(r.Context(), address)
	case "keep":
		done = "kept"
		_, err = d.bridge.KeepContact(r.Context(), address)
	case "block", "unblock":
		done = r.PostFormValue("do") + "ed"
		_, err = d.bridge.BlockContact(r.Context(), address, done == "blocked")
	default:
		return "", errUnknownForm
	}
	return link(s, "contact", "address", address, "done", done), asProblem(http.StatusConflict, err)
}

// verify compares the number that the contact has with ours.
func (d *Dashboard) verify(ctx context.Context, address, account, number string) error {
	a := d.account(account)
	if a == nil {
		return errors.New("there is no account to compare with")
	}
	_, err := a.VerifyByNumber(ctx, address, number)
	if errors.Is(err, bridge.ErrMismatch) {
		return errors.New(err.Error() + "; nothing was recorded. Read it again. If it stays so, somebody else's certificate may be known here: block the contact, and ask over another channel")
	}
	return err
}

// decideQueued does what the forms of the outbox ask for.
func (d *Dashboard) decideQueued(r *http.Request, s *session) (string, error) {
	id, err := strconv.ParseInt(r.PostFormValue("id"), 10, 64)
	if err != nil {
		return "", errUnknownForm
	}
	done := ""
	switch r.PostFormValue("do") {
	case "retry":
		done, err = "retried", d.bridge.Outbox().Retry(r.Context(), id)
	case "cancel":
		done, err = "cancelled", d.bridge.CancelQueued(r.Context(), id)
	default:
		return "", errUnknownForm
	}
	return link(s, "outbox", "done", done), asProblem(http.StatusConflict, err)
}

// logout ends all sessions, in every browser.
func (d *Dashboard) logout(r *http.Request, _ *session) (string, error) {
	key, err := d.bridge.RenewDashboardKey(r.Context())
	if err == nil {
		d.access.renew(key)
	}
	return "/", err
}
