//go:build peers

package bridge

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

// TestStrongestFormElsewhere: what gpg and sq find in messages between all profiles is what TestStrongestCommonForm has found by itself.
// Both know version 6 by its name only.
func TestStrongestFormElsewhere(t *testing.T) {
	w := newWorld(t)
	accounts := map[KeyProfile]*Account{}
	for i, p := range Profiles {
		accounts[p] = w.open(w.options(fmt.Sprintf("reader%d@zulu.test", i), t.TempDir()))
		if _, err := accounts[p].GenerateKey(t.Context(), p, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, own := range Profiles {
		for _, to := range Profiles {
			t.Run(fmt.Sprintf("%s to %s", own, to), func(t *testing.T) {
				sender, reader := accounts[own], accounts[to]
				if _, err := sender.bridge.ImportContacts(t.Context(), []*keydisc.Certificate{certificate(t, reader)}); own != to && err != nil {
					t.Fatal(err)
				}
				body := encryptedBody(t, sender, []string{reader.Address()}, message(sender.Address(), reader.Address(), "x", "hello"))
				ours, version := packetsOf(t, body)
				keys, data := listedByGPG(t, body)
				if strengths[own].seipd2 && strengths[to].seipd2 {
					for i := range ours {
						ours[i] = esk{} // gpg 2.2 does not read it
					}
					version = 0
				}
				if !slices.Equal(keys, ours) || data != version {
					t.Errorf("gpg finds %v and version %d, we find %v and %d", keys, data, ours, version)
				}
				dump := dumped(t, body, "sq", "packet", "dump")
				if n := bytes.Count(dump, []byte("Public-Key Encrypted Session Key Packet")); n != len(ours) || bytes.Contains(dump, []byte("Symmetric-key")) {
					t.Errorf("sq finds %d ways in:\n%s", n, dump)
				}
			})
		}
	}
}

var listed = regexp.MustCompile(`(?m)^:(pubkey enc packet: (?:version (\d+), algo (\d+)|\[unknown version\])|encrypted data packet:( \[unknown version\])?|symkey enc packet)`)

// listedByGPG are the encrypted session keys and the version of the encrypted data; zero where gpg does not know the version.
func listedByGPG(t *testing.T, body []byte) (keys []esk, data byte) {
	t.Helper()
	out := dumped(t, body, "gpg", "--homedir", t.TempDir(), "--batch", "--list-only", "--list-packets")
	for _, m := range listed.FindAllSubmatch(out, -1) {
		switch {
		case bytes.HasPrefix(m[1], []byte("pubkey")):
			version, _ := strconv.Atoi(string(m[2])) // empty where it is unknown
			algorithm, _ := strconv.Atoi(string(m[3]))
			keys = append(keys, esk{byte(version), byte(algorithm)})
		case bytes.HasPrefix(m[1], []byte("symkey")):
			t.Fatal("a passphrase opens it")
		case len(m[4]) == 0:
			return keys, 1
		default: // what follows is rubbish: it takes the ciphertext for packets
			return keys, 0
		}
	}
	t.Fatalf("no encrypted data:\n%s", out)
	return nil, 0
}

// dumped is what a program prints about the armored message in a mail. It may fail over what it does not know.
func dumped(t *testing.T, body []byte, program string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing: apt install %s", program, map[string]string{"gpg": "gnupg", "sq": "sq"}[program])
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	command.Stdin = bytes.NewReader(body[bytes.Index(body, []byte("-----BEGIN PGP MESSAGE")):])
	out, err := command.Output()
	if len(out) == 0 {
		t.Fatalf("%s: %v", program, err)
	}
	return out
}
