package keydisc

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Limits of one input and of one certificate: what is beyond is dropped or refused, so that a
// flooded certificate costs little.
const (
	maxInput      = 1 << 20 // bytes
	maxUserIDs    = 100
	maxSubkeys    = 50
	maxSignatures = 50 // of one kind on one component; the newest stay
)

// Fingerprint identifies a certificate: 40 (version 4) or 64 (version 6) upper-case
// hexadecimal digits (RFC 9580 §5.5.4). A key ID is never an identity here.
type Fingerprint string

// Certificate is an OpenPGP certificate (a transferable public key, RFC 9580 §10.1).
// It never holds secret material and is safe for concurrent use.
type Certificate struct {
	data        []byte
	fingerprint Fingerprint
	addresses   []string
	keyIDs      []uint64
	created     time.Time
	expires     time.Time
}

// ErrSecretKey says that the input holds secret key material, which does not
// belong in a certificate and is never imported as one.
var ErrSecretKey = errors.New("input holds a secret key")

// ParseCertificates reads one or more certificates, ASCII-armored or binary, of at most
// 1 MiB together. Unknown packets, user attributes and other people's certifications are
// dropped.
func ParseCertificates(b []byte) ([]*Certificate, error) {
	if len(b) > maxInput {
		return nil, fmt.Errorf("certificates of %d bytes are more than %d", len(b), maxInput)
	}
	entities, err := readEntities(b)
	if err != nil {
		return nil, fmt.Errorf("not an OpenPGP certificate: %w", err)
	}
	var certificates []*Certificate
	for _, e := range entities {
		c, err := fromEntity(e)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, c)
	}
	if len(certificates) == 0 {
		return nil, errors.New("no OpenPGP certificate found")
	}
	return certificates, nil
}

// readEntities tells armor from binary by the first octet, whose high bit every packet has set
// (RFC 9580 §4.2). Armor may hold several blocks.
func readEntities(b []byte) (openpgp.EntityList, error) {
	if len(b) > 0 && b[0]&0x80 != 0 {
		return openpgp.ReadKeyRing(bytes.NewReader(b))
	}
	var all openpgp.EntityList
	for r := bytes.NewReader(b); ; {
		block, err := armor.Decode(r)
		if errors.Is(err, io.EOF) && len(all) > 0 {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if block.Type == openpgp.PrivateKeyType {
			return nil, ErrSecretKey
		}
		entities, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, entities...)
	}
}

// fromEntity keeps what matters of an entity, serialized: an Entity itself must not be shared.
func fromEntity(e *openpgp.Entity) (*Certificate, error) {
	if e.PrivateKey != nil {
		return nil, ErrSecretKey
	}
	trim(e)
	data, err := serialize(e)
	if err != nil {
		return nil, err
	}
	c := &Certificate{
		data: data, fingerprint: Fingerprint(fmt.Sprintf("%X", e.PrimaryKey.Fingerprint)),
		created: e.PrimaryKey.CreationTime.UTC(), addresses: addressesOf(e),
		keyIDs: []uint64{e.PrimaryKey.KeyId},
	}
	for _, s := range e.Subkeys {
		c.keyIDs = append(c.keyIDs, s.PublicKey.KeyId)
	}
	// The zero date leaves time out: an expired certificate has an expiry, too.
	if sig, err := e.PrimarySelfSignature(time.Time{}, verifying()); err == nil && sig.KeyLifetimeSecs != nil && *sig.KeyLifetimeSecs > 0 {
		c.expires = c.created.Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second)
	}
	return c, nil
}

// trim drops what nobody needs and what there is too much of.
func trim(e *openpgp.Entity) {
	e.Revocations, e.DirectSignatures = newest(e.Revocations), newest(e.DirectSignatures)
	names := sortedNames(e)
	for i, name := range names {
		id := e.Identities[name]
		id.OtherCertifications = nil
		id.SelfCertifications, id.Revocations = newest(id.SelfCertifications), newest(id.Revocations)
		if i >= maxUserIDs || len(id.SelfCertifications) == 0 {
			delete(e.Identities, name)
		}
	}
	e.Subkeys = e.Subkeys[:min(len(e.Subkeys), maxSubkeys)]
	for i := range e.Subkeys {
		s := &e.Subkeys[i]
		s.Bindings, s.Revocations = newest(s.Bindings), newest(s.Revocations)
	}
}

