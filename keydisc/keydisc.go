// Package keydisc finds the OpenPGP certificates of mail addresses: by Web Key
// Directory and the other public ways, in company directories and local files. It judges nothing but the certificate itself;
// pins and trust belong to bridge/contacts.
package keydisc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Method is a way to find certificates, as named in the configuration.
type Method string

// The methods that a Finder knows. "contacts" and "autocrypt" in the
// configuration are answered by bridge/contacts from what it already holds.
const (
	WKD  Method = "wkd"
	VKS  Method = "vks"
	HKP  Method = "hkp"
	DANE Method = "dane"
	LDAP Method = "ldap"
	File Method = "file"
)

// Options of a Finder.
type Options struct {
	Methods []Method          // all asked at once
	Timeout time.Duration     // for one Find or Refresh, all methods together; 0: 10 s
	CAFile  string            // extra roots for HTTPS
	Resolve map[string]string // "host:port" → "ip:port", like curl --resolve; such hosts are exempt from the private-address rule
	HKP     []string          // key servers: hkps://host[:port] or https://host[:port]; hkp://host[:port] for loopback addresses alone
	VKS     string            // verifying key server, https://host[:port]; "": keys.openpgp.org
	LDAP    []LDAPServer      // company directories
	DNS     []string          // servers that DANE asks, "address:port"; empty: those of the system
	// DNSAnchors are DS records, as a zone file has them, that DNSSEC is trusted from; empty: those of the root.
	DNSAnchors []string
	Files      []string // certificate files, or folders of *.asc, *.pgp, *.gpg and *.key
	// Asked, if not nil, is told of each method's answer in a Find: "found", "none" or "error".
	Asked func(m Method, result string, took time.Duration)
	Log   *slog.Logger     // never nil
	Now   func() time.Time // nil: time.Now
}

// Finder asks all its methods. It is safe for concurrent use.
type Finder struct {
	options Options
	web     *webClient
	vksHome server
	methods []method
}

// method is one way to find certificates, ready to be asked.
type method struct {
	name          Method
	authenticated bool // see Found
	// find is what there is for the address, with user IDs of that address alone. None and no error is a
	// definite "there is none".
	find func(ctx context.Context, address string) ([]*Certificate, error)
	// refresh is what there is of the certificate with the fingerprint, see Finder.Refresh. nil: it cannot be asked for one.
	refresh func(ctx context.Context, fp Fingerprint) ([]*Certificate, error)
}

// methods makes each method of the options. The error says which setting it misses.
var methods = map[Method]func(*Finder) (method, error){
	WKD: newWKD, VKS: newVKS, HKP: newHKP, DANE: daneMethod, LDAP: newLDAP, File: newFile,
}

