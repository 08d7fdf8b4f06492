package keydisc

import (
	"bufio"
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// maxInput bounds what is parsed at once, in bytes.
const maxInput = 1 << 20

// Fingerprint identifies a certificate: 40 (version 4) or 64 (version 6) upper-case
// hexadecimal digits (RFC 9580 §5.5.4). A key ID is never an identity here.
type Fingerprint string

func fingerprintOf(raw []byte) Fingerprint { return Fingerprint(fmt.Sprintf("%X", raw)) }

// Certificate is an OpenPGP certificate (a transferable public key, RFC 9580 §10.1).
// It never holds secret material and is safe for concurrent use.
type Certificate struct {
	data        []byte
	fingerprint Fingerprint
	addresses   []string
	keyIDs      []uint64
	created     time.Time
	expires     time.Time
	partial     bool          // see isPartial
	spare       spareEntities // see Borrow
	turns       Turns
	answers     answers // see Remember
}

// ErrSecretKey says that the input holds secret key material, which does not
// belong in a certificate and is never imported as one.
var ErrSecretKey = errors.New("input holds a secret key")

// ParseCertificates reads one or more certificates, ASCII-armored or binary, of at most
// 1 MiB together. Unknown packets, user attributes, other people's certifications and whatever the
// certificate's own key has not signed are dropped. Those of which nothing is left are skipped; an error
// says that none is left.
func ParseCertificates(b []byte) ([]*Certificate, error) {
	if len(b) > maxInput {
		return nil, fmt.Errorf("certificates of %d bytes are more than %d", len(b), maxInput)
	}
	certificates, err := parsed.of(b, parseCertificates)
	return slices.Clone(certificates), err
}

func parseCertificates(b []byte) ([]*Certificate, error) {
	entities, err := readBlocks(b, openpgp.ReadKeyRing)
	if err != nil {
		return nil, fmt.Errorf("not an OpenPGP certificate: %w", err)
	}
	var certificates []*Certificate
	problem := errors.New("no OpenPGP certificate found")
	for _, e := range entities {
		c, err := fromEntity(e)
		switch {
		case errors.Is(err, ErrSecretKey):
			return nil, err
		case err != nil:
			problem = err
		default:
			certificates = append(certificates, c)
		}
	}
	if len(certificates) == 0 {
		return nil, problem
	}
	return certificates, nil
}

// readBlocks tells armor from binary by the first octet, whose high bit every packet has set
// (RFC 9580 §4.2). Armor may hold several blocks.
func readBlocks(b []byte, read func(io.Reader) (openpgp.EntityList, error)) (openpgp.EntityList, error) {
	if len(b) > 0 && b[0]&0x80 != 0 {
		return read(bytes.NewReader(b))
	}
	if cutOff(b) {
		return nil, errCutOff
	}
	var all openpgp.EntityList
	// armor.Decode reads ahead, into a buffer of its own unless it is given one: the beginning of the next block would be lost.
	for r := bufio.NewReader(bytes.NewReader(b)); ; {
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
		entities, err := read(block.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, entities...)
	}
}

var errCutOff = errors.New("the armor is cut off: a block has no END line; get the whole of it")

var beginOrEnd = regexp.MustCompile(`(?m)^[ \t]*-----(BEGIN|END) PGP (?:PUBLIC|PRIVATE) KEY BLOCK-----`)

// cutOff says whether the last block of keys in armor has no end (RFC 9580 §6.2): what is lacking cannot be known.
func cutOff(b []byte) bool {
	all := beginOrEnd.FindAllSubmatch(b, -1)
	return len(all) > 0 && string(all[len(all)-1][1]) == "BEGIN"
}

// fromEntity keeps what matters of an entity, if that makes a certificate.
func fromEntity(e *openpgp.Entity) (*Certificate, error) {
	c, err := fromPartial(e)
	if err == nil && c.partial {
		return nil, fmt.Errorf("certificate %s: its key has signed no user ID", c.fingerprint)
	}
	return c, err
}

// fromPartial keeps what matters of an entity, serialized: an Entity itself must not be shared.
func fromPartial(e *openpgp.Entity) (*Certificate, error) {
	if e.PrivateKey != nil || slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool { return s.PrivateKey != nil }) {
		return nil, ErrSecretKey
	}
	if costly(e.PrimaryKey) {
		return nil, fmt.Errorf("certificate %X: its key is DSA or larger than %d bits, which is not supported", e.PrimaryKey.Fingerprint, maxKeyBits)
	}
	trim(e)
	data, err := serialize(e)
	if err != nil {
		return nil, err
	}
	c := &Certificate{
		data: data, fingerprint: fingerprintOf(e.PrimaryKey.Fingerprint),
		created: e.PrimaryKey.CreationTime.UTC(), addresses: addressesOf(e),
		keyIDs: []uint64{e.PrimaryKey.KeyId}, partial: isPartial(e), turns: TurnsOf(e),
	}
	for _, s := range e.Subkeys {
		c.keyIDs = append(c.keyIDs, s.PublicKey.KeyId)
	}
	// The zero date leaves time out: an expired certificate has an expiry, too.
	if sig, err := e.PrimarySelfSignature(time.Time{}, lenient()); err == nil && sig.KeyLifetimeSecs != nil && *sig.KeyLifetimeSecs > 0 {
		c.expires = c.created.Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second)
	}
	return c, nil
}

