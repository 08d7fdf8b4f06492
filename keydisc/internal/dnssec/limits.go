package dnssec

import "errors"

// Limits of one Lookup. Whoever runs a zone, or the way to it, chooses what we compute: without limits, one
// message costs minutes (CVE-2023-50387 KeyTrap, CVE-2023-50868).
const (
	maxAliases       = 8   // followed
	maxQueries       = 60  // sent, not counting what is repeated to another server
	maxRecords       = 256 // in an answer's two sections
	maxKeys          = 32  // in a DNSKEY RRset
	maxSignatures    = 8   // of one RRset; others are not looked at
	maxTries         = 8   // verifications for one RRset
	maxVerifications = 200
	maxProofs        = 8    // NSEC or NSEC3 records of one answer; others are not looked at
	maxIterations    = 100  // of NSEC3; beyond, the zone counts as not signed (RFC 9276 §3.2)
	maxHashes        = 2000 // names hashed for NSEC3
)

// spent counts towards the limits.
type spent struct{ queries, verifications, hashes int }

// errCostly ends a Lookup. It must never be taken for a failed proof that another one can replace.
var errCostly = errors.New("the answer takes more work than any honest one")

// spend counts one more; errCostly if that is too many.
func spend(counter *int, limit int) error {
	if *counter++; *counter > limit {
		return errCostly
	}
	return nil
}
