package bridge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/mail"
	"strings"

	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// Errors of reading an Autocrypt Setup Message.
var (
	ErrNoSetup   = keyring.ErrNoSetup
	ErrSetupCode = keyring.ErrSetupCode
)

// SetupMessage is a whole Autocrypt Setup Message with a key, for "" the one in use, and the code that opens it. The caller
// shows the code once and keeps it nowhere.
func (o *Owner) SetupMessage(ctx context.Context, f keydisc.Fingerprint) (message []byte, code string, err error) {
	page, made, err := o.ring.Setup(f, o.home.now())
	if err != nil {
		return nil, "", err
	}
	return setupMessage(o, page), string(made), o.recordKey(ctx, "exported as a setup message", Key{Fingerprint: f})
}

// setupMessage has the form of Autocrypt 1.1 §4.4.
func setupMessage(o *Owner, page []byte) []byte {
	const boundary = "=_sealpost_setup"
	to := (&mail.Address{Address: o.Address()}).String()
	lines := []string{
		"Date: " + o.home.now().UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"), "From: " + to, "To: " + to, "Message-ID: " + newMessageID(o.Address()),
		"Autocrypt-Setup-Message: v1", "Subject: Autocrypt Setup Message", "MIME-Version: 1.0",
		`Content-Type: multipart/mixed; boundary="` + boundary + `"`, "",
		"--" + boundary, "Content-Type: text/plain; charset=utf-8", "",
		"This message contains all information to transfer your Autocrypt settings along with your secret key securely from your original device.",
		"", "To set up your new device for Autocrypt, please follow the instructions that should be presented by your new device.",
		"", "You can keep this message and use it as a backup for your secret key. If you want to do this, you should write down the Setup Code and",
		"store it securely.", "",
		"--" + boundary, "Content-Type: application/autocrypt-setup", `Content-Disposition: attachment; filename="autocrypt-setup-message.html"`, "",
	}
	text := strings.Join(lines, "\r\n") + "\r\n" + strings.ReplaceAll(string(page), "\n", "\r\n") + "\r\n--" + boundary + "--\r\n"
	return []byte(text)
}

// ImportSetup adds the key of a Setup Message: the whole message, or its attachment.
func (o *Owner) ImportSetup(ctx context.Context, data []byte, code string) ([]Key, error) {
	page, err := setupPage(data)
	if err != nil {
		return nil, err
	}
	key, err := keyring.OpenSetup(page, code)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return o.ImportKey(ctx, key, nil)
}

// IsSetupMessage says whether a file is an Autocrypt Setup Message, or its attachment.
func IsSetupMessage(data []byte) bool {
	page, err := setupPage(data)
	return err == nil && keyring.IsSetup(page)
}

// setupPage finds the payload: the part of its type in a message, else the whole file.
func setupPage(data []byte) ([]byte, error) {
	source := bytes.NewReader(data)
	root, err := mimescan.Scan(source)
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be read", ErrNoSetup)
	}
	if part := partOfType(root, "application/autocrypt-setup"); part != nil {
		return io.ReadAll(mimescan.DecodeBody(source, part))
	}
	return data, nil
}

// partOfType is the first part of that type; nil if there is none.
func partOfType(p *mimescan.Part, mediaType string) *mimescan.Part {
	if p.MediaType == mediaType {
		return p
	}
	for _, child := range p.Children {
		if found := partOfType(child, mediaType); found != nil {
			return found
		}
	}
	return nil
}
