package bridge

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/keydisc"
)

// directory is what the Web Key Directory says about a user of alpha.test.
func (c *company) directory(local string) []*keydisc.Certificate {
	c.t.Helper()
	_, data, err := c.gateway.Published(c.t.Context(), "alpha.test", keydisc.WKDHash(local))
	if err != nil {
		return nil
	}
	certificates, err := keydisc.ParseCertificates(data)
	if err != nil {
		c.t.Fatal(err)
	}
	return certificates
}

// submit mails something to the submission address, encrypted; the answer is "" if it was taken.
func (c *company) mailIn(from, mediaType, text string) string {
	c.t.Helper()
	plain := message(from, keySubmission, "submission", text, "MIME-Version: 1.0", "Content-Type: "+mediaType)
	encrypted := c.encrypted(plain, pgpmime.EncryptOptions{Recipients: c.directory("key-submission")})
	answer := c.enter(Envelope{From: from, To: []string{keySubmission}}, encrypted, true)[keySubmission]
	c.t.Logf("%s to the submission address is answered %q", mediaType, answer)
	return answer
}

var nonceLine = regexp.MustCompile(`nonce: (\S+)`)

// question is what the newest question to alice asks.
func (c *company) question() (nonce string) {
	c.t.Helper()
	mails := c.inside.For(alice)
	if len(mails) == 0 {
		c.t.Fatal("alice was not asked")
	}
	result := c.openAs(alice, mails[len(mails)-1])
	if result.Message == nil || result.Encryption != pgpmime.EncryptionOpenPGP || result.Signature != pgpmime.SignatureGood {
		c.t.Fatalf("the question is %s, %s", result.Encryption, result.Signature)
	}
	defer result.Message.Close()
	text, err := io.ReadAll(result.Message.Reader())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, want := range []string{"type: confirmation-request", "sender: " + keySubmission, "address: " + alice, "fingerprint: EB5F4E94C9B00981A6AFF84F7C096B5E4C989488"} {
		if !strings.Contains(string(text), want) {
			c.t.Errorf("the question lacks %q: %s", want, text)
		}
	}
	return nonceLine.FindStringSubmatch(string(text))[1]
}

// nonce of the question to an address whose secret key is not here.
func (c *company) nonce(address string) (nonce string) {
	c.t.Helper()
	if err := c.bridge.db.Read().QueryRowContext(c.t.Context(), `SELECT nonce FROM submission WHERE address = ?`, address).Scan(&nonce); err != nil {
		c.t.Fatal(err)
	}
	return nonce
}

func response(address, nonce string) string {
	return fmt.Sprintf("type: confirmation-response\r\nsender: %s\r\naddress: %s\r\nnonce: %s\r\n", keySubmission, address, nonce)
}

// TestUsersMailInTheirCertificate: from then on it is in the directory, and the gateway leaves their mail to them.
func TestUsersMailInTheirCertificate(t *testing.T) {
	c := newCompany(t, lmtp)
	hosted := c.userKey(alice)
	if got := c.directory("alice"); len(got) != 1 || !got[0].Has(hosted) {
		t.Fatalf("the directory has %v", got)
	}
	if answer := c.mailIn(alice, "application/pgp-keys", string(bridgetest.PublicKey(alice))); answer != "" {
		t.Fatal(answer)
	}
	if got := c.directory("alice"); len(got) != 1 || got[0].Fingerprint() != hosted.Fingerprint() {
		t.Error("it is published before she was asked")
	}
	nonce := c.question()
	for name, text := range map[string]string{
		"another nonce": response(alice, "AAAAAAAAAAAAAAAAAAAAAAAAAA"), "another address": response(erin, nonce), "no answer": "type: something",
	} {
		if answer := c.mailIn(alice, wksType, text); answer != string(ReasonMalformed) {
			t.Errorf("%s is answered %q", name, answer)
		}
	}
	if answer := c.mailIn(alice, wksType, response(alice, nonce)); answer != "" {
		t.Fatal(answer)
	}
	if got := c.directory("alice"); len(got) != 1 || got[0].Fingerprint() != "EB5F4E94C9B00981A6AFF84F7C096B5E4C989488" {
		t.Fatalf("the directory has %v", got)
	}
	if answer := c.mailIn(alice, wksType, response(alice, nonce)); answer != "" {
		t.Errorf("the same answer again is answered %q", answer)
	}

	c.inside.Forget()
	text := c.encryptedBy(message(bob, alice, "pectin", "quince"), hosted)
	c.enter(Envelope{From: bob, To: []string{alice}}, text, true)
	if got := string(c.inside.For(alice)[0]); !strings.HasSuffix(got, text) {
		t.Errorf("her mail is touched: %s", got)
	}
	plain := message(alice, bob, "unsigned", secretBody, "Autocrypt: addr=alice@alpha.test; keydata=aGVsbG8=")
	c.leave(Envelope{From: alice, To: []string{bob}}, plain, true)
	if fate := c.fateOf(bob, "", plain); fate != "encrypted none" {
		t.Errorf("her mail is %s", fate)
	}
}

