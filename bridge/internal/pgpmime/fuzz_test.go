package pgpmime

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

func seeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/attacks/*.eml")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d seeds, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 8<<10 {
			f.Add(b)
		}
	}
}

// FuzzOpen: whatever the message is, it gets a verdict, and what is shown has no field of ours.
func FuzzOpen(f *testing.F) {
	seeds(f)
	dir, bob := directory(f, "alice"), key(f, "bob")
	f.Fuzz(func(t *testing.T, message []byte) {
		k := Keys{Decrypters: openpgp.EntityList{bob}, SealKeys: [][]byte{testSealKey}}
		r, err := Open(bytes.NewReader(message), k, dir, testNow, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if r.Encryption == "" || r.Signature == "" || r.Encryption == EncryptionFailed && (r.Reason == "" || r.Message != nil && !r.Sealed) {
			t.Fatalf("no verdict: %+v", r)
		}
		if r.Message == nil {
			return
		}
		defer r.Message.Close()
		h, err := readHead(r.Message)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range h.fields {
			if field.Name == "" || lookalike(field.Raw) {
				t.Fatalf("shown header has %q", field.Raw)
			}
		}
	})
}

// FuzzPayload: whatever a sender encrypts, what is shown is a header and then the payload's body.
func FuzzPayload(f *testing.F) {
	f.Add([]byte(crlf("From: a@b.test\nSubject: x\nContent-Type: text/plain; hp=\"cipher\"\n\nbody")), []byte("From: c@d.test\r\n"))
	f.Add([]byte("X-A: b\rX-Sealpost-Status: c\r\n d\n\n\x00"), []byte("=?utf-8?q?X-Sealpost-Status?=: e\r\n\r\n"))
	f.Fuzz(func(t *testing.T, payload, outer []byte) {
		h, err := readHead(bytes.NewReader(payload))
		outerHead, errOuter := readHead(bytes.NewReader(outer))
		if err != nil || errOuter != nil {
			return
		}
		root, err := mediaType(h.raw)
		if err != nil {
			t.Fatal(err)
		}
		p := decrypted{root: root, fields: h.fields, protected: h.fields, protection: protection(root)}
		o := &opener{dir: t.TempDir()}
		src := spooled(t, payload)
		out, err := o.assemble(rebuild(outerHead.fields, p), src, h.body)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		shown, err := readHead(out)
		if err != nil {
			return // longer than we read: WithStatus still searches all of it
		}
		for _, field := range shown.fields {
			if field.Name == "" || lookalike(field.Raw) {
				t.Fatalf("shown header has %q", field.Raw)
			}
		}
		if !strings.HasSuffix(content(t, out), "\r\n\r\n"+string(payload[h.body:])) || out.Size()-shown.body != int64(len(payload))-h.body {
			t.Fatalf("body changed")
		}
	})
}

// FuzzWithStatus: exactly one status field, on top, with the very value that was written.
func FuzzWithStatus(f *testing.F) {
	seeds(f)
	f.Add([]byte("A: b\rX-Sealpost-Status: c\n"))
	f.Add([]byte(" ; signature=good\r\nA: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, message []byte) {
		var out bytes.Buffer
		if err := WithStatus(&out, bytes.NewReader(message), "ours"); err != nil {
			t.Fatal(err)
		}
		h, err := readHead(bytes.NewReader(out.Bytes()))
		if err != nil {
			return
		}
		if value := h.fields[0].Value(); value != "ours" {
			t.Fatalf("status is %q", value)
		}
		for i, field := range h.fields {
			if lookalike(field.Raw) != (i == 0) {
				t.Fatalf("field %d is %q", i, field.Raw)
			}
		}
	})
}

// FuzzSeal: the original comes back, whatever it is.
func FuzzSeal(f *testing.F) {
	seeds(f)
	own, bob := cert(f, "bob"), key(f, "bob")
	f.Fuzz(func(t *testing.T, message []byte) {
		var out bytes.Buffer
		if _, err := Seal(&out, bytes.NewReader(message), own, testSealKey, nil, testNow); err != nil {
			t.Fatal(err)
		}
		k := Keys{Decrypters: openpgp.EntityList{bob}, SealKeys: [][]byte{testSealKey}}
		got, err := Unseal(bytes.NewReader(out.Bytes()), k, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		if b, err := io.ReadAll(got.Reader()); err != nil || !bytes.Equal(b, message) {
			t.Fatalf("came back as %q, %v", b, err)
		}
	})
}
