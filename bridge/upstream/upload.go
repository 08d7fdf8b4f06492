package upstream

import (
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// Upload sends APPEND. If the message cannot be read to its end the connection is closed: the server must
// not take the fragment for a message.
func (c *Conn) Upload(mailbox string, message mimescan.Source, o *imap.AppendOptions) (*imap.AppendData, error) {
	cmd := c.Append(mailbox, message.Size(), o)
	source := &faithful{r: io.NewSectionReader(message, 0, message.Size()), left: message.Size()}
	_, sendErr := io.Copy(cmd, source)
	if source.left != 0 && source.err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("read the message: %w", source.err)
	}
	closeErr := cmd.Close()
	data, err := cmd.Wait()
	if err == nil {
		err = errors.Join(sendErr, closeErr)
	}
	return data, err
}

// faithful notices a source that fails or ends early.
type faithful struct {
	r    io.Reader
	left int64
	err  error
}

func (f *faithful) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.left -= int64(n)
	if err == io.EOF && f.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
