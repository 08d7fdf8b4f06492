package bridge

import (
	"context"
	"strings"

	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// learnGossip takes the certificates of the other recipients from the Autocrypt-Gossip fields inside an encrypted message
// (Autocrypt 1.1 §5.1), so that an answer to all can be encrypted. Anybody can encrypt a message to us and name any
// certificate for any address. Therefore the message must be signed, and well, by a contact who is in use: one to whom the user has
// written, or about whom he has decided. Otherwise a stranger could bring a certificate of his own for somebody whom the user writes
// to next. It is learnt at the first opening alone, and about nobody but those in To and Cc.
func (a *Account) learnGossip(ctx context.Context, r *pgpmime.Result, v verdict, signers map[keydisc.Fingerprint]contacts.Contact) {
	if r.Encryption != pgpmime.EncryptionOpenPGP || len(r.Gossip) == 0 || !vouchesForHeader(v) || !signers[v.signer].InUse {
		return
	}
	header, err := mimescan.ReadTop(r.Message)
	if err != nil {
		return
	}
	effective := a.bridge.now()
	if date, err := mimescan.ParseDate(header.Get("Date")); err == nil && date.Before(effective) {
		effective = date
	}
	for address, certificate := range a.gossipFor(r.Gossip, header) {
		if err := a.bridge.contacts.Learn(ctx, address, certificate, contacts.SourceGossip, effective); err != nil {
			a.log.Debug("a certificate in an Autocrypt-Gossip field was not taken", "cause", err)
		}
	}
}

// vouchesForHeader says whether the good signature is over the header as well: else anybody could put a signed message into
// another one with fields of his own on top.
func vouchesForHeader(v verdict) bool {
	return v.signature == pgpmime.SignatureGood && v.reason == ""
}

// gossipFor are the certificates told of those in To and Cc who are not accounts of ours. What is told twice of one is told of none.
func (a *Account) gossipFor(fields []string, header mimescan.Header) map[string]*keydisc.Certificate {
	told := map[string]*keydisc.Certificate{}
	for _, field := range fields {
		parsed, err := keydisc.ParseAutocrypt(field)
		if err != nil {
			continue
		}
		certificate := parsed.Certificate
		if _, twice := told[parsed.Address]; twice {
			certificate = nil
		}
		told[parsed.Address] = certificate
	}
	visible := map[string]bool{}
	for _, address := range addressesIn(strings.Join(append(header.Values("To"), header.Values("Cc")...), ", ")) {
		visible[normalized(address)] = true
	}
	for address, certificate := range told {
		if _, own := a.bridge.Account(address); own || certificate == nil || !visible[address] {
			delete(told, address)
		}
	}
	return told
}