// verifying is the configuration under which self-signatures count: no MD5, RIPEMD-160 or SHA-1 (RFC 9580
// §9.5), RSA of 2048 bits or more.
func verifying() *packet.Config {
	return &packet.Config{
		MinRSABits:           2048,
		RejectHashAlgorithms: map[crypto.Hash]bool{crypto.MD5: true, crypto.RIPEMD160: true, crypto.SHA1: true},
	}
}

// lenient lets weak algorithms pass, to tell "too weak" from other reasons.
func lenient() *packet.Config {
	return &packet.Config{
		MinRSABits: 1, RejectPublicKeyAlgorithms: map[packet.PublicKeyAlgorithm]bool{}, RejectCurves: map[packet.Curve]bool{},
	}
}

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
	read := openpgp.ReadKeyRing
	if c.partial {
		read = readPartial
	}
	entities, err := read(bytes.NewReader(c.data))
	if err != nil || len(entities) != 1 {
		return nil, fmt.Errorf("certificate %s cannot be read: %w", c.fingerprint, err)
	}
	return entities[0], nil
}

// Borrow lends an Entity to one goroutine until it gives it back. What go-crypto has verified
// of it stays known, which a fresh copy would have to have verified again.
func (c *Certificate) Borrow() (e *openpgp.Entity, giveBack func(), err error) {
	if e = c.spare.take(); e == nil {
		if e, err = c.Entity(); err != nil {
			return nil, nil, err
		}
	}
	return e, func() { c.spare.put(e) }, nil
}

// spareEntities are a few that nobody uses. A sync.Pool forgets them at every garbage collection.
type spareEntities struct {
	mu  sync.Mutex
	all []*openpgp.Entity
}

const maxSpare = 4

func (s *spareEntities) take() *openpgp.Entity {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.all)
	if n == 0 {
		return nil
	}
	e := s.all[n-1]
	s.all = s.all[:n-1]
	return e
}

func (s *spareEntities) put(e *openpgp.Entity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) < maxSpare {
		s.all = append(s.all, e)
	}
}

// Revoked says whether its owner has revoked the certificate by that time.
func (c *Certificate) Revoked(at time.Time) bool {
	e, err := c.Entity()
	if err != nil {
		return false
	}
	_, err = e.VerifyPrimaryKey(at, lenient())
	return errors.Is(err, pgperrors.ErrKeyRevoked)
}

// PostQuantum says whether the subkey that encryption would choose at that time is
// post-quantum (RFC 9980).
func (c *Certificate) PostQuantum(at time.Time) bool {
	return Remember(c, at, "post-quantum", func() bool { return c.postQuantum(at) })
}

func (c *Certificate) postQuantum(at time.Time) bool {
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
	return Remember(c, at, "check "+address, func() error { return c.check(address, at) })
}

// CheckAny says whether a message may be encrypted to the certificate at that time, whoever it is for: an archive, or a company.
// The error is an *UnusableError.
func (c *Certificate) CheckAny(at time.Time) (err error) {
	err = &UnusableError{c.fingerprint, ReasonAddress, "it names no mail address"}
	for _, address := range c.addresses {
		if err = c.Check(address, at); err == nil {
			return nil
		}
	}
	return err
}

func (c *Certificate) check(address string, at time.Time) error {
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
		if encryptionExpired(e, at) {
			return unusable(ReasonExpired, "its encryption subkey has expired")
		}
		return unusable(ReasonNoEncrypt, "it has no subkey to encrypt to at this time")
	}
	return c.checkStrength(want, at)
}

// encryptionExpired says whether there once was a subkey to encrypt to.
func encryptionExpired(e *openpgp.Entity, at time.Time) bool {
	return slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool {
		_, err := s.Verify(at, lenient())
		return s.PublicKey.PubKeyAlgo.CanEncrypt() && errors.Is(err, pgperrors.ErrKeyExpired)
	})
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
