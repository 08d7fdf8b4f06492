package dashboard

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
)

// page shows something: the name of its template, its title and what it shows.
type page func(r *http.Request) (view, error)

// change does what a form asks for and says where to go then, relative to the session's path.
type change func(r *http.Request, s *session) (to string, err error)

// view is what the templates get.
type view struct {
	Page, Title string
	Base        string // the session's path; "" without one
	Token       string // for forms
	Notice      string // what was just done
	Data        any
}

// problem is an error that the user is told.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

func asProblem(status int, err error) error {
	if err == nil {
		return nil
	}
	return &problem{status, err.Error()}
}

// public serves what needs no session.
func (d *Dashboard) public(f func(w http.ResponseWriter, r *http.Request) (view, int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if v, status := f(w, r); v.Page != "" {
			d.render(w, status, v)
		}
	}
}

func (d *Dashboard) signIn(http.ResponseWriter, *http.Request) (view, int) {
	return view{Page: "signin", Title: "Sign in"}, http.StatusUnauthorized
}

// login exchanges the code for a session and takes it out of the browser's address. HEAD, which looks only, uses no
// code up.
func (d *Dashboard) login(w http.ResponseWriter, r *http.Request) (view, int) {
	if r.Method != http.MethodGet {
		return d.signIn(w, r)
	}
	s, outcome := d.access.login(r.URL.Query().Get("code"))
	switch outcome {
	case letIn:
		http.SetCookie(w, d.access.cookie(s))
		http.Redirect(w, r, s.base(), http.StatusSeeOther)
		return view{}, 0
	case tooMany:
		d.log.Debug("dashboard: too many wrong login codes")
		w.Header().Set("Retry-After", "1")
		return view{Page: "signin", Title: "Sign in", Data: "Too many wrong codes came in. Wait a moment and try again."}, http.StatusTooManyRequests
	}
	d.log.Warn("dashboard: a login was refused")
	return view{Page: "signin", Title: "Sign in", Data: "This link has been used already, or it has expired."}, http.StatusForbidden
}

// notices are what pages say after a change; the address names them, so that it can bring in no text.
var notices = map[string]string{
	"verified": "The certificate is verified.", "accepted": "The other certificate is in use now.", "kept": "The certificate stays; the other one was dismissed.",
	"blocked": "Nothing is sent to this address any more.", "unblocked": "Mail to this address is sent again.",
	"retried": "It is being tried now.", "cancelled": "The message is cancelled.",
}

// shown serves a page to a session.
func (d *Dashboard) shown(p page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := d.access.sessionOf(r)
		if s == nil || !mayShow(r) {
			d.render(w, http.StatusUnauthorized, view{Page: "signin", Title: "Sign in"})
			return
		}
		v, err := p(r)
		if err != nil {
			d.fail(w, s, err)
			return
		}
		v.Base, v.Token, v.Notice = s.base(), d.access.authenticate(s, "form"), notices[r.URL.Query().Get("done")]
		d.render(w, http.StatusOK, v)
	}
}

// changed serves a form of a session.
func (d *Dashboard) changed(c change) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := d.access.sessionOf(r)
		if s == nil {
			d.render(w, http.StatusUnauthorized, view{Page: "signin", Title: "Sign in"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		var tooLarge *http.MaxBytesError
		switch err := r.ParseForm(); {
		case !d.guard.mayChange(r):
			d.fail(w, s, &problem{http.StatusForbidden, "This form did not come from the dashboard; nothing was changed."})
		case errors.As(err, &tooLarge):
			d.fail(w, s, &problem{http.StatusRequestEntityTooLarge, "This is too long; nothing was changed."})
		case err != nil:
			d.fail(w, s, &problem{http.StatusBadRequest, "The form could not be read; nothing was changed."})
		case !d.access.ownForm(s, r):
			d.fail(w, s, &problem{http.StatusForbidden, "The page was too old; nothing was changed. Load it again."})
		default:
			to, err := c(r, s)
			if err != nil {
				d.fail(w, s, err)
				return
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
		}
	}
}

// fail shows what the user can know of an error; the rest is for the log.
func (d *Dashboard) fail(w http.ResponseWriter, s *session, err error) {
	v := view{Page: "problem", Title: "Not done", Base: s.base(), Token: d.access.authenticate(s, "form")}
	var told *problem
	if errors.As(err, &told) {
		v.Data = told.text
		d.render(w, told.status, v)
		return
	}
	d.log.Error("dashboard", "cause", err)
	v.Data = "Something went wrong on this device; the log of sealpost run says what."
	d.render(w, http.StatusInternalServerError, v)
}

// render writes a whole page or none.
func (d *Dashboard) render(w http.ResponseWriter, status int, v view) {
	var text bytes.Buffer
	t, ok := pages[v.Page]
	err := fmt.Errorf("there is no page %q", v.Page)
	if ok {
		err = t.Execute(&text, v)
	}
	if err != nil {
		d.log.Error("dashboard", "page", v.Page, "cause", err)
		http.Error(w, "The page could not be made; the log of sealpost run says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(text.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes())
}

func serveStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write([]byte(style))
}

// link is a path of the session with a query.
func link(s *session, path string, query ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	return s.base() + path + "?" + values.Encode()
}

// pages are the templates by name; each is the frame with its own content.
var pages = map[string]*template.Template{}

func init() {
	for _, name := range []string{"signin", "problem", "overview", "contacts", "contact", "decisions", "outbox", "keys", "audit"} {
		pages[name] = template.Must(template.New("frame.html").Funcs(functions).ParseFS(files, "templates/frame.html", "templates/stack.html", "templates/trust.html", "templates/"+name+".html"))
	}
}
