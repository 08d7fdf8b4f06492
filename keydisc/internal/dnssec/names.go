package dnssec

import (
	"bytes"
	"slices"

	"github.com/miekg/dns"
)

// Names are in the form of dns.CanonicalName, with the dot at the end.

// lowest is the ancestor of the name (or itself) that has so many labels.
func lowest(name string, labels int) string {
	starts := dns.Split(name)
	if labels <= 0 || len(starts) == 0 {
		return "."
	}
	return name[starts[max(0, len(starts)-labels)]:]
}

// below says whether the name is under the other and not the same.
func below(name, other string) bool {
	return name != other && dns.IsSubDomain(other, name)
}

func wildcardOf(encloser string) string {
	if encloser == "." {
		return "*."
	}
	return "*." + encloser
}

// compareNames is the canonical order of names (RFC 4034 §6.1).
func compareNames(a, b string) int {
	return slices.CompareFunc(wireLabels(a), wireLabels(b), bytes.Compare)
}

// wireLabels are the labels from the root down, without escapes, in lower case; none for what is not a name.
func wireLabels(name string) (labels [][]byte) {
	wire := make([]byte, 256)
	end, err := dns.PackDomainName(dns.CanonicalName(name), wire, 0, nil, false)
	if err != nil {
		return nil
	}
	for at := 0; at < end && wire[at] != 0; at += 1 + int(wire[at]) {
		labels = append(labels, wire[at+1:at+1+int(wire[at])])
	}
	slices.Reverse(labels)
	return labels
}

// substitute is what a DNAME makes of a name below its owner (RFC 6672 §2.2); "" if that is not a name.
func substitute(name, owner, target string) string {
	prefix := name[:len(name)-len(owner)]
	if target = dns.CanonicalName(target); target == "." {
		target = ""
	}
	if _, ok := dns.IsDomainName(prefix + target); !ok || owner == "." {
		return ""
	}
	return prefix + target
}