// newest keeps each signature once and at most maxSignatures, the newest first.
func newest(signatures []*packet.VerifiableSignature) []*packet.VerifiableSignature {
	seen := map[string]bool{}
	var kept []*packet.VerifiableSignature
	for _, s := range signatures {
		var b bytes.Buffer
		if s.Packet.Serialize(&b) == nil && !seen[b.String()] {
			seen[b.String()] = true
			kept = append(kept, s)
		}
	}
	slices.SortStableFunc(kept, func(a, b *packet.VerifiableSignature) int {
		return b.Packet.CreationTime.Compare(a.Packet.CreationTime)
	})
	return kept[:min(len(kept), maxSignatures)]
}

func sortedNames(e *openpgp.Entity) []string {
	var names []string
	for name := range e.Identities {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// serialize writes the components in a fixed order: go-crypto's own order of user IDs changes from
// call to call.
func serialize(e *openpgp.Entity) ([]byte, error) {
	var b bytes.Buffer
	err := e.PrimaryKey.Serialize(&b)
	put := func(signatures []*packet.VerifiableSignature) {
		for _, s := range signatures {
			err = errors.Join(err, s.Packet.Serialize(&b))
		}
	}
	put(e.Revocations)
	put(e.DirectSignatures)
	for _, name := range sortedNames(e) {
		id := e.Identities[name]
		err = errors.Join(err, id.UserId.Serialize(&b))
		put(id.Revocations)
		put(id.SelfCertifications)
	}
	for _, s := range e.Subkeys {
		err = errors.Join(err, s.PublicKey.Serialize(&b))
		put(s.Revocations)
		put(s.Bindings)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %X: %w", e.PrimaryKey.Fingerprint, err)
	}
	return b.Bytes(), nil
}

// verifying is the configuration under which self-signatures count: no MD5, RIPEMD-160 or SHA-1 (RFC 9580
// §9.5), RSA of 2048 bits or more.
func verifying() *packet.Config {
	return &packet.Config{
		MinRSABits:           2048,
		RejectHashAlgorithms: map[crypto.Hash]bool{crypto.MD5: true, crypto.RIPEMD160: true, crypto.SHA1: true},
	}
}

// lenient is the same without SHA-1 being refused, to tell "too weak" from other reasons.
func lenient() *packet.Config { return &packet.Config{MinRSABits: 1} }

// addressesOf are the addr-specs of the user IDs that the key has signed for and not revoked.
func addressesOf(e *openpgp.Entity) []string {
	var addresses []string
	for _, name := range sortedNames(e) {
		id := e.Identities[name]
		if _, err := id.Verify(time.Time{}, lenient()); err != nil {
			continue
		}
		if address := addressOf(name); address != "" && !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// addressOf is the normalised addr-spec of a user ID: "Name <addr>", "<addr>" or "addr"; "" if there is none.
func addressOf(userID string) string {
	spec := userID
	if open := strings.LastIndexByte(userID, '<'); open >= 0 {
		if !strings.HasSuffix(strings.TrimSpace(userID), ">") {
			return ""
		}
		spec = strings.TrimSuffix(strings.TrimSpace(userID[open+1:]), ">")
	}
	address, err := NormalizeAddress(spec)
	if err != nil {
		return ""
	}
	return address
}

// NormalizeAddress is an addr-spec in the form in which addresses are compared: ASCII letters in lower
// case, as WKD does it. The error says that it is not a plain addr-spec.
func NormalizeAddress(address string) (string, error) {
	parsed, err := mail.ParseAddress("<" + strings.TrimSpace(address) + ">")
	if err != nil || strings.ContainsAny(parsed.Address, "\"<> \t\r\n") || strings.Count(parsed.Address, "@") != 1 {
		return "", fmt.Errorf("%q is not a mail address", address)
	}
	return asciiLower(parsed.Address), nil
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Fingerprint of the primary key.
func (c *Certificate) Fingerprint() Fingerprint { return c.fingerprint }

// Addresses are the addr-specs of the valid user IDs, in lower case, without display names.
func (c *Certificate) Addresses() []string { return slices.Clone(c.addresses) }

// Bytes is the binary serialization. The caller must not change it.
func (c *Certificate) Bytes() []byte { return c.data }

// Created of the primary key.
func (c *Certificate) Created() time.Time { return c.created }

// Expires of the primary key; zero if it does not expire.
func (c *Certificate) Expires() time.Time { return c.expires }

// HasKeyID says whether the primary key or a subkey has the key ID. It identifies nothing: any number of
// certificates may.
func (c *Certificate) HasKeyID(id uint64) bool { return slices.Contains(c.keyIDs, id) }

// ForAddress is the certificate with only the user IDs of that address; an error if it has none.
func (c *Certificate) ForAddress(address string) (*Certificate, error) {
	want, err := NormalizeAddress(address)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(c.addresses, want) {
		return nil, &UnusableError{c.fingerprint, ReasonAddress, "it is not for " + want}
	}
	e, err := c.Entity()
	if err != nil {
		return nil, err
	}
	for name := range e.Identities {
		if addressOf(name) != want {
			delete(e.Identities, name)
		}
	}
	return fromEntity(e)
}

// Entity is a fresh copy for go-crypto: an Entity is not safe for concurrent use, so
// every goroutine takes its own.
func (c *Certificate) Entity() (*openpgp.Entity, error) {
	entities, err := openpgp.ReadKeyRing(bytes.NewReader(c.data))
	if err != nil || len(entities) != 1 {
		return nil, fmt.Errorf("certificate %s cannot be read: %w", c.fingerprint, err)
	}
	return entities[0], nil
}

// PostQuantum says whether the subkey that encryption would choose at that time is
// post-quantum (RFC 9980).
func (c *Certificate) PostQuantum(at time.Time) bool {
	e, err := c.Entity()
	if err != nil {
		return false
	}
	key, ok := e.EncryptionKey(at, verifying())
	if !ok {
		return false
	}
	switch key.PublicKey.PubKeyAlgo {
	case packet.PubKeyAlgoMlkem768X25519, packet.PubKeyAlgoMlkem1024X448:
		return true
	}
	return false
}

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

// Check says whether mail to address may be encrypted to the certificate at that time.
// The error is an *UnusableError.
func (c *Certificate) Check(address string, at time.Time) error {
	unusable := func(r Reason, detail string) error { return &UnusableError{c.fingerprint, r, detail} }
	want, err := NormalizeAddress(address)
	if err != nil || !slices.Contains(c.addresses, want) {
		return unusable(ReasonAddress, "it is not for "+address)
	}
	e, err := c.Entity()
	if err != nil {
		return unusable(ReasonNoEncrypt, "it cannot be read")
	}
	_, err = e.VerifyPrimaryKey(at, lenient())
	switch {
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return unusable(ReasonRevoked, "it is revoked")
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return unusable(ReasonExpired, "it has expired")
	case err != nil:
		return unusable(ReasonNoEncrypt, "it is not valid at this time")
	}
	if _, ok := e.EncryptionKey(at, lenient()); !ok {
		return unusable(ReasonNoEncrypt, "it has no subkey to encrypt to at this time")
	}
	return c.checkStrength(want, at)
}

// checkStrength looks again with weak algorithms refused, at this address's user ID alone.
func (c *Certificate) checkStrength(address string, at time.Time) error {
	weak := &UnusableError{c.fingerprint, ReasonWeak, "it is bound by weak signatures or too short"}
	strict, err := c.ForAddress(address)
	if err != nil {
		return weak
	}
	e, err := strict.Entity()
	if err != nil {
		return weak
	}
	if _, ok := e.EncryptionKey(at, verifying()); !ok {
		return weak
	}
	return nil
}

// Merge adds what other knows of the same certificate (new subkeys, self-signatures,
// revocations). Both must have the same fingerprint.
func (c *Certificate) Merge(other *Certificate) (*Certificate, error) {
	if c.fingerprint != other.fingerprint {
		return nil, fmt.Errorf("certificates %s and %s are not the same", c.fingerprint, other.fingerprint)
	}
	if bytes.Equal(c.data, other.data) {
		return c, nil
	}
	e, err := c.Entity()
	if err != nil {
		return nil, err
	}
	o, err := other.Entity()
	if err != nil {
		return nil, err
	}
	mergeEntity(e, o)
	return fromEntity(e)
}

func mergeEntity(e, o *openpgp.Entity) {
	e.Revocations = append(e.Revocations, o.Revocations...)
	e.DirectSignatures = append(e.DirectSignatures, o.DirectSignatures...)
	for name, id := range o.Identities {
		if mine, ok := e.Identities[name]; ok {
			mine.SelfCertifications = append(mine.SelfCertifications, id.SelfCertifications...)
			mine.Revocations = append(mine.Revocations, id.Revocations...)
		} else {
			e.Identities[name] = id
		}
	}
	for _, s := range o.Subkeys {
		i := slices.IndexFunc(e.Subkeys, func(mine openpgp.Subkey) bool {
			return bytes.Equal(mine.PublicKey.Fingerprint, s.PublicKey.Fingerprint)
		})
		if i < 0 {
			e.Subkeys = append(e.Subkeys, s)
			continue
		}
		e.Subkeys[i].Bindings = append(e.Subkeys[i].Bindings, s.Bindings...)
		e.Subkeys[i].Revocations = append(e.Subkeys[i].Revocations, s.Revocations...)
	}
}
