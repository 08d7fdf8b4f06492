package keyring

import (
	"bufio"
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// TestSubkeyVectors: testdata/subkeys has keys and, for each, the seeds and fingerprints of subkeys: algorithm, time of creation,
// seed, fingerprint. Another version of this program or of its library must make the very same.
func TestSubkeyVectors(t *testing.T) {
	keys, err := filepath.Glob("testdata/subkeys/*.asc")
	if err != nil || len(keys) != len(profiles) {
		t.Fatal(len(keys), err)
	}
	for _, path := range keys {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			entities, err := readSecretKeys(data)
			if err != nil {
				t.Fatal(err)
			}
			vectors, err := os.Open(strings.TrimSuffix(path, ".asc") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			defer vectors.Close()
			lines := bufio.NewScanner(vectors)
			n := 0
			for ; lines.Scan(); n++ {
				var algorithm packet.PublicKeyAlgorithm
				var created int64
				var wantSeed, wantFingerprint string
				if _, err := fmt.Sscan(lines.Text(), &algorithm, &created, &wantSeed, &wantFingerprint); err != nil {
					t.Fatal(err)
				}
				at := time.Unix(created, 0)
				seed, err := seedOf(entities[0], algorithm, at)
				if err != nil || hex.EncodeToString(seed) != wantSeed {
					t.Errorf("line %d: seed %x, %v", n+1, seed, err)
				}
				trial := *entities[0]
				trial.Subkeys = nil
				if err := addSubkey(&trial, algorithm, at); err != nil {
					t.Fatal(err)
				}
				follows(t, seed, trial.Subkeys[0].PublicKey)
				if got := fmt.Sprintf("%X", trial.Subkeys[0].PublicKey.Fingerprint); got != wantFingerprint {
					t.Errorf("line %d: subkey %s", n+1, got)
				}
			}
			if n < 2 || lines.Err() != nil {
				t.Error(n, lines.Err())
			}
		})
	}
}

// follows makes the public part of a subkey from the seed as testdata/subkeys/README.md has it, without the OpenPGP library.
func follows(t *testing.T, seed []byte, public *packet.PublicKey) {
	t.Helper()
	written, err := contents(public)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().NewPrivateKey(seed[:32])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(written, x25519.PublicKey().Bytes()) {
		t.Error("another X25519 key")
	}
	if public.PubKeyAlgo != packet.PubKeyAlgoMlkem768X25519 {
		return
	}
	kem, err := mlkem.NewDecapsulationKey768(seed[32:96])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(written, kem.EncapsulationKey().Bytes()) {
		t.Error("another ML-KEM key")
	}
}
