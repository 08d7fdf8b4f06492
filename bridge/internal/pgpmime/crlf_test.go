package pgpmime

import (
	"bufio"
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// The line endings come out as a reader byte by byte would have them, however the bytes come in and are taken.
func TestCRLFReaderAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOf(rapid.SampledFrom([]byte("ab\r\r\n\n\x00\xff"))).Draw(t, "text")
		bareCR := rapid.Bool().Draw(t, "bare CR")
		size := rapid.IntRange(1, 40).Draw(t, "size")
		var in io.Reader = bytes.NewReader(text)
		if rapid.Bool().Draw(t, "one byte at a time") {
			in = iotest.OneByteReader(in)
		}
		r := &crlfReader{in: bufio.NewReaderSize(in, 16), bareCR: bareCR}
		var got []byte
		for buf := make([]byte, size); ; {
			n, err := r.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if want := withCRLF(text, bareCR); !bytes.Equal(got, want) {
			t.Errorf("%q becomes %q, not %q", text, got, want)
		}
	})
}

func withCRLF(text []byte, bareCR bool) (out []byte) {
	for i, c := range text {
		switch {
		case c == '\n' && (i == 0 || text[i-1] != '\r'):
			out = append(out, '\r', '\n')
		case c == '\r' && bareCR && (i+1 == len(text) || text[i+1] != '\n'):
			out = append(out, '\r', '\n')
		default:
			out = append(out, c)
		}
	}
	return out
}
