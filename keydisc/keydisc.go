// Package keydisc finds the OpenPGP certificates of mail addresses: by Web Key
// Directory and the other public ways. It judges nothing but the certificate itself;
// pins and trust belong to bridge/contacts.
package keydisc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Method is a way to find certificates, as named in the configuration.
type Method string

// The methods that go out to the network. "contacts" and "autocrypt" in the
// configuration are answered by bridge/contacts from what it already holds.
const (
	WKD Method = "wkd"
	VKS Method = "vks"
)

// Options of a Finder.
type Options struct {
	Methods []Method          // network methods, all asked at once
	Timeout time.Duration     // for one Find, all methods together; 0: 10 s
	CAFile  string            // extra roots for HTTPS
	Resolve map[string]string // "host:port" → "ip:port", like curl --resolve; such hosts are exempt from the private-address rule
	Log     *slog.Logger      // never nil
	Now     func() time.Time  // nil: time.Now
}

// Finder asks all its methods. It is safe for concurrent use.
type Finder struct {
	options Options
	web     *webClient
}

// New checks the options and makes a Finder.
func New(o Options) (*Finder, error) {
	for _, m := range o.Methods {
		if m != WKD && m != VKS {
			return nil, fmt.Errorf("method %q is not known; use %s or %s", m, WKD, VKS)
		}
	}
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
	return &Finder{options: o, web: web}, nil
}

// Found is one certificate and where it came from. It has only user IDs of the
// address asked for.
type Found struct {
	Certificate *Certificate
	Source      Method
}

// Answer is what all methods together know of an address.
type Answer struct {
	Address string
	Found   []Found // merged by fingerprint; may hold unusable ones
	// Conclusive says that every method gave a definite answer: found, or an
	// authenticated "there is none" (404 over verified TLS, no such host). A time-out,
	// refused connection, bad TLS certificate, 5xx or broken data is not an answer, and
	// must never lead to cleartext.
	Conclusive bool
	Err        error // the joined causes where not Conclusive; names method and host
}

// methodAnswer is one method's: certificates, or a definite none (both empty), or an error.
type methodAnswer struct {
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
	answers := make([]methodAnswer, len(f.options.Methods))
	var wg sync.WaitGroup
	for i, method := range f.options.Methods {
		wg.Go(func() { answers[i] = f.ask(ctx, method, address) })
	}
	wg.Wait()
	answer.Conclusive = true
	for i, method := range f.options.Methods {
		if err := answers[i].err; err != nil {
			answer.Conclusive = false
			answer.Err = errors.Join(answer.Err, fmt.Errorf("%s: %w", method, err))
		}
		for _, c := range answers[i].certificates {
			answer.add(c, method)
		}
	}
	return answer
}

func (f *Finder) ask(ctx context.Context, method Method, address string) methodAnswer {
	var data []byte
	var err error
	if method == WKD {
		data, err = f.wkd(ctx, address)
	} else {
		data, err = f.vks(ctx, address)
	}
	if err != nil || data == nil {
		return methodAnswer{err: err}
	}
	certificates, err := certificatesFor(data, address)
	return methodAnswer{certificates, err}
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

// add merges a certificate into those found already.
func (a *Answer) add(c *Certificate, source Method) {
	for i, f := range a.Found {
		if f.Certificate.Fingerprint() == c.Fingerprint() {
			if merged, err := f.Certificate.Merge(c); err == nil {
				a.Found[i].Certificate = merged
			}
			return
		}
	}
	a.Found = append(a.Found, Found{c, source})
}
