package keydisc

import (
	"errors"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// isPartial says that it lacks what makes a certificate one (RFC 9580 §10.1.1, §10.1.3). Such come as news of one
// that is known.
func isPartial(e *openpgp.Entity) bool {
	if e.PrimaryKey.Version >= 6 {
		return len(e.DirectSignatures) == 0
	}
	return len(e.Identities) == 0
}

// readPartial reads certificates that may be partial, which go-crypto's own ReadKeyRing refuses. Nothing is verified
// yet. ErrSecretKey if one is secret.
func readPartial(r io.Reader) (openpgp.EntityList, error) {
	var p partialReader
	for packets := packet.NewReader(r); ; {
		next, err := packets.NextWithUnsupported()
		if errors.Is(err, io.EOF) {
			return p.entities, nil
		}
		if err != nil {
			return nil, err
		}
		if err := p.take(next); err != nil {
			return nil, err
		}
	}
}

// partialReader puts the packets of certificates together.
type partialReader struct {
	entities openpgp.EntityList
	current  *openpgp.Entity         // nil: one that is not supported, or none yet
	attach   func(*packet.Signature) // to the component that it follows; nil: to none that matters
}

func (p *partialReader) take(next packet.Packet) error {
	unsupported, isUnsupported := next.(*packet.UnsupportedPacket)
	if isUnsupported {
		next = unsupported.IncompletePacket
	}
	switch part := next.(type) {
	case *packet.PrivateKey:
		return ErrSecretKey
	case *packet.Signature:
		if p.attach != nil && !isUnsupported {
			p.attach(part)
		}
	case *packet.PublicKey:
		p.key(part, isUnsupported)
	case *packet.UserId:
		p.userID(part)
	default:
		p.attach = nil
	}
	return nil
}

// key begins a certificate or adds a subkey.
func (p *partialReader) key(k *packet.PublicKey, unsupported bool) {
	p.attach = nil
	switch {
	case !k.IsSubkey && (unsupported || !k.PubKeyAlgo.CanSign()):
		p.current = nil
	case !k.IsSubkey:
		e := &openpgp.Entity{PrimaryKey: k, Identities: map[string]*openpgp.Identity{}}
		p.entities, p.current = append(p.entities, e), e
		p.attach = func(s *packet.Signature) { attachToPrimary(e, s) }
	case p.current != nil && !unsupported:
		e, i := p.current, len(p.current.Subkeys)
		e.Subkeys = append(e.Subkeys, openpgp.Subkey{Primary: e, PublicKey: k})
		p.attach = func(s *packet.Signature) { attachToSubkey(&e.Subkeys[i], s) }
	}
}

func (p *partialReader) userID(u *packet.UserId) {
	p.attach = nil
	if p.current == nil {
		return
	}
	e := p.current
	if e.Identities[u.Id] == nil {
		e.Identities[u.Id] = &openpgp.Identity{Primary: e, Name: u.Id, UserId: u}
	}
	p.attach = func(s *packet.Signature) { attachToUserID(e.Identities[u.Id], s) }
}

func attachToPrimary(e *openpgp.Entity, s *packet.Signature) {
	switch s.SigType {
	case packet.SigTypeKeyRevocation:
		e.Revocations = append(e.Revocations, packet.NewVerifiableSig(s))
	case packet.SigTypeDirectSignature:
		e.DirectSignatures = append(e.DirectSignatures, packet.NewVerifiableSig(s))
	}
}

func attachToSubkey(k *openpgp.Subkey, s *packet.Signature) {
	switch s.SigType {
	case packet.SigTypeSubkeyRevocation:
		k.Revocations = append(k.Revocations, packet.NewVerifiableSig(s))
	case packet.SigTypeSubkeyBinding:
		k.Bindings = append(k.Bindings, packet.NewVerifiableSig(s))
	}
}

// attachToUserID leaves out the certifications by others.
func attachToUserID(id *openpgp.Identity, s *packet.Signature) {
	if !s.CheckKeyIdOrFingerprint(id.Primary.PrimaryKey) {
		return
	}
	switch s.SigType {
	case packet.SigTypeCertificationRevocation:
		id.Revocations = append(id.Revocations, packet.NewVerifiableSig(s))
	case packet.SigTypeGenericCert, packet.SigTypePersonaCert, packet.SigTypeCasualCert, packet.SigTypePositiveCert:
		id.SelfCertifications = append(id.SelfCertifications, packet.NewVerifiableSig(s))
	}
}
