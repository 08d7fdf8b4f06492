package keyring

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/ecdsa"
	"github.com/ProtonMail/go-crypto/openpgp/ed25519"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/keydisc"
)

// keyLife is how long a generated key lasts.
const keyLife = 3 * 365 * 24 * time.Hour

// maxImport bounds the keys to import, in bytes.
const maxImport = 1 << 20

// Generate makes a key for the addresses (the first is the primary user ID) and makes it
// primary if it is the first of the ring. It lasts three years.
func (r *Ring) Generate(ctx context.Context, p Profile, addresses []string, now time.Time) (Key, error) {
	if p != Compatible && p != PQC {
		return Key{}, fmt.Errorf("profile %q is not known; use %s or %s", p, Compatible, PQC)
	}
	if len(addresses) == 0 {
		return Key{}, errors.New("a key needs an address")
	}
	entity, err := generate(p, addresses, now)
	if err != nil {
		return Key{}, fmt.Errorf("generating a key for %s: %w", addresses[0], err)
	}
	secret, err := serialize(entity)
	if err != nil {
		return Key{}, err
	}
	k, err := newOwnKey(secret, p, false)
	if err != nil {
		return Key{}, err
	}
	shown, err := r.add(ctx, []ownKey{k}, false)
	if err != nil {
		return Key{}, err
	}
	return shown[0], nil
}

// generate makes the entity. AEADConfig stays nil so that the certificate does not ask for
// SEIPDv2, which gpg 2.2 and most programs of today cannot read.
func generate(p Profile, addresses []string, now time.Time) (*openpgp.Entity, error) {
	config := &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, DefaultCipher: packet.CipherAES256,
		KeyLifetimeSecs: uint32(keyLife / time.Second), Time: func() time.Time { return now },
	}
	entity, err := openpgp.NewEntity("", "", addresses[0], config)
	if err != nil {
		return nil, err
	}
	for _, address := range addresses[1:] {
		if err := entity.AddUserId("", "", address, config); err != nil {
			return nil, err
		}
	}
	if p == PQC {
		pq := *config
		pq.Algorithm, pq.KeyLifetimeSecs = packet.PubKeyAlgoMlkem768X25519, 0
		err = entity.AddEncryptionSubkey(&pq)
	}
	return entity, err
}

// Import adds transferable secret keys, armored or binary, unlocking them with the
// passphrase if they are protected, and makes the first of them primary. It refuses keys
// without a user ID of the account's addresses, keys that cannot encrypt and sign, and public keys.
func (r *Ring) Import(ctx context.Context, data, passphrase []byte, addresses []string) ([]Key, error) {
	if len(data) > maxImport {
		return nil, fmt.Errorf("the file is larger than %d bytes; export one key only", maxImport)
	}
	entities, err := readSecretKeys(data)
	if err != nil {
		return nil, fmt.Errorf("no OpenPGP key could be read: %w", err)
	}
	var added []ownKey
	for _, entity := range entities {
		k, err := importable(entity, passphrase, addresses)
		if err != nil {
			return nil, fmt.Errorf("key %X: %w", entity.PrimaryKey.Fingerprint, err)
		}
		added = append(added, k)
	}
	if len(added) == 0 {
		return nil, errors.New("the file holds no key")
	}
	return r.add(ctx, added, true)
}

func importable(entity *openpgp.Entity, passphrase []byte, addresses []string) (ownKey, error) {
	if entity.PrivateKey == nil {
		return ownKey{}, errors.New("this is a certificate without its secret key; export the secret key from your other program")
	}
	if err := unlock(entity, passphrase); err != nil {
		return ownKey{}, err
	}
	if err := canWork(entity); err != nil {
		return ownKey{}, err
	}
	secret, err := serialize(entity)
	if err != nil {
		return ownKey{}, err
	}
	k, err := newOwnKey(secret, Imported, false)
	if err != nil {
		return ownKey{}, err
	}
	if !slices.ContainsFunc(k.Addresses, func(a string) bool {
		return slices.ContainsFunc(addresses, func(own string) bool { return strings.EqualFold(a, own) })
	}) {
		return ownKey{}, fmt.Errorf("it is for %s, not for %s; add a user ID to it, or an alias to the account",
			strings.Join(k.Addresses, ", "), strings.Join(addresses, ", "))
	}
	return k, nil
}

