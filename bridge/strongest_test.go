package bridge

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/keydisc"
)

// esk is a public-key encrypted session key packet (RFC 9580 §5.1): its version and algorithm.
type esk struct{ version, algorithm byte }

// packetsOf walks over a message with nothing but RFC 9580 §4.2: its encrypted session keys and the version of its encrypted data.
func packetsOf(t *testing.T, message []byte) (keys []esk, data byte) {
	t.Helper()
	_, after, ok := bytes.Cut(message, []byte("-----BEGIN PGP MESSAGE-----"))
	body, _, end := bytes.Cut(after, []byte("-----END"))
	_, body, blank := bytes.Cut(body, []byte("\r\n\r\n"))
	if !ok || !end || !blank {
		t.Fatalf("no armor in\n%s", message)
	}
	text := strings.Join(strings.Fields(string(body)), "")
	if i := strings.LastIndexByte(text, '='); i > 0 && len(text)-i == 5 { // the checksum
		text = text[:i]
	}
	packets, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for len(packets) > 0 {
		if packets[0]&0xc0 != 0xc0 {
			t.Fatal("not a packet of the new format")
		}
		tag, length, head := packets[0]&0x3f, int(packets[1]), 2
		switch {
		case tag == 18:
			return keys, packets[head+partial(packets[1])]
		case length >= 192 && length < 224:
			length, head = (length-192)<<8+int(packets[2])+192, 3
		case length == 255:
			length, head = int(packets[2])<<24+int(packets[3])<<16+int(packets[4])<<8+int(packets[5]), 6
		}
		content := packets[head : head+length]
		if tag != 1 {
			t.Fatalf("packet of type %d", tag)
		}
		keys = append(keys, eskOf(content))
		packets = packets[head+length:]
	}
	t.Fatal("no encrypted data")
	return nil, 0
}

// partial is how many octets of a length follow its first.
func partial(first byte) int {
	switch {
	case first < 192, first >= 224 && first < 255:
		return 0
	case first < 224:
		return 1
	}
	return 4
}

func eskOf(content []byte) esk {
	if content[0] == 3 { // version, key ID, algorithm
		return esk{3, content[9]}
	}
	return esk{content[0], content[2+content[1]]} // version, length, version and fingerprint of the key, algorithm
}

// what a profile can: RFC 9580 §9.1, RFC 9980 §3.
var strengths = map[KeyProfile]struct {
	seipd2    bool
	algorithm byte
}{
	ProfileCompatible: {false, 18}, // ECDH
	ProfileV6:         {true, 25},  // X25519
	ProfilePQC:        {false, 35}, // ML-KEM-768+X25519
	ProfilePQCV6:      {true, 35},
}

// TestStrongestCommonForm: whatever the recipients have, the message takes the strongest form that all of them read, the sender
// among them; and post-quantum is claimed only if every way to the session key is.
func TestStrongestCommonForm(t *testing.T) {
	w := newWorld(t)
	readers := map[KeyProfile]*Account{}
	var sets [][]KeyProfile
	for i, p := range Profiles {
		address := fmt.Sprintf("reader%d@zulu.test", i)
		o := w.options(address, t.TempDir())
		readers[p] = w.open(o)
		if _, err := readers[p].GenerateKey(t.Context(), p, true); err != nil {
			t.Fatal(err)
		}
		sets = append(sets, []KeyProfile{p})
		for _, other := range Profiles[i+1:] {
			sets = append(sets, []KeyProfile{p, other})
		}
	}
	sets = append(sets, Profiles)
	for _, own := range Profiles {
		sender := w.open(w.options(fmt.Sprintf("sender%d@zulu.test", slices.Index(Profiles, own)), t.TempDir()))
		if _, err := sender.GenerateKey(t.Context(), own, true); err != nil {
			t.Fatal(err)
		}
		for _, reader := range readers {
			c, err := reader.Certificate()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sender.bridge.ImportContacts(t.Context(), []*keydisc.Certificate{c}); err != nil {
				t.Fatal(err)
			}
		}
		for _, to := range sets {
			t.Run(fmt.Sprintf("%s to %v", own, to), func(t *testing.T) { strongest(t, sender, own, readers, to) })
		}
	}
}