// revokedKey is the armored certificate of a key, revoked now.
func revokedKey(t *testing.T, key *openpgp.Entity) string {
	t.Helper()
	if err := key.Revoke(packet.KeyCompromised, "", &packet.Config{}); err != nil {
		t.Fatal(err)
	}
	return armored(t, key)
}

func armored(t *testing.T, key *openpgp.Entity) string {
	t.Helper()
	var text strings.Builder
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(key.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestNothingUndoesARevocation: neither the old answer, by whoever saw its bytes on the wire, nor an old copy of the certificate.
func TestNothingUndoesARevocation(t *testing.T) {
	c := newCompany(t, lmtp)
	c.mailIn(alice, "application/pgp-keys", string(bridgetest.PublicKey(alice)))
	answer := response(alice, c.question())
	c.mailIn(alice, wksType, answer)
	var waiting []byte
	if err := c.bridge.db.Read().QueryRowContext(t.Context(), `SELECT certificate FROM submission`).Scan(&waiting); err != nil {
		t.Fatal(err)
	}
	c.mailIn(alice, "application/pgp-keys", revokedKey(t, c.secretKeys(alice)[0]))
	c.inside.Forget()
	for name, again := range map[string]func() string{
		"the old answer": func() string { return c.mailIn(bob, wksType, answer) },
		"the old copy":   func() string { return c.mailIn(bob, "application/pgp-keys", string(bridgetest.PublicKey(alice))) },
		"the answer to a question asked at the same time": func() string {
			c.write(`INSERT INTO submission (address, fingerprint, certificate, nonce, asked) VALUES (?, 'EB', ?, 'NONCE', ?)`, alice, waiting, c.bridge.now().UnixNano())
			return c.mailIn(alice, wksType, response(alice, "NONCE"))
		},
	} {
		if got := again(); got != string(ReasonMalformed) || len(c.inside.For(alice)) > 0 {
			t.Errorf("%s is answered %q, and she is asked %d times", name, got, len(c.inside.For(alice)))
		}
		if got := c.directory("alice"); len(got) != 1 || !got[0].Revoked(c.bridge.now()) {
			t.Errorf("after %s the directory has %v", name, got)
		}
	}
}

// TestRevocationsAreMailedIn: nobody is asked, and the gateway keeps the key again.
func TestRevocationsAreMailedIn(t *testing.T) {
	c := newCompany(t, lmtp)
	c.mailIn(alice, "application/pgp-keys", string(bridgetest.PublicKey(alice)))
	c.mailIn(alice, wksType, response(alice, c.question()))
	c.inside.Forget()
	if answer := c.mailIn(alice, "application/pgp-keys", revokedKey(t, c.secretKeys(alice)[0])); answer != "" || len(c.inside.For(alice)) > 0 {
		t.Fatalf("it is answered %q, and she is asked %d times", answer, len(c.inside.For(alice)))
	}
	c.userKey(alice)
	got := c.directory("alice")
	if len(got) != 2 || got[0].Revoked(c.bridge.now()) || !got[1].Revoked(c.bridge.now()) {
		t.Errorf("the directory has %v", got)
	}
	if own, err := c.gateway.keepsOwnKey(t.Context(), alice); own || err != nil {
		t.Errorf("she still keeps her key: %v", err)
	}
}

// TestRevocationReachesEveryAddress of the certificate.
func TestRevocationReachesEveryAddress(t *testing.T) {
	c := newCompany(t, lmtp)
	key := c.keyOf(alice, aliceSmith)
	c.mailIn(alice, "application/pgp-keys", armored(t, key))
	for _, address := range []string{alice, aliceSmith} {
		if answer := c.mailIn(alice, wksType, response(address, c.nonce(address))); answer != "" {
			t.Fatal(answer)
		}
	}
	if answer := c.mailIn(alice, "application/pgp-keys", revokedKey(t, key)); answer != "" {
		t.Fatal(answer)
	}
	for _, local := range []string{"alice", "alice.smith"} {
		if got := c.directory(local); len(got) != 1 || !got[0].Revoked(c.bridge.now()) {
			t.Errorf("for %s the directory has %v", local, got)
		}
	}
}

const aliceSmith = "alice.smith@alpha.test"

// keyOf is a new key of these addresses.
func (c *company) keyOf(addresses ...string) *openpgp.Entity {
	c.t.Helper()
	key, err := openpgp.NewEntity("", "", addresses[0], &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	for _, address := range addresses[1:] {
		if err == nil {
			err = key.AddUserId("", "", address, &packet.Config{})
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return key
}

func TestSubmissionsThatAreRefused(t *testing.T) {
	c := newCompany(t, lmtp)
	for name, text := range map[string]string{"of another domain": string(bridgetest.PublicKey(bob)), "none": "hello"} {
		if answer := c.mailIn(bob, "application/pgp-keys", text); answer != string(ReasonMalformed) {
			t.Errorf("a certificate %s is answered %q", name, answer)
		}
	}
	clear := message(alice, keySubmission, "clear", strings.ReplaceAll(string(bridgetest.PublicKey(alice)), "\n", "\r\n"), "Content-Type: application/pgp-keys")
	if answer := c.enter(Envelope{From: alice, To: []string{keySubmission, erin}}, clear, true); answer[keySubmission] != string(ReasonMalformed) || answer[erin] != "" {
		t.Errorf("one in clear is answered %v", answer)
	}
	if answer := c.enter(Envelope{From: alice, To: []string{keySubmission}}, clear, false); answer[keySubmission] != string(ReasonMalformed) {
		t.Errorf("over SMTP it is answered %v", answer)
	}
	if len(c.inside.For(alice)) > 0 {
		t.Error("alice was asked")
	}
}

// TestDirectoryMakesNoKeys: whoever asks for an address learns nothing and causes nothing.
func TestDirectoryMakesNoKeys(t *testing.T) {
	c := newCompany(t, lmtp)
	if got := c.directory("erin"); got != nil {
		t.Errorf("the directory has %v", got)
	}
	if users, err := c.gateway.Users(t.Context()); err != nil || len(users) != 1 {
		t.Errorf("keys of %v, %v", users, err)
	}
}

// TestDirectoryWithoutAnAnswer: what cannot be read is "ask again", not "there is none", and ends nothing.
func TestDirectoryWithoutAnAnswer(t *testing.T) {
	c := newCompany(t, lmtp)
	c.userKey(alice)
	c.write(`INSERT INTO submitted_certificate (address, certificate, confirmed) VALUES (?, ?, 0)`, alice, []byte("damaged"))
	_, data, err := c.gateway.Published(t.Context(), "alpha.test", keydisc.WKDHash("alice"))
	if err == nil || errors.Is(err, ErrNoKey) || data != nil {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// TestSendingItAgainIsNotOneMore: whoever lost the question gets another, however many others were mailed in for the address.
func TestSendingItAgainIsNotOneMore(t *testing.T) {
	c := newCompany(t, lmtp)
	send := func() string {
		return c.mailIn(alice, "application/pgp-keys", string(bridgetest.PublicKey(alice)))
	}
	if answer := send(); answer != "" {
		t.Fatal(answer)
	}
	another := func(i int) {
		c.write(`INSERT INTO submission (address, fingerprint, certificate, nonce, asked) VALUES (?, ?, ?, ?, ?)`,
			alice, fmt.Sprint(i), []byte{}, fmt.Sprint(i), c.bridge.now().UnixNano())
	}
	for i := range maxSubmissions - 1 {
		another(i)
	}
	if answer := send(); answer != "" {
		t.Errorf("her own is answered %q", answer)
	}
	c.write(`DELETE FROM submission WHERE fingerprint = ?`, "EB5F4E94C9B00981A6AFF84F7C096B5E4C989488")
	another(maxSubmissions)
	if answer := send(); answer != string(ReasonRate) {
		t.Errorf("one more is answered %q", answer)
	}
}

// TestAnAddressIsAskedOnce about a certificate in a while, however often that is mailed in, and whatever becomes of its other addresses.
func TestAnAddressIsAskedOnce(t *testing.T) {
	c := newCompany(t, lmtp)
	certificate := armored(t, c.keyOf(alice, aliceSmith))
	c.inside.Refuse(alice, "451 4.2.0 later")
	for range maxSubmissions + 1 {
		if answer := c.mailIn(alice, "application/pgp-keys", certificate); answer != "" {
			t.Errorf("it is answered %q", answer)
		}
	}
	if n := len(c.inside.For(aliceSmith)); n != 1 {
		t.Errorf("the other address is asked %d times", n)
	}
	c.inside.Refuse(alice, "")
	c.mailIn(alice, "application/pgp-keys", certificate)
	if n := len(c.inside.For(alice)); n != 1 {
		t.Errorf("once she can be asked, she is asked %d times", n)
	}
	c.write(`UPDATE submission SET asked = asked - ?`, submissionsWithin)
	c.mailIn(alice, "application/pgp-keys", certificate)
	if n := len(c.inside.For(alice)); n != 2 {
		t.Errorf("she has lost the question, and is asked %d times", n)
	}
	c.write(`UPDATE submission SET certificate = ? WHERE address = ?`, []byte("an older copy"), alice)
	if answer := c.mailIn(alice, "application/pgp-keys", armored(t, c.keyOf(alice))); answer != "" {
		t.Errorf("another one is answered %q", answer)
	}
	c.inside.Forget()
	if answer := c.mailIn(alice, "application/pgp-keys", certificate); len(c.inside.For(alice)) > 0 {
		t.Errorf("a changed copy is answered %q, and she is asked at once", answer)
	}
	c.inside.Refuse(alice, "451 4.2.0 later")
	if answer := c.mailIn(alice, "application/pgp-keys", armored(t, c.keyOf(alice))); answer == "" {
		t.Error("nobody could be asked, and the certificate was taken")
	}
}

// TestInternationalSubmission: RFC 6531 addresses have certificates, too.
func TestInternationalSubmission(t *testing.T) {
	const jurgen = "j\u00fcrgen@alpha.test"
	c := newCompany(t, lmtp)
	if answer := c.mailIn(jurgen, "application/pgp-keys", armored(t, c.keyOf(jurgen))); answer != "" || len(c.inside.For(jurgen)) != 1 {
		t.Fatalf("it is answered %q, and he is asked %d times", answer, len(c.inside.For(jurgen)))
	}
	if answer := c.mailIn(jurgen, wksType, response(jurgen, c.nonce(jurgen))); answer != "" {
		t.Errorf("his answer is answered %q", answer)
	}
	if own, err := c.gateway.keepsOwnKey(t.Context(), jurgen); !own || err != nil {
		t.Errorf("his certificate was not taken: %v", err)
	}
}

func (c *company) write(statement string, values ...any) {
	c.t.Helper()
	if err := c.bridge.db.Write(c.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(c.t.Context(), statement, values...)
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
}
