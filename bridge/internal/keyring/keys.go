package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/ecdsa"
	"github.com/ProtonMail/go-crypto/openpgp/ed25519"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/mldsa_eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/keydisc"
)

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

// sealKeyOf derives the seal key.
func sealKeyOf(entity *openpgp.Entity) ([]byte, error) {
	secret, err := secretOf(entity)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, secret, nil, "sealpost seal identifier", 32)
}

// secretOf is the numbers that make the primary key secret, which are the same whichever program wrote them; leading zeros
// are not.
func secretOf(entity *openpgp.Entity) ([]byte, error) {
	var secret []byte
	switch key := entity.PrivateKey.PrivateKey.(type) {
	case *eddsa.PrivateKey:
		secret = key.D
	case *ed25519.PrivateKey:
		secret = key.Key
	case *mldsa_eddsa.PrivateKey:
		secret = append(bytes.Clone(key.SecretEc), key.SecretMldsaSeed...)
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
	return bytes.TrimLeft(secret, "\x00"), nil
}
