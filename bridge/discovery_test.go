package bridge

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/export"
)

// Mail as it really is: sealed, encrypted by its sender, encrypted to somebody else. What is exported is what was
// written, and beside it what the provider stores.
func TestDiscovery(t *testing.T) {
	w := newWorld(t)
	w.seal = Seal{}
	clear := message(dave, bob, "Clear canary", secretBody)
	w.deliver(bob, "Archive", clear)
	sender, a := w.start(alice), w.start(bob)
	if err := submit(t, sender, message(alice, bob, "Encrypted canary", secretBody), bob); err != nil {
		t.Fatal(err)
	}
	if err := submit(t, sender, message(alice, carol, "Not for bob", secretBody), carol); err != nil {
		t.Fatal(err)
	}
	w.deliver(bob, "Archive", string(w.stored(carol, "INBOX")[0].Bytes))
	waitFor(t, a, "INBOX", "Encrypted canary", "signature=good")
	quiet := func(string, int, int) {}
	if result, err := a.SealBacklog(t.Context(), "Archive", false, quiet); err != nil || result.Done != 1 {
		t.Fatal(err, result)
	}
	dir := filepath.Join(t.TempDir(), "export")
	request := export.Request{Query: `"` + secretBody + `"`, Directory: dir, Formats: export.Formats}
	accounting, err := a.bridge.Discovery("test").Export(t.Context(), request, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if n := accounting.Total; n.Held != 3 || n.Exported != 2 || n.Undecided != 1 {
		t.Errorf("%+v", n)
	}
	certificate, err := a.ExportCertificate("")
	if err != nil {
		t.Fatal(err)
	}
	v, err := export.Verify(t.Context(), dir, export.VerifyOptions{Certificates: certificate, CheckSignature: CheckSignature})
	if err != nil || len(v.Problems) > 0 || v.Documents != 2 {
		t.Fatalf("%+v %v", v, err)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if got := read("native/DOC00000001.eml"); got != clear {
		t.Errorf("the sealed message was exported as\n%q\nnot\n%q", got, clear)
	}
	if got := read("native/DOC00000002.eml"); !strings.Contains(got, "Subject: Encrypted canary") || !strings.Contains(got, secretBody) || strings.Contains(got, "X-Sealpost-Status") {
		t.Errorf("the encrypted message was exported as\n%s", got)
	}
	for _, name := range []string{"ciphertext/DOC00000001.eml", "ciphertext/DOC00000002.eml"} {
		if got := read(name); !strings.Contains(got, "BEGIN PGP MESSAGE") || strings.Contains(got, secretBody) {
			t.Errorf("%s is\n%s", name, got)
		}
	}
	documents := read("documents.jsonl")
	for _, said := range []string{`"Encryption":"sealed"`, `"Encryption":"openpgp"`, `"Signature":"good"`} {
		if !strings.Contains(documents, said) {
			t.Errorf("%s is missing from\n%s", said, documents)
		}
	}
	lines, err := csv.NewReader(strings.NewReader(read("exceptions.csv"))).ReadAll()
	if err != nil || len(lines) != 2 || lines[1][5] != "undecided" || lines[1][6] != "it cannot be decrypted: no-key" {
		t.Errorf("%q %v", lines, err)
	}
}
