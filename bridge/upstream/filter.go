package upstream

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// limits of what a server may send.
type limits struct {
	line    int   // bytes of a response outside of message literals
	literal int64 // bytes of one message literal
}

type filter struct {
	source   *bufio.Reader
	pending  []byte
	answered func(tag string)
}

func newFilter(source io.Reader, greeting string, _ limits, answered func(tag string), hint func()) *filter {
	return &filter{source: bufio.NewReader(source), pending: []byte(greeting), answered: answered}
}

func (f *filter) Read(p []byte) (int, error) {
	if len(f.pending) == 0 {
		line, err := f.source.ReadBytes('\n')
		if err != nil {
			return 0, err
		}
		if line[0] == '+' {
			f.answered("")
		} else if line[0] != '*' {
			tag, _, _ := strings.Cut(string(line), " ")
			f.answered(tag)
		}
		f.pending = line
	}
	n := copy(p, f.pending)
	f.pending = f.pending[n:]
	return n, nil
}

// literalAtEnd reads the size of a literal announced at the end of a line: {5}, {5+}.
func literalAtEnd(line string) (size int64, ok bool) {
	open := strings.LastIndexByte(line, '{')
	if open < 0 || !strings.HasSuffix(line, "}") {
		return 0, false
	}
	digits := strings.TrimSuffix(line[open+1:len(line)-1], "+")
	n, err := strconv.ParseUint(digits, 10, 62)
	return int64(n), err == nil
}

const maxLine = 1 << 20
