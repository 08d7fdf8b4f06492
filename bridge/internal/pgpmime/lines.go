package pgpmime

import (
	"bufio"
	"bytes"
	"io"
)

// eachLine hands over the lines of r without surrounding white space, a line longer than 4 KiB
// in pieces, until more returns false.
func eachLine(r io.Reader, more func(line []byte) bool) error {
	in := bufio.NewReaderSize(r, 4<<10)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return err
		}
		if err == io.EOF && len(line) == 0 || !more(bytes.TrimSpace(line)) || err == io.EOF {
			return nil
		}
	}
}

// shortText is what r holds without surrounding white space; not short if that is more than 4 KiB,
// of which the end has not been read.
func shortText(r io.Reader) (s string, short bool, err error) {
	const limit = 4 << 10
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	return string(bytes.TrimSpace(b)), len(b) <= limit, err
}
