package bridgetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// Authority signs server certificates for tests and the demo. It lives in this process only.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// CA is the one authority that all providers and directories of this process share.
var CA = sync.OnceValue(func() *Authority {
	a := &Authority{}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Sealpost test CA"}, NotAfter: time.Now().Add(leafLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if _, err := a.sign(template); err != nil {
		panic(err) // only if the system's source of randomness is broken
	}
	return a
})

const leafLife = 365 * 24 * time.Hour

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// Issue makes a server certificate for host names and IP addresses that ends at notAfter (zero: in
// a year; a time in the past makes an expired one).
func (a *Authority) Issue(notAfter time.Time, hosts ...string) (tls.Certificate, error) {
	if notAfter.IsZero() {
		notAfter = time.Now().Add(leafLife)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, NotAfter: notAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	certificate, err := a.sign(template)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate for %s: %w", hosts[0], err)
	}
	return *certificate, nil
}

// sign completes the template; the first certificate is the authority's own.
func (a *Authority) sign(template *x509.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	template.NotBefore = min2(time.Now(), template.NotAfter).Add(-time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if a.certificate == nil {
		a.certificate, a.key = leaf, key
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

func min2(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
