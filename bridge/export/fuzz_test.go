package export

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever the files of an export say, the verifier comes to an end, and finds nothing that is right in them.
func FuzzVerify(f *testing.F) {
	f.Add(strings.Repeat("0", 64)+"  manifest.json\n", `{"format":1,"files":[]}`, `{"DocID":"A","Parent":"B"}`, `{"seq":1,"prev":""}`, "A,B\n1,2\n")
	f.Add("", "{}", "[", "\n", "\"")
	f.Add("", `{"format":1,"files":[],"custody":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}`, "", "", "A,B\n1,2\n")
	f.Fuzz(func(t *testing.T, sums, manifest, documents, custody, list string) {
		dir := t.TempDir()
		for name, text := range map[string]string{sumsFile: sums, manifestFile: manifest, documentsFile: documents, custodyFile: custody,
			accountingFile: manifest, exceptionsFile: list, duplicatesFile: list, privilegeFile: list, certificateFile: list, signatureFile: list} {
			check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		v := verify(t, dir, VerifyOptions{})
		if len(v.Problems) == 0 {
			t.Fatal("it was taken")
		}
		root, err := os.OpenRoot(dir)
		check(t, err)
		defer root.Close()
		inner := &verifier{root: root, sums: map[string]string{documentsFile: ""}, o: VerifyOptions{CheckSignature: checkSignature}}
		inner.contents() // as if the signature were good
	})
}

func FuzzReadMarks(f *testing.F) {
	f.Add("id,privilege,redacted,confidentiality,withhold\n<a@b>,ac,,,yes\n")
	f.Add("id\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ReadMarks(strings.NewReader(text))
		for _, m := range all {
			if err != nil || m.ID == "" || m.Withhold && m.Privilege == "" {
				t.Fatalf("%+v %v", m, err)
			}
		}
	})
}
