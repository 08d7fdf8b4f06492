//go:build peers

package peers

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// TestProvider: the rig itself works, so that a failure elsewhere is not the rig's.
func TestProvider(t *testing.T) {
	p := StartProvider(t, Options{})
	RunClients(t, ClientOptions{
		Host: p.Host, IMAP: p.IMAPS, SMTP: p.Submissions, IMAPTLS: "tls", SMTPTLS: "tls", CAFile: p.CAFile,
		Username: Users[0], Password: Password(Users[0]), Only: "swaks curl msmtp",
	})
	p.Stop()
	p.Start()
	Need(t, "swaks", "swaks")
	Run(t, nil, nil, "swaks", "--server", p.Host+":"+p.Submission, "--tls", "--auth", "PLAIN", "--auth-user", Users[0],
		"--auth-password", Password(Users[0]), "--from", Users[0], "--to", Users[1], "--header", "Subject: canary", "--body", "hello")
	deadline := time.Now().Add(20 * time.Second)
	for len(p.Stored(Users[1])) == 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	stored := p.Stored(Users[1])
	if len(stored) != 1 || stored[0].Mailbox != "INBOX" || !strings.Contains(string(stored[0].Bytes), "Subject: canary\r\n") {
		t.Fatalf("stored %d messages: %+v", len(stored), stored)
	}
	if found := p.Find("canary"); len(found) == 0 {
		t.Error("a word that is stored is not found")
	}
}

func TestWKDAnswers(t *testing.T) {
	p := StartProvider(t, Options{})
	w := StartWKD(t, p, "Joe.Doe@bravo.test")
	ca, err := os.ReadFile(p.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		Dial:            func(network, _ string) (net.Conn, error) { return net.Dial(network, "127.0.0.1:"+w.Port) },
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	answer, err := client.Get("https://openpgpkey.bravo.test/.well-known/openpgpkey/bravo.test/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	certificate, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || len(certificate) == 0 {
		t.Fatalf("status %s, %d octets, %v", answer.Status, len(certificate), err)
	}
	g := NewGPG(t)
	g.Import(certificate)
}

// TestFixedKeysAreGnuPGs: GnuPG takes the fixed keys, encrypts to each and decrypts.
func TestFixedKeysAreGnuPGs(t *testing.T) {
	for _, address := range bridgetest.Keys() {
		sender, receiver := NewGPG(t), NewGPG(t)
		sender.Import(bridgetest.PublicKey(address))
		receiver.Import(bridgetest.SecretKey(address))
		secret := fmt.Sprintf("for %s alone", address)
		ciphertext := sender.Run([]byte(secret), "--armor", "--encrypt", "--recipient", address)
		if got := receiver.Run([]byte(ciphertext), "--decrypt"); got != secret {
			t.Errorf("%s: decrypted %q", address, got)
		}
	}
}
