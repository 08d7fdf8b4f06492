package keyring

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/keydisc"
)

// maxImport bounds the keys to import, in bytes.
const maxImport = 1 << 20

// Import adds transferable secret keys, armored or binary, unlocking them with the
// passphrase if they are protected, and makes the first new one primary. A key that is there already gains what the
// other copy has, a revocation, too: nothing is lost, and nothing else put into use. Keys without a user ID of the account's addresses are left out, and refused if there are
// no others; so are keys that cannot encrypt and sign, and public keys.
func (r *Ring) Import(ctx context.Context, data, passphrase []byte, addresses []string, now time.Time) ([]Key, error) {
	if len(data) > maxImport {
		return nil, fmt.Errorf("the file is larger than %d bytes; export one key only", maxImport)
	}
	entities, err := readSecretKeys(data)
	if err != nil {
		return nil, fmt.Errorf("no OpenPGP key could be read: %w", err)
	}
	for _, entity := range entities { // which may take long, and nobody else is to wait for it
		if err := unlock(entity, passphrase); err != nil {
			return nil, fmt.Errorf("key %X: %w", entity.PrimaryKey.Fingerprint, err)
		}
	}
	var added []ownKey
	err = r.update(ctx, func(keys []ownKey) (_ []ownKey, err error) {
		if added, err = importAll(keys, entities, addresses, now); err != nil {
			return nil, err
		}
		first := firstNew(keys, added)
		for _, k := range added {
			keys = put(keys, k)
		}
		return succeed(prefer(keys, first), now), nil
	})
	if err != nil {
		return nil, err
	}
	return r.listed(added), nil
}

// importAll are those of the unlocked keys that are for the account, each together with our copy of it.
func importAll(keys []ownKey, entities openpgp.EntityList, addresses []string, now time.Time) (added []ownKey, err error) {
	var others error
	for _, entity := range entities {
		k, err := importable(entity, copyOf(entity, slices.Concat(added, keys)), addresses, now)
		var other *otherAddressError
		if errors.As(err, &other) { // a backup of a mail program with several accounts has such
			others = errors.Join(others, fmt.Errorf("key %X: %w", entity.PrimaryKey.Fingerprint, err))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("key %X: %w", entity.PrimaryKey.Fingerprint, err)
		}
		added = put(added, k)
	}
	if len(added) == 0 {
		return nil, cmp.Or(others, errors.New("the file holds no key"))
	}
	return added, nil
}

// copyOf is the first copy that there is of a key; nil if there is none.
func copyOf(entity *openpgp.Entity, keys []ownKey) *ownKey {
	for _, k := range keys {
		if string(k.Fingerprint) == fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint) {
			return &k
		}
	}
	return nil
}

// firstNew is the first key of those added that is not among the others; "" if all are.
func firstNew(keys, added []ownKey) keydisc.Fingerprint {
	for _, k := range added {
		if !slices.ContainsFunc(keys, func(own ownKey) bool { return own.Fingerprint == k.Fingerprint }) {
			return k.Fingerprint
		}
	}
	return ""
}

// otherAddressError says that a key is not for the account.
type otherAddressError struct{ has, wanted []string }

func (e *otherAddressError) Error() string {
	return fmt.Sprintf("it is for %s, not for %s; add a user ID to it, or an alias to the account", strings.Join(e.has, ", "), strings.Join(e.wanted, ", "))
}

// importable is an unlocked key as it will be stored, together with our copy of it unless that is nil.
func importable(entity *openpgp.Entity, own *ownKey, addresses []string, now time.Time) (ownKey, error) {
	if entity.PrivateKey.Dummy() && own == nil {
		return ownKey{}, errors.New("its primary secret key is missing; export the whole key")
	}
	entity, err := withOwn(entity, own)
	if err != nil {
		return ownKey{}, err
	}
	profile := profileOf(entity)
	if own != nil && own.Profile != Imported {
		profile = own.Profile // keys of earlier versions are not recognised
	}
	if profile != Imported && !entity.Revoked(now) { // the copy may be of years ago
		if _, err := renewSubkeys(entity, profile, now); err != nil {
			return ownKey{}, err
		}
	}
	if own == nil {
		if err := canWork(entity, now); err != nil {
			return ownKey{}, err
		}
	}
	k, err := reread(entity, Key{Profile: profile})
	if err != nil {
		return ownKey{}, err
	}
	has := k.Addresses
	if own != nil { // the copy may have revoked them
		has = slices.Concat(has, own.Addresses)
	}
	return k, forOneOf(has, addresses)
}

// forOneOf says whether a key is for one of the account's addresses.
func forOneOf(has, wanted []string) error {
	for _, address := range wanted {
		if plain, err := keydisc.NormalizeAddress(address); err == nil && slices.Contains(has, plain) {
			return nil
		}
	}
	return &otherAddressError{has, wanted}
}