func strongest(t *testing.T, sender *Account, own KeyProfile, readers map[KeyProfile]*Account, to []KeyProfile) {
	var addresses []string
	want, version, pq := []esk{}, byte(2), "yes"
	for _, p := range append(slices.Clone(to), own) {
		if !strengths[p].seipd2 {
			version = 1
		}
		if strengths[p].algorithm != 35 {
			pq = "no"
		}
	}
	for _, p := range append(slices.Clone(to), own) {
		want = append(want, esk{map[byte]byte{1: 3, 2: 6}[version], strengths[p].algorithm})
	}
	for _, p := range to {
		addresses = append(addresses, readers[p].Address())
	}
	text := message(sender.Address(), addresses[0], "x", "hello", "Cc: "+strings.Join(addresses, ", "))
	body := encryptedBody(t, sender, addresses, text)
	keys, data := packetsOf(t, body)
	less := func(a, b esk) int { return int(a.algorithm) - int(b.algorithm) }
	slices.SortFunc(keys, less)
	slices.SortFunc(want, less)
	if data != version || !slices.Equal(keys, want) {
		t.Errorf("SEIPD version %d with %v; want %d with %v", data, keys, version, want)
	}
	for _, p := range to {
		shown := opensTo(t, readers[p], string(body))
		if !strings.Contains(shown, "encryption=openpgp; signature=") || !strings.Contains(shown, "; pq="+pq+";") || !strings.Contains(shown, "hello") {
			t.Errorf("%s reads:\n%.300s", p, shown)
		}
	}
}

// encryptedBody is the one ciphertext that a message becomes.
func encryptedBody(t *testing.T, a *Account, to []string, text string) []byte {
	t.Helper()
	m, err := a.receive(t.Context(), Envelope{From: a.Address(), To: to}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	recipients := a.decide(t.Context(), m.regime.Policy, MessageFacts{From: m.author}, m.to, m.visible)
	if refusal := refusalOf(recipients); refusal != nil {
		t.Fatal(refusal)
	}
	parcels, err := a.compose(t.Context(), m, recipients)
	defer closeAll(parcels)
	if err != nil || len(parcels) != 1 {
		t.Fatal(len(parcels), err, errors.Unwrap(err))
	}
	body := make([]byte, parcels[0].body.Size())
	if _, err := parcels[0].body.ReadAt(body, 0); err != nil {
		t.Fatal(err)
	}
	return body
}

// TestPreviewClaimsNoMore: would-send says post-quantum of the message that a recipient would get: one certificate that is not, the
// sender's own among them, makes it "no" for all who get the same.
func TestPreviewClaimsNoMore(t *testing.T) {
	w := newWorld(t)
	accounts := map[KeyProfile]*Account{}
	for i, p := range []KeyProfile{ProfileCompatible, ProfilePQC, ProfilePQCV6} {
		accounts[p] = w.open(w.options(fmt.Sprintf("reader%d@zulu.test", i), t.TempDir()))
		if _, err := accounts[p].GenerateKey(t.Context(), p, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		own  KeyProfile
		to   []KeyProfile
		bcc  []KeyProfile
		want []bool
	}{
		{ProfileCompatible, []KeyProfile{ProfilePQC}, nil, []bool{false}},
		{ProfilePQC, []KeyProfile{ProfilePQCV6}, nil, []bool{true}},
		{ProfilePQC, []KeyProfile{ProfilePQCV6, ProfileCompatible}, nil, []bool{false, false}},
		{ProfilePQC, []KeyProfile{ProfilePQCV6}, []KeyProfile{ProfileCompatible}, []bool{true, false}},
		{ProfileCompatible, []KeyProfile{ProfilePQC}, []KeyProfile{ProfilePQCV6}, []bool{false, true}}, // Bcc has a ciphertext of its own
	} {
		sender := accounts[c.own]
		addresses := func(profiles []KeyProfile) (all []string) {
			for _, p := range profiles {
				if _, err := sender.bridge.ImportContacts(t.Context(), []*keydisc.Certificate{certificate(t, accounts[p])}); err != nil {
					t.Fatal(err)
				}
				all = append(all, accounts[p].Address())
			}
			return all
		}
		preview := sender.WouldSend(t.Context(), sender.Address(), addresses(c.to), addresses(c.bcc))
		for i, r := range preview.Recipients {
			if r.Decision != "encrypt" || r.PQ != c.want[i] {
				t.Errorf("%s to %v, Bcc %v: %+v", c.own, c.to, c.bcc, r)
			}
		}
	}
	if r := accounts[ProfilePQC].WouldSend(t.Context(), accounts[ProfilePQC].Address(), []string{dave}, nil).Recipients[0]; r.PQ {
		t.Errorf("without a certificate: %+v", r)
	}
}