// unlock removes the passphrase from all parts that have one.
func unlock(entity *openpgp.Entity, passphrase []byte) error {
	locked := entity.PrivateKey.Encrypted
	for _, s := range entity.Subkeys {
		locked = locked || (s.PrivateKey != nil && s.PrivateKey.Encrypted)
	}
	if !locked {
		return nil
	}
	if len(passphrase) == 0 {
		return errors.New("it is protected by a passphrase; give it with --key-passphrase-file")
	}
	if err := affordable(entity); err != nil {
		return err
	}
	if err := entity.DecryptPrivateKeys(passphrase); err != nil {
		return errors.New("the passphrase does not unlock it")
	}
	return nil
}

// canWork refuses keys that mail could not be signed or decrypted with.
func canWork(entity *openpgp.Entity) error {
	now := time.Now()
	signing, ok := entity.SigningKey(now, nil)
	if !ok || signing.PrivateKey == nil || signing.PrivateKey.Dummy() {
		return errors.New("it cannot sign now (expired, revoked, or without that secret part)")
	}
	encryption, ok := entity.EncryptionKey(now, nil)
	if !ok || encryption.PrivateKey == nil || encryption.PrivateKey.Dummy() {
		return errors.New("it cannot decrypt now (expired, revoked, or without that secret part)")
	}
	if entity.PrivateKey.Dummy() {
		return errors.New("its primary secret key is missing; export the whole key")
	}
	return nil
}

// Export writes the armored secret key, locked with the passphrase (empty: unlocked,
// which the caller must have been asked for in so many words). gpg can import it.
func (r *Ring) Export(f keydisc.Fingerprint, passphrase []byte) ([]byte, error) {
	entity, err := r.unlocked(f)
	if err != nil {
		return nil, err
	}
	if len(passphrase) > 0 {
		if err := entity.EncryptPrivateKeys(passphrase, &packet.Config{DefaultCipher: packet.CipherAES256}); err != nil {
			return nil, fmt.Errorf("locking key %s: %w", f, err)
		}
	}
	secret, err := serialize(entity)
	if err != nil {
		return nil, err
	}
	return armorBlock(openpgp.PrivateKeyType, secret)
}

// ExportCertificate is the armored public part of a key.
func (r *Ring) ExportCertificate(f keydisc.Fingerprint) ([]byte, error) {
	certificate, err := r.CertificateOf(f)
	if err != nil {
		return nil, err
	}
	return armorBlock(openpgp.PublicKeyType, certificate.Bytes())
}

func armorBlock(kind string, data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(data)
	err = errors.Join(err, w.Close())
	b.WriteByte('\n')
	return b.Bytes(), err
}

// sealKeyOf derives the seal key from the numbers that make the primary key secret, which are the
// same whichever program wrote them; leading zeros are not.
func sealKeyOf(entity *openpgp.Entity) ([]byte, error) {
	var secret []byte
	switch key := entity.PrivateKey.PrivateKey.(type) {
	case *eddsa.PrivateKey:
		secret = key.D
	case *ed25519.PrivateKey:
		secret = key.Key
	case *ecdsa.PrivateKey:
		secret = key.D.Bytes()
	case *rsa.PrivateKey: // programs differ in D and in the order of the primes
		p, q := key.Primes[0], key.Primes[1]
		if p.Cmp(q) > 0 {
			p, q = q, p
		}
		secret = append(p.Bytes(), q.Bytes()...)
	default:
		return nil, fmt.Errorf("keys of this kind (%T) are not supported; use Ed25519, NIST curves or RSA", key)
	}
	return hkdf.Key(sha256.New, bytes.TrimLeft(secret, "\x00"), nil, "sealpost seal identifier", 32)
}
