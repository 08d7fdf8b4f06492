//go:build peers

package peers

import (
	"os"
	"strings"
	"testing"
)

// Locate has gpg find the certificate of an address in a Web Key Directory whose files are in tree, and
// returns the fingerprint it finds, or an error. Only root can.
func Locate(t testing.TB, tree, address string) (fingerprint string, err error) {
	t.Helper()
	for program, debianPackage := range map[string]string{
		"gpg": "gnupg", "dirmngr": "dirmngr", "unbound": "unbound", "ip": "iproute2", "unshare": "util-linux", "python3": "python3", "openssl": "openssl",
	} {
		Need(t, program, debianPackage)
	}
	if os.Geteuid() != 0 {
		t.Fatal("a network of its own can be made by root only: run these tests as root")
	}
	dir := Dir(t)
	_, domain, _ := strings.Cut(address, "@")
	out, err := Try(t, script(t, dir, "locate.sh"), dir, tree, domain, address)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			return fields[9], nil
		}
	}
	return "", nil
}
