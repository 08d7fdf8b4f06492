//go:build peers

package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Cyrus is a provider of another make than Dovecot: CONDSTORE, OBJECTID, QUOTA and special uses for new
// mailboxes. It has one user.
type Cyrus struct {
	IMAPURL, CAFile    string
	Username, Password string
}

// StartCyrus starts Cyrus IMAP; it stops at the end of the test. Only root can start it.
func StartCyrus(t testing.TB) *Cyrus {
	t.Helper()
	Need(t, "cyrmaster", "cyrus-common")
	if !exists("/usr/lib/cyrus/bin/imapd") && !exists("/usr/local/lib/cyrus-imapd/usr/lib/cyrus/bin/imapd") {
		t.Fatal("Cyrus's imapd is not there: apt-get download cyrus-imapd && dpkg -x cyrus-imapd_*.deb /usr/local/lib/cyrus-imapd")
	}
	Need(t, "saslpasswd2", "sasl2-bin")
	Need(t, "openssl", "openssl")
	Need(t, "python3", "python3")
	if os.Geteuid() != 0 {
		t.Fatal("Cyrus can be started by root only: run these tests as root")
	}
	dir := Dir(t)
	script := script(t, dir, "cyrus.sh")
	t.Cleanup(func() {
		if _, err := Try(t, script, "stop", dir); err != nil {
			t.Error(err)
		}
	})
	Run(t, nil, nil, script, "start", dir)
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	c := &Cyrus{Username: "alice", Password: "alice-secret", CAFile: filepath.Join(dir, "cert.pem")}
	for line := range strings.Lines(string(env)) {
		if port, ok := strings.CutPrefix(strings.TrimSpace(line), "IMAPS_PORT="); ok {
			c.IMAPURL = "imaps://localhost:" + port
		}
	}
	return c
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
