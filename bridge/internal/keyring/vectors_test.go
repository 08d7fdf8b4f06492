package keyring

import (
	"bufio"
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
