package keydisc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
)

// Refresh asks the servers that answer for a fingerprint (VKS, HKP) at once for news of a known certificate,
// within Options.Timeout and ctx; other methods are not asked. What it returns may have no user ID, or others than
// the known one has, as its source is not asked about an address and does not authenticate any: it is for
// Certificate.Update alone. None and no error means that no server has it. The error joins the causes why
// there may be more, and names method and host.
func (f *Finder) Refresh(ctx context.Context, fp Fingerprint) (found []Found, err error) {
	if !isFingerprint(fp) {
		return nil, fmt.Errorf("%q is not the fingerprint of a certificate", fp)
	}
	ctx, cancel := context.WithTimeout(ctx, f.options.Timeout)
	defer cancel()
	replies := atOnce(f.methods, func(m method) ([]*Certificate, error) {
		if m.refresh == nil {
			return nil, nil
		}
		return m.refresh(ctx, fp)
	})
	for i, m := range f.methods {
		for _, c := range replies[i].certificates {
			found = append(found, Found{Certificate: c, Source: m.name})
		}
		if replies[i].err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", m.name, replies[i].err))
		}
	}
	return found, err
}

func isFingerprint(fp Fingerprint) bool {
	raw, err := hex.DecodeString(string(fp))
	return err == nil && (len(raw) == 20 || len(raw) == 32) && fingerprintOf(raw) == fp
}

// Update adds to the certificate what news of it brings (revocations, subkeys, newer self-signatures), but
// never a user ID. Both must have the same fingerprint; the news may have no user ID at all, see Refresh.
func (c *Certificate) Update(news *Certificate) (*Certificate, error) {
	if c.fingerprint != news.fingerprint {
		return nil, fmt.Errorf("certificates %s and %s are not the same", c.fingerprint, news.fingerprint)
	}
	e, err := c.Entity()
	if err != nil {
		return nil, err
	}
	o, err := news.Entity()
	if err != nil {
		return nil, err
	}
	for name := range o.Identities {
		if _, ok := e.Identities[name]; !ok {
			delete(o.Identities, name)
		}
	}
	mergeEntity(e, o)
	return fromEntity(e)
}

// ParseUpdate reads what a server has sent of the known certificate, with or without user IDs, like
// ParseCertificates, and is the certificate after all of it, see Update. The error says that there is nothing of this
// certificate in it.
func ParseUpdate(b []byte, known *Certificate) (*Certificate, error) {
	updates, err := updatesOf(b, known.fingerprint)
	if err != nil {
		return nil, err
	}
	for _, u := range updates {
		if known, err = known.Update(u); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// updatesOf is what a server has sent of the certificate with that fingerprint. A server that sends
// something else has not given an answer.
func updatesOf(b []byte, fp Fingerprint) (updates []*Certificate, err error) {
	if len(b) > maxInput {
		return nil, fmt.Errorf("certificates of %d bytes are more than %d", len(b), maxInput)
	}
	entities, err := readBlocks(b, readPartial)
	if err != nil {
		return nil, fmt.Errorf("not an OpenPGP certificate: %w", err)
	}
	for _, e := range entities {
		if fingerprintOf(e.PrimaryKey.Fingerprint) != fp {
			continue
		}
		// What it brings is judged before it is merged: else forged signatures would count among the
		// known ones, and push those out of the limits.
		c, err := fromPartial(e)
		if err != nil {
			return nil, err
		}
		updates = append(updates, c)
	}
	if len(updates) == 0 {
		return nil, fmt.Errorf("the server sent nothing of certificate %s", fp)
	}
	return updates, nil
}
