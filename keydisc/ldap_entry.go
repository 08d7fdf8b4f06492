package keydisc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// keyAttributes hold certificates: of GnuPG's key server schema (doc/ldap/gnupg-ldap-schema.ldif), and of
// persons' entries. The legacy PGP server used pgpKeyV2.
var keyAttributes = []string{"pgpKey", "pgpKeyV2", "userPGPKey", "openPGPKey"}

// The flags of an entry in GnuPG's schema. They are the directory's word, not the certificate's.
const (
	attributeRevoked  = "pgpRevoked"
	attributeDisabled = "pgpDisabled"
)

var ldapAttributes = append([]string{attributeRevoked, attributeDisabled}, keyAttributes...)

// ldapFilter finds the address in GnuPG's schema, as dirmngr does (ks-engine-ldap.c, keyspec_to_ldap_filter: gpgMailbox in
// version 2 of the schema, pgpUserID in version 1), and in persons' entries with a certificate. dirmngr leaves out
// what is flagged as revoked or disabled in version 2; here both are found, as a revocation is news, and as "there is
// none" would be wrong. An attribute that the server does not know matches nothing (RFC 4511 §4.5.1.7).
func ldapFilter(address string) string {
	a := ldap.EscapeFilter(address)
	var person strings.Builder
	for _, name := range keyAttributes {
		person.WriteString("(" + name + "=*)")
	}
	keyServer := "(&(objectClass=pgpKeyInfo)(|(gpgMailbox=" + a + ")(pgpUserID=" + a + ")(pgpUserID=*<" + a + ">*)))"
	return "(|" + keyServer + "(&(mail=" + a + ")(|" + person.String() + ")))"
}

// entryCertificates are the certificates for the address in an entry's values, armored or binary. An error says
// that one of them is not that, or may not be used.
func entryCertificates(e *ldap.Entry, address string, now time.Time) (certificates []*Certificate, err error) {
	disabled, revoked := isSet(e, attributeDisabled), isSet(e, attributeRevoked)
	values := 0
	for _, a := range e.Attributes {
		if !isKeyAttribute(a.Name) {
			continue
		}
		for _, value := range a.ByteValues {
			values++
			own, e := certificatesFor(value, address)
			err = errors.Join(err, e)
			for _, c := range own {
				if disabled || revoked && !isRevoked(c, address, now) {
					err = errors.Join(err, fmt.Errorf("the directory has withdrawn certificate %s", c.Fingerprint()))
					continue
				}
				certificates = append(certificates, c)
			}
		}
	}
	if values == 0 {
		return nil, errors.New("an entry has no certificate that may be read")
	}
	return certificates, err
}

// isKeyAttribute leaves out the options that a name may have (RFC 4512 §2.5), such as ";binary".
func isKeyAttribute(name string) bool {
	name, _, _ = strings.Cut(name, ";")
	return slices.ContainsFunc(keyAttributes, func(k string) bool { return strings.EqualFold(k, name) })
}

func isSet(e *ldap.Entry, flag string) bool { return e.GetEqualFoldAttributeValue(flag) == "1" }

func isRevoked(c *Certificate, address string, now time.Time) bool {
	var unusable *UnusableError
	return errors.As(c.Check(address, now), &unusable) && unusable.Reason == ReasonRevoked
}
