package dnssec

import "github.com/miekg/dns"

// rootAnchors are the root zone's key-signing keys of 2017 and 2024 (data.iana.org/root-anchors/root-anchors.xml).
var rootAnchors = []*dns.DS{
	anchor(20326, "e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d"),
	anchor(38696, "683d2d0acb8c9b712a1948b27f741219298d0a450d612c483af444a4c0fb2b16"),
}

func anchor(tag uint16, digest string) *dns.DS {
	return &dns.DS{
		Hdr:    dns.RR_Header{Name: ".", Rrtype: dns.TypeDS, Class: dns.ClassINET},
		KeyTag: tag, Algorithm: dns.RSASHA256, DigestType: dns.SHA256, Digest: digest,
	}
}

// supportedAlgorithm says whether signatures of the algorithm are verified. SHA-1 is left out (RFC 9905), Ed448
// is not in the library.
func supportedAlgorithm(algorithm uint8) bool {
	switch algorithm {
	case dns.RSASHA256, dns.RSASHA512, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519:
		return true
	}
	return false
}

func supportedDS(ds *dns.DS) bool {
	return supportedAlgorithm(ds.Algorithm) && (ds.DigestType == dns.SHA256 || ds.DigestType == dns.SHA384)
}
