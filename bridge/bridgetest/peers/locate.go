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
	Need(t, "python3", "python3")
	out, err := LocateAt(t, "gpg", address, func(dir string) []string {
		return []string{"python3", script(t, dir, "tree.py"), "cert.pem", "key.pem", tree}
	})
	for line := range strings.Lines(out) {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			return fields[9], nil
		}
	}
	return "", err
}

// LocateAt has gpg or sq find the certificate of an address at a server, and returns what that prints: lines with colons, or a
// certificate. serve is the server's command; it listens at 127.0.0.1:443 with cert.pem and key.pem in dir, where it is run. Only
// root can.
func LocateAt(t testing.TB, program, address string, serve func(dir string) []string) (string, error) {
	t.Helper()
	for program, debianPackage := range map[string]string{
		"gpg": "gnupg", "sq": "sq", "dirmngr": "dirmngr", "unbound": "unbound", "ip": "iproute2", "unshare": "util-linux", "openssl": "openssl",
	} {
		Need(t, program, debianPackage)
	}
	if os.Geteuid() != 0 {
		t.Fatal("a network of its own can be made by root only: run these tests as root")
	}
	dir := Dir(t)
	_, domain, _ := strings.Cut(address, "@")
	return Try(t, script(t, dir, "locate.sh"), append([]string{dir, domain, address, program}, serve(dir)...)...)
}

// PublishByGnuPG has GnuPG's client make a key for an address and publish it at a gateway that serve runs (see LocateAt; its inbound listener
// is lmtp://127.0.0.1:10024, the next hop 127.0.0.1:10027), and returns its fingerprint and what gpg finds then.
func PublishByGnuPG(t testing.TB, address string, serve func(dir string) []string) (fingerprint, found string, err error) {
	t.Helper()
	if _, err := os.Stat("/usr/lib/gnupg/gpg-wks-client"); err != nil {
		Need(t, "gpg-wks-client", "gpg-wks-client")
	}
	Need(t, "python3", "python3")
	out, err := LocateAt(t, script(t, Dir(t), "wks_client.py"), address, serve)
	fingerprint, found, _ = strings.Cut(out, "\n")
	return fingerprint, found, err
}
