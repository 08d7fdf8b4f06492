package extract

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"time"
)

// Limits of pdftotext, beside those of the text.
const (
	pdfTime   = time.Minute
	pdfCPU    = "30"         // seconds
	pdfMemory = "1073741824" // bytes
)

// pdf reads the pages; files that are embedded beside them are listed. It runs pdftotext: it gets the file and gives the text through pipes, may write no file, has no environment, and where the system
// allows it no network. A hostile file reaches a program without keys, and no more than that program's memory.
func (e *extractor) pdf(inside string, data []byte) error {
	for _, program := range []string{"pdftotext", "prlimit"} {
		if _, err := exec.LookPath(program); err != nil {
			e.skip(inside, NoProgram)
			return nil
		}
	}
	text, complaint, err := runPDF(e.ctx, data, e.limits.text)
	switch {
	case e.ctx.Err() != nil:
		return e.ctx.Err()
	case err != nil && strings.Contains(complaint, "password"):
		e.skip(inside, Locked)
		return nil
	case errors.Is(err, errTooMuch):
		e.skip(inside, TooLarge)
	case err != nil:
		e.skip(inside, Damaged)
	case hasEmptyPage(text):
		e.skip(inside, NoText)
	}
	if bytes.Contains(data, []byte("/EmbeddedFile")) {
		e.skip(path.Join(inside, "embedded files"), Unsupported)
	}
	return e.piece(text + "\n")
}

// hasEmptyPage says whether a page may be a picture of text. pdftotext ends each with a form feed.
func hasEmptyPage(text string) bool {
	for page := range strings.SplitSeq(strings.TrimSuffix(text, "\f"), "\f") {
		if strings.TrimSpace(page) == "" {
			return true
		}
	}
	return false
}

var errTooMuch = errors.New("more text than is taken")

func runPDF(ctx context.Context, data []byte, most int) (text, complaint string, err error) {
	ctx, cancel := context.WithTimeout(ctx, pdfTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "prlimit", "--as="+pdfMemory, "--cpu="+pdfCPU, "--fsize=0", "--core=0", "--",
		"pdftotext", "-enc", "UTF-8", "-", "-")
	cmd.Env, cmd.Dir, cmd.WaitDelay = []string{"PATH=/usr/bin:/bin"}, "/", time.Second
	cmd.SysProcAttr = isolated()
	out, problems := &bounded{limit: most}, &bounded{limit: 4 << 10}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(data), out, problems
	err = cmd.Run()
	if out.over {
		err = errTooMuch
	}
	return out.String(), problems.String(), err
}

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := b.limit - b.Len()
	if len(p) > room {
		b.over = true
		_, _ = b.Buffer.Write(p[:room])
		return room, io.ErrShortWrite
	}
	return b.Buffer.Write(p)
}