// New checks the options and makes a Finder.
func New(o Options) (*Finder, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	web, err := newWebClient(o.CAFile, o.Resolve)
	if err != nil {
		return nil, err
	}
	home, err := vksServer(o.VKS)
	if err != nil {
		return nil, err
	}
	f := &Finder{options: o, web: web, vksHome: home}
	for _, name := range o.Methods {
		if err := f.use(name); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *Finder) use(name Method) error {
	build, ok := methods[name]
	if !ok {
		return fmt.Errorf("method %q is not known; use one of %s", name, slices.Sorted(maps.Keys(methods)))
	}
	m, err := build(f)
	if err != nil {
		return fmt.Errorf("method %q: %w", name, err)
	}
	f.methods = append(f.methods, m)
	return nil
}

// Found is one certificate and where it came from. It has only user IDs of the
// address asked for.
type Found struct {
	Certificate *Certificate
	Source      Method
	// Authenticated says that the source vouches for the address: its own domain does (WKD), a server that sent it
	// mail (VKS), its domain's signed DNS zone (DANE), the directory of the company over TLS (LDAP), or whoever put the file there (File). On an HKP server
	// anybody can publish a certificate for any address: what is found there alone must not be trusted for more
	// than the user trusts a stranger's word.
	Authenticated bool
}

// Answer is what all methods together know of an address.
type Answer struct {
	Address string
	Found   []Found // merged by fingerprint, authenticated ones first; may hold unusable ones
	// Conclusive says that every method gave a definite answer: found, or an
	// authenticated "there is none" (404 over verified TLS, no such host). A time-out,
	// refused connection, bad TLS certificate, 5xx or broken data is not an answer, and
	// must never lead to cleartext.
	Conclusive bool
	Err        error // the joined causes where not Conclusive; names method and host
}

// reply is one method's or one server's: certificates, or a definite none (both empty), or an error. With an
// error it may hold certificates, too, but is not all that there is.
type reply struct {
	certificates []*Certificate
	err          error
}

// Find asks all methods at once, within Options.Timeout and ctx.
func (f *Finder) Find(ctx context.Context, address string) Answer {
	answer := Answer{Address: address}
	if _, err := NormalizeAddress(address); err != nil {
		answer.Err = err
		return answer
	}
	ctx, cancel := context.WithTimeout(ctx, f.options.Timeout)
	defer cancel()
	replies := atOnce(f.methods, func(m method) ([]*Certificate, error) { return f.ask(ctx, m, address) })
	answer.Conclusive = true
	for i, m := range f.methods {
		if err := replies[i].err; err != nil {
			answer.Conclusive = false
			answer.Err = errors.Join(answer.Err, fmt.Errorf("%s: %w", m.name, err))
		}
		for _, c := range replies[i].certificates {
			answer.add(Found{c, m.name, m.authenticated})
		}
	}
	slices.SortStableFunc(answer.Found, func(a, b Found) int { return rank(a) - rank(b) })
	return answer
}

// ask asks one method and tells Options.Asked.
func (f *Finder) ask(ctx context.Context, m method, address string) ([]*Certificate, error) {
	start := time.Now()
	certificates, err := m.find(ctx, address)
	if f.options.Asked == nil {
		return certificates, err
	}
	result := "found"
	switch {
	case err != nil:
		result = "error"
	case len(certificates) == 0:
		result = "none"
	}
	f.options.Asked(m.name, result, time.Since(start))
	return certificates, err
}

func rank(f Found) int {
	if f.Authenticated {
		return 0
	}
	return 1
}

// atOnce asks each of them in a goroutine of its own and waits for all.
func atOnce[T any](all []T, ask func(T) ([]*Certificate, error)) []reply {
	replies := make([]reply, len(all))
	var wg sync.WaitGroup
	for i, each := range all {
		wg.Go(func() { replies[i].certificates, replies[i].err = ask(each) })
	}
	wg.Wait()
	return replies
}

// together is what several servers of one method say: one that fails leaves the answer open, but does not
// keep back what the others have.
func together[T any](all []T, ask func(T) ([]*Certificate, error)) (certificates []*Certificate, err error) {
	for _, r := range atOnce(all, ask) {
		certificates, err = append(certificates, r.certificates...), errors.Join(err, r.err)
	}
	return certificates, err
}

// certificatesFor keeps of what a server sent only what is for the address. A server that sends
// something else has not given an answer.
func certificatesFor(data []byte, address string) ([]*Certificate, error) {
	all, err := ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	var kept []*Certificate
	for _, c := range all {
		if own, err := c.ForAddress(address); err == nil {
			kept = append(kept, own)
		}
	}
	if len(kept) == 0 {
		return nil, errors.New("the server sent no certificate for this address")
	}
	return kept, nil
}

// add merges a certificate into those found already. It then counts as found where its address is vouched for.
func (a *Answer) add(f Found) {
	i := slices.IndexFunc(a.Found, func(known Found) bool { return known.Certificate.Fingerprint() == f.Certificate.Fingerprint() })
	if i < 0 {
		a.Found = append(a.Found, f)
		return
	}
	known := &a.Found[i]
	if merged, err := known.Certificate.Merge(f.Certificate); err == nil {
		known.Certificate = merged
	}
	if f.Authenticated && !known.Authenticated {
		known.Source, known.Authenticated = f.Source, true
	}
}
