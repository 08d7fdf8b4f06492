// Package keydisc finds the OpenPGP certificates of mail addresses: by Web Key
// Directory and the other public ways. It judges nothing but the certificate itself;
// pins and trust belong to bridge/contacts.
package keydisc

import (
	"context"
	"log/slog"
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
	Timeout time.Duration     // for one Find, all methods together
	CAFile  string            // extra roots for HTTPS
	Resolve map[string]string // "host:port" → "ip:port", like curl --resolve; such hosts are exempt from the private-address rule
	Log     *slog.Logger      // never nil
	Now     func() time.Time  // nil: time.Now
}

// Finder asks all its methods. It is safe for concurrent use.
type Finder struct {
	// unexported
}

// New checks the options and makes a Finder.
func New(o Options) (*Finder, error) { panic("stub") }

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

// Find asks all methods at once, within Options.Timeout and ctx.
func (f *Finder) Find(ctx context.Context, address string) Answer { panic("stub") }
