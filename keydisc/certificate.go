package keydisc

import (
	"errors"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Fingerprint identifies a certificate: 40 (version 4) or 64 (version 6) upper-case
// hexadecimal digits (RFC 9580 §5.5.4). A key ID is never an identity here.
type Fingerprint string

// Certificate is an OpenPGP certificate (a transferable public key, RFC 9580 §10.1).
// It never holds secret material and is safe for concurrent use.
type Certificate struct {
	// unexported: serialized bytes, parsed facts
}

// ErrSecretKey says that the input holds secret key material, which does not
// belong in a certificate and is never imported as one.
var ErrSecretKey = errors.New("input holds a secret key")

// ParseCertificates reads one or more certificates, ASCII-armored or binary.
// Unknown packets and user attributes are dropped.
func ParseCertificates(b []byte) ([]*Certificate, error) { panic("stub") }

// Fingerprint of the primary key.
func (c *Certificate) Fingerprint() Fingerprint { panic("stub") }

// Addresses are the addr-specs of the valid user IDs, in lower case, without display names.
func (c *Certificate) Addresses() []string { panic("stub") }

// Bytes is the binary serialization. The caller must not change it.
func (c *Certificate) Bytes() []byte { panic("stub") }

// ForAddress is the certificate with only the user IDs of that address.
func (c *Certificate) ForAddress(address string) (*Certificate, error) { panic("stub") }

// Merge adds what other knows of the same certificate (new subkeys, self-signatures,
// revocations). Both must have the same fingerprint.
func (c *Certificate) Merge(other *Certificate) (*Certificate, error) { panic("stub") }

// Check says whether mail to address may be encrypted to the certificate at that time.
// The error is an *UnusableError.
func (c *Certificate) Check(address string, at time.Time) error { panic("stub") }

// Created and Expires of the primary key; Expires is zero if it does not expire.
func (c *Certificate) Created() time.Time { panic("stub") }
func (c *Certificate) Expires() time.Time { panic("stub") }

// PostQuantum says whether the subkey that encryption would choose at that time is
// post-quantum (RFC 9980).
func (c *Certificate) PostQuantum(at time.Time) bool { panic("stub") }

// Entity is a fresh copy for go-crypto: an Entity is not safe for concurrent use, so
// every goroutine takes its own.
func (c *Certificate) Entity() (*openpgp.Entity, error) { panic("stub") }

// Reason is a stable token for why a certificate cannot be used.
type Reason string

// The reasons of an UnusableError.
const (
	ReasonAddress   Reason = "wrong-address"
	ReasonRevoked   Reason = "revoked"
	ReasonExpired   Reason = "expired"
	ReasonNoEncrypt Reason = "cannot-encrypt"
	ReasonWeak      Reason = "too-weak"
)

// UnusableError says why a certificate may not be encrypted to.
type UnusableError struct {
	Fingerprint Fingerprint
	Reason      Reason
	Detail      string
}

func (e *UnusableError) Error() string { return string(e.Fingerprint) + ": " + e.Detail }
