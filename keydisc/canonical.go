package keydisc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Limits of one certificate: what is beyond is dropped, so that a flooded certificate costs little.
const (
	maxUserIDs    = 100
	maxSubkeys    = 50
	maxSignatures = 50  // of one kind on one component; the newest stay
	maxForged     = 200 // signatures that do not verify; what comes after them is not looked at
	maxKeyBits    = 8192
)

// costly says whether one signature by the key may take very long to verify: the parameters of DSA, weak
// as it is (RFC 9580 §9.1 lets nobody make such keys), have no limit but the packet's.
func costly(k *packet.PublicKey) bool {
	bits, err := k.BitLength()
	switch k.PubKeyAlgo {
	case packet.PubKeyAlgoDSA:
		return true
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		return err != nil || bits > maxKeyBits
	}
	return false
}

// trim drops what nobody needs and what there is too much of. It counts only what the primary key itself has
// signed: go-crypto verifies when it uses a signature, which is too late for choosing which to keep.
func trim(e *openpgp.Entity) {
	var t trimmer
	primary := e.PrimaryKey
	e.Revocations = t.genuine(e.Revocations, primary.VerifyRevocationSignature)
	e.DirectSignatures = t.genuine(e.DirectSignatures, primary.VerifyDirectKeySignature)
	for _, name := range sortedNames(e) {
		id := e.Identities[name]
		verify := func(s *packet.Signature) error { return primary.VerifyUserIdSignature(name, primary, s) }
		id.OtherCertifications = nil
		id.SelfCertifications, id.Revocations = t.genuine(id.SelfCertifications, verify), t.genuine(id.Revocations, verify)
		if t.userIDs >= maxUserIDs || len(id.SelfCertifications) == 0 {
			delete(e.Identities, name)
			continue
		}
		t.userIDs++
	}
	e.Subkeys = t.subkeys(primary, e.Subkeys)
}

// trimmer counts over one certificate.
type trimmer struct{ forged, userIDs int }

func (t *trimmer) subkeys(primary *packet.PublicKey, all []openpgp.Subkey) (kept []openpgp.Subkey) {
	for _, s := range all {
		if costly(s.PublicKey) { // a signing subkey signs its binding, too
			continue
		}
		s.Bindings = t.genuine(s.Bindings, func(b *packet.Signature) error { return primary.VerifyKeySignature(s.PublicKey, b) })
		s.Revocations = t.genuine(s.Revocations, func(r *packet.Signature) error { return primary.VerifySubkeyRevocationSignature(r, s.PublicKey) })
		if len(s.Bindings) > 0 && len(kept) < maxSubkeys {
			kept = append(kept, s)
		}
	}
	return kept
}

// genuine keeps each signature that verifies once, the newest first, and at most maxSignatures.
func (t *trimmer) genuine(signatures []*packet.VerifiableSignature, verify func(*packet.Signature) error) (kept []*packet.VerifiableSignature) {
	signatures = slices.Clone(signatures)
	slices.SortStableFunc(signatures, func(a, b *packet.VerifiableSignature) int {
		return b.Packet.CreationTime.Compare(a.Packet.CreationTime)
	})
	seen := map[string]bool{}
	for _, s := range signatures {
		var b bytes.Buffer
		if len(kept) == maxSignatures || t.forged == maxForged {
			break
		}
		if s.Packet.Serialize(&b) != nil || seen[b.String()] {
			continue
		}
		seen[b.String()] = true
		if verify(s.Packet) != nil {
			t.forged++
			continue
		}
		kept = append(kept, s)
	}
	return kept
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
