package keydisc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/mail"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"github.com/sealpost/sealpost/keydisc/internal/dnssec"
)

// maxOpenPGPKeys is how many records one address may have.
const maxOpenPGPKeys = 16

// daneMethod makes the method of a Finder's options.
func daneMethod(f *Finder) (method, error) {
	o := dnssec.Options{Servers: f.options.DNS, Now: f.options.Now, Timeout: f.options.Timeout}
	for _, text := range f.options.DNSAnchors {
		rr, err := dns.NewRR(text)
		ds, ok := rr.(*dns.DS)
		if err != nil || !ok {
			return method{}, fmt.Errorf("%q is not a DS record", text)
		}
		o.Anchors = append(o.Anchors, ds)
	}
	d, err := newDANE(o)
	if err != nil {
		return method{}, err
	}
	return method{name: DANE, authenticated: true, find: fetched(d.find)}, nil
}

// dane finds certificates in OPENPGPKEY records (RFC 7929), which count only where DNSSEC proves them on this device. It
// is safe for concurrent use.
type dane struct{ resolver *dnssec.Resolver }

// newDANE checks the options of the resolver; its zero options ask the system's DNS servers.
func newDANE(o dnssec.Options) (*dane, error) {
	resolver, err := dnssec.New(o)
	if err != nil {
		return nil, err
	}
	return &dane{resolver}, nil
}

// find returns the address's binary certificates, one after the other and at most maxInput bytes. nil, nil is a definite
// "there is none": proven by the zone, or in a zone that is proven not to be signed, for which this method has nothing
// to say. The local part is tried as it is written and then with its ASCII letters in lower case, as most
// zones are filled; RFC 7929 §4 leaves other variants to the owner of the domain.
func (d *dane) find(ctx context.Context, address string) ([]byte, error) {
	address = strings.TrimSpace(address)
	asWritten, err := openpgpkeyName(address)
	if err != nil {
		return nil, err
	}
	at := strings.LastIndexByte(address, '@')
	lower, err := openpgpkeyName(asciiLower(address[:at]) + address[at:])
	if err != nil {
		return nil, err
	}
	data, err := d.lookup(ctx, asWritten)
	if err == nil && data == nil && lower != asWritten {
		data, err = d.lookup(ctx, lower)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address[at+1:], err)
	}
	return data, nil
}

func (d *dane) lookup(ctx context.Context, name string) ([]byte, error) {
	answer, err := d.resolver.Lookup(ctx, name, dns.TypeOPENPGPKEY)
	if err != nil || answer.Status == dnssec.Insecure {
		return nil, err
	}
	if answer.Status != dnssec.Secure {
		return nil, fmt.Errorf("OPENPGPKEY lookup ended as %d", answer.Status)
	}
	return concatenated(answer.Records)
}

// concatenated is the content of OPENPGPKEY records; nil for none. A record without content, or too much in
// all, is an error.
func concatenated(records []dns.RR) (data []byte, err error) {
	if len(records) > maxOpenPGPKeys {
		return nil, fmt.Errorf("%d OPENPGPKEY records are more than %d", len(records), maxOpenPGPKeys)
	}
	for _, rr := range records {
		record, ok := rr.(*dns.OPENPGPKEY)
		if !ok || record.PublicKey == "" {
			return nil, errors.New("an OPENPGPKEY record without a certificate")
		}
		certificate, err := base64.StdEncoding.DecodeString(record.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("OPENPGPKEY record: %w", err)
		}
		if data = append(data, certificate...); len(data) > maxInput {
			return nil, fmt.Errorf("OPENPGPKEY records of more than %d bytes", maxInput)
		}
	}
	return data, nil
}

// openpgpkeyName is the domain name of an address's OPENPGPKEY records (RFC 7929 §3): the local part without
// quotes, in NFC, hashed, under the domain in A-labels. The error says that it is not a plain addr-spec.
func openpgpkeyName(address string) (string, error) {
	parsed, err := mail.ParseAddress("<" + strings.TrimSpace(address) + ">")
	if err != nil {
		return "", fmt.Errorf("%q is not a mail address", address)
	}
	at := strings.LastIndexByte(parsed.Address, '@')
	domain, err := idna.Lookup.ToASCII(asciiLower(parsed.Address[at+1:]))
	if err != nil {
		return "", fmt.Errorf("%q has no valid domain", address)
	}
	sum := sha256.Sum256([]byte(norm.NFC.String(parsed.Address[:at])))
	name := dns.Fqdn(hex.EncodeToString(sum[:28]) + "._openpgpkey." + domain)
	if _, ok := dns.IsDomainName(name); !ok {
		return "", fmt.Errorf("%q has no valid domain", address)
	}
	return name, nil
}
