//go:build peers

package export

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// authority is a time-stamping authority by OpenSSL, with a certificate of its own authority.
type authority struct {
	t   *testing.T
	dir string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	need(t, "openssl", "openssl")
	a := &authority{t, t.TempDir()}
	check(t, os.WriteFile(filepath.Join(a.dir, "tsa.cnf"), []byte(`[tsa]
default_tsa = one
[one]
serial = serial
signer_cert = tsa.pem
certs = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
[ext]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
`), 0o600))
	check(t, os.WriteFile(filepath.Join(a.dir, "serial"), []byte("01\n"), 0o600))
	a.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=Test authority", "-keyout", "ca.key", "-out", "ca.pem")
	a.openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Test TSA", "-keyout", "tsa.key", "-out", "tsa.csr")
	a.openssl("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-out", "tsa.pem", "-extfile", "tsa.cnf", "-extensions", "ext")
	return a
}

func (a *authority) openssl(args ...string) string {
	a.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = a.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Fatalf("openssl %v: %v: %s", args, err, out)
	}
	return string(out)
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query, err := io.ReadAll(r.Body)
	check(a.t, err)
	check(a.t, os.WriteFile(filepath.Join(a.dir, "query"), query, 0o600))
	a.openssl("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply")
	reply, err := os.ReadFile(filepath.Join(a.dir, "reply"))
	check(a.t, err)
	w.Header().Set("Content-Type", "application/timestamp-reply")
	_, _ = w.Write(reply)
}

// TestTimestampByOpenSSL: OpenSSL's authority stamps an export, and OpenSSL and the verifier agree about it.
func TestTimestampByOpenSSL(t *testing.T) {
	a := newAuthority(t)
	server := httptest.NewServer(a)
	defer server.Close()
	dir := exported(t)
	root, err := os.ReadFile(filepath.Join(a.dir, "ca.pem"))
	check(t, err)
	stamp, err := Timestamp(t.Context(), dir, server.URL, root)
	check(t, err)
	if stamp.Authority != "CN=Test TSA" || !stamp.Compared {
		t.Errorf("%+v", stamp)
	}
	out := a.openssl("ts", "-verify", "-data", filepath.Join(dir, sumsFile), "-in", filepath.Join(dir, tokenFile), "-token_in", "-CAfile", "ca.pem")
	if !strings.Contains(out, "Verification: OK") {
		t.Error(out)
	}
	if v := verify(t, dir, VerifyOptions{Authority: root}); len(v.Problems) > 0 || v.Stamp == nil || !v.Stamp.Compared || !v.Stamp.Time.Equal(stamp.Time) {
		t.Errorf("%+v", v)
	}
	if v := verify(t, dir, VerifyOptions{}); len(v.Problems) > 0 || v.Stamp.Compared {
		t.Errorf("without the authority's certificate: %+v", v)
	}
	other, err := os.ReadFile(filepath.Join(newAuthority(t).dir, "ca.pem"))
	check(t, err)
	if v := verify(t, dir, VerifyOptions{Authority: other}); len(v.Problems) != 1 {
		t.Errorf("with another authority's: %+v", v.Problems)
	}
	token, err := os.ReadFile(filepath.Join(dir, tokenFile))
	check(t, err)
	for i := range token {
		if i%7 > 0 {
			continue
		}
		check(t, os.WriteFile(filepath.Join(dir, tokenFile), flip(string(token), i), 0o600))
		if v := verify(t, dir, VerifyOptions{Authority: root}); len(v.Problems) == 0 && v.Stamp.Time != stamp.Time {
			t.Errorf("octet %d changed: %+v", i, v.Stamp)
		}
	}
}