// withOwn is a key together with our copy of it unless that is nil, and with the subkeys that other devices have made of it.
func withOwn(entity *openpgp.Entity, copied *ownKey) (*openpgp.Entity, error) {
	secrets := privateParts(entity)
	certificate, err := publicPart(entity)
	if err != nil {
		return nil, err
	}
	if copied == nil {
		return assemble(certificate, secrets)
	}
	own, err := copied.entity()
	if err != nil {
		return nil, err
	}
	if certificate, err = copied.certificate.Merge(certificate); err != nil {
		return nil, err
	}
	maps.Copy(secrets, privateParts(own))
	return assemble(certificate, secrets)
}

func publicPart(entity *openpgp.Entity) (*keydisc.Certificate, error) {
	var public bytes.Buffer
	if err := entity.Serialize(&public); err != nil {
		return nil, err
	}
	certificates, err := keydisc.ParseCertificates(public.Bytes())
	if err != nil {
		return nil, err
	}
	return certificates[0], nil
}

// privateParts are the secrets of a key by fingerprint.
func privateParts(entity *openpgp.Entity) map[string]*packet.PrivateKey {
	parts := map[string]*packet.PrivateKey{string(entity.PrimaryKey.Fingerprint): entity.PrivateKey}
	for _, s := range entity.Subkeys {
		if s.PrivateKey != nil && !s.PrivateKey.Dummy() {
			parts[string(s.PublicKey.Fingerprint)] = s.PrivateKey
		}
	}
	return parts
}

// assemble puts secrets to a certificate. Subkeys whose secrets are neither there nor can be derived are left out: a copy of the
// certificate elsewhere keeps them.
func assemble(certificate *keydisc.Certificate, secrets map[string]*packet.PrivateKey) (*openpgp.Entity, error) {
	entity, err := certificate.Entity()
	if err != nil {
		return nil, err
	}
	entity.PrivateKey = secrets[string(entity.PrimaryKey.Fingerprint)]
	for i := range entity.Subkeys {
		entity.Subkeys[i].PrivateKey = secrets[string(entity.Subkeys[i].PublicKey.Fingerprint)]
	}
	if err := completeSubkeys(entity); err != nil {
		return nil, err
	}
	entity.Subkeys = slices.DeleteFunc(entity.Subkeys, func(s openpgp.Subkey) bool { return s.PrivateKey == nil })
	return entity, nil
}

// profileOf recognises a key that we have made, on whatever device: its first subkeys are derived.
func profileOf(entity *openpgp.Entity) Profile {
	for _, p := range []Profile{PQC, Compatible, V6, PQCV6} {
		if made := kinds[p]; made.primary == entity.PrimaryKey.PubKeyAlgo && made.v6 == (entity.PrimaryKey.Version == 6) && made.begins(entity) {
			return p
		}
	}
	return Imported
}

// begins says whether the key has the derived subkeys that a key of this kind begins with.
func (k kind) begins(entity *openpgp.Entity) bool {
	for _, algorithm := range k.encryption {
		trial := *entity
		trial.Subkeys = nil
		if err := addSubkey(&trial, algorithm, entity.PrimaryKey.CreationTime); err != nil {
			return false
		}
		if !slices.ContainsFunc(entity.Subkeys, func(s openpgp.Subkey) bool {
			return bytes.Equal(s.PublicKey.Fingerprint, trial.Subkeys[0].PublicKey.Fingerprint)
		}) {
			return false
		}
	}
	return true
}

// unlock removes the passphrase from all parts of a secret key that have one.
func unlock(entity *openpgp.Entity, passphrase []byte) error {
	if entity.PrivateKey == nil {
		return errors.New("this is a certificate without its secret key; export the secret key from your other program")
	}
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
func canWork(entity *openpgp.Entity, now time.Time) error {
	signing, ok := entity.SigningKey(now, nil)
	if !ok || signing.PrivateKey == nil || signing.PrivateKey.Dummy() {
		return errors.New("it cannot sign now (expired, revoked, or without that secret part)")
	}
	encryption, ok := entity.EncryptionKey(now, nil)
	if !ok || encryption.PrivateKey == nil || encryption.PrivateKey.Dummy() {
		return errors.New("it cannot decrypt now (expired, revoked, or without that secret part)")
	}
	return nil
}

// Learn takes from a copy of an own certificate that was met elsewhere (in a directory, say) what another device has done
// to the key: subkeys, a later end, a revocation. changed says whether there was any news; a certificate of none of the keys
// has none.
func (r *Ring) Learn(ctx context.Context, met *keydisc.Certificate, now time.Time) (changed bool, err error) {
	own, err := r.CertificateOf(met.Fingerprint())
	if errors.Is(err, ErrNoKey) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if merged, err := own.Update(met); err != nil || bytes.Equal(merged.Bytes(), own.Bytes()) {
		return false, err
	}
	_, err = r.change(ctx, own.Fingerprint(), now, func(entity *openpgp.Entity) error {
		own, err := publicPart(entity)
		if err != nil {
			return err
		}
		merged, err := own.Update(met)
		if err != nil {
			return err
		}
		complete, err := assemble(merged, privateParts(entity))
		if err != nil {
			return err
		}
		after, err := publicPart(complete)
		if err != nil {
			return err
		}
		changed = !bytes.Equal(after.Bytes(), own.Bytes())
		*entity = *complete
		return nil
	}, &changed)
	return changed && err == nil, err
}
