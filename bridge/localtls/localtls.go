// Package localtls makes the certificates that mail clients on this device see: a local
// authority that stays, and a separate leaf for the listeners that is renewed in time. A
// client that trusts the authority once never has to be asked again.
package localtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

const (
	caLife    = 10 * 365 * 24 * time.Hour
	leafLife  = 397 * 24 * time.Hour // the longest that Apple's clients accept
	renewLeaf = 30 * 24 * time.Hour  // before its end
	warnCA    = 180 * 24 * time.Hour // before its end
)

// SecretStore keeps small named secrets. Get returns nil and no error for what is not there.
type SecretStore interface {
	Lookup(ctx context.Context, name string) ([]byte, error)
	Set(ctx context.Context, name string, value []byte) error
}

// Identity is the local authority and the leaf it signed. Safe for concurrent use.
type Identity struct {
	ca   *pair
	host string

	mu   sync.Mutex
	leaf *tls.Certificate
}

// pair is a certificate with its key.
type pair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Ensure loads the identity or makes it: the authority once, the leaf anew when it ends
// within 30 days or does not name the host. host may be "".
func Ensure(ctx context.Context, s SecretStore, host string, now time.Time) (*Identity, error) {
	ca, err := ensure(ctx, s, "local-ca", func(p *pair) bool { return true }, func() (*pair, error) { return makeCA(now) })
	if err != nil {
		return nil, fmt.Errorf("local TLS authority: %w", err)
	}
	fits := func(p *pair) bool {
		c := p.certificate
		return fresh(c, now) && c.CheckSignatureFrom(ca.certificate) == nil && (host == "" || c.VerifyHostname(host) == nil)
	}
	leaf, err := ensure(ctx, s, "local-leaf", fits, func() (*pair, error) { return makeLeaf(ca, host, now) })
	if err != nil {
		return nil, fmt.Errorf("local TLS certificate: %w", err)
	}
	return &Identity{ca: ca, host: host, leaf: chain(leaf, ca)}, nil
}

// chain is what a listener sends: the leaf and the authority.
func chain(leaf, ca *pair) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{leaf.certificate.Raw, ca.certificate.Raw}, PrivateKey: leaf.key, Leaf: leaf.certificate}
}

// ensure loads a pair that fits, or makes and keeps one.
func ensure(ctx context.Context, s SecretStore, name string, fits func(*pair) bool, generate func() (*pair, error)) (*pair, error) {
	data, err := s.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if data != nil {
		p, err := decode(data)
		if err != nil || fits(p) {
			return p, err
		}
	}
	p, err := generate()
	if err != nil {
		return nil, err
	}
	data, err = p.encode()
	if err != nil {
		return nil, err
	}
	return p, s.Set(ctx, name, data)
}

func makeCA(now time.Time) (*pair, error) {
	var random [3]byte
	_, _ = rand.Read(random[:])
	return issue(&x509.Certificate{
		Subject:   pkix.Name{CommonName: "Sealpost local CA " + hex.EncodeToString(random[:])},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil)
}

func makeLeaf(ca *pair, host string, now time.Time) (*pair, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(leafLife),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = append(template.IPAddresses, ip)
	} else if host != "" && host != "localhost" {
		template.DNSNames = append(template.DNSNames, host)
	}
	return issue(template, ca)
}

// issue signs the template with the issuer, or itself if that is nil.
func issue(template *x509.Certificate, issuer *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	if issuer == nil {
		issuer = &pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, &key.PublicKey, issuer.key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &pair{certificate, key}, err
}

func (p *pair) encode() ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(p.key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.certificate.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...), nil
}

func decode(data []byte) (*pair, error) {
	first, rest := pem.Decode(data)
	second, _ := pem.Decode(rest)
	if first == nil || second == nil {
		return nil, errors.New("what is stored is not a certificate with its key")
	}
	certificate, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(second.Bytes)
	return &pair{certificate, key}, err
}

// fresh says that a leaf need not be renewed yet.
func fresh(c *x509.Certificate, now time.Time) bool {
	return now.Add(renewLeaf).Before(c.NotAfter) && !now.Before(c.NotBefore)
}

// TLSConfig is for the listeners: TLS 1.2 or newer. A program that runs for more than a year
// renews its leaf by itself; the next start makes and keeps another.
func (i *Identity) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.current(time.Now()) },
	}
}

// current is the leaf to show at that time.
func (i *Identity) current(now time.Time) (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if fresh(i.leaf.Leaf, now) {
		return i.leaf, nil
	}
	leaf, err := makeLeaf(i.ca, i.host, now)
	if err != nil {
		return nil, fmt.Errorf("local TLS certificate: %w", err)
	}
	i.leaf = chain(leaf, i.ca)
	return i.leaf, nil
}

// CAPEM is the authority's certificate for clients to trust.
func (i *Identity) CAPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.ca.certificate.Raw})
}

// CAExpiresSoon says when the authority ends, if that is within half a year: clients will then have to
// trust a new one.
func (i *Identity) CAExpiresSoon(now time.Time) (time.Time, bool) {
	end := i.ca.certificate.NotAfter
	return end, now.Add(warnCA).After(end)
}
