package bridge

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"regexp"
	"strings"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// An answer to encrypted mail is known by the Message-ID that it names (RFC 5322 §3.6.4). Whoever wants it in
// clear has chosen that identifier: so what arrives and what answers are read by the same forgiving reader,
// and where a mail program might quote back something else, or nothing, it is shown an identifier of ours.

var (
	bracketed  = regexp.MustCompile(`<[^<>]+>`)
	separators = regexp.MustCompile(`[\s<>(),;"]+`)
	// wellFormed is what every mail program quotes back as it is.
	wellFormed = regexp.MustCompile(`^<[!#-'*+\x2d-:=@-\[\]-~]{1,250}>$`)
)

// messageIDs are the identifiers in all fields of these names, each once and as <id>: whatever is between
// angle brackets, words with an @, and a value that is a single word.
func messageIDs(h mimescan.Header, names ...string) []string {
	var ids []string
	seen := map[string]bool{"<>": true}
	add := func(id string) {
		id = "<" + strings.Join(strings.Fields(strings.Trim(id, "<>")), "") + ">"
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, name := range names {
		for _, value := range h.Values(name) {
			for _, id := range bracketed.FindAllString(value, -1) {
				add(id)
			}
			words := separators.Split(value, -1)
			for _, word := range words {
				if strings.Contains(word, "@") || len(words) == 1 {
					add(word)
				}
			}
		}
	}
	return ids
}

// maxMessageIDs is how many identifiers are kept of one message; a sound one has one.
const maxMessageIDs = 10

// answerable is an opened message with a Message-ID by which answers to it will be known, and all identifiers
// that may be quoted: of what is shown, then of the header that everybody on the way has seen. message is
// closed if another takes its place.
func (s *sender) answerable(message *spool.Spool, stored mimescan.Source, digest []byte) (*spool.Spool, []string, error) {
	outer, err := mimescan.ReadTop(stored)
	if err != nil {
		return message, nil, err
	}
	shown, err := mimescan.ReadTop(message)
	if err != nil {
		return message, nil, err
	}
	ids := append(messageIDs(shown, "Message-ID"), messageIDs(outer, "Message-ID")...)
	ids = ids[:min(len(ids), maxMessageIDs)]
	if values := shown.Values("Message-ID"); len(values) == 1 && wellFormed.MatchString(values[0]) {
		return message, ids, nil
	}
	made := "<" + hex.EncodeToString(digest[:16]) + "@sealpost.invalid>"
	named, err := s.withMessageID(message, shown, made)
	return named, append([]string{made}, ids...), err
}

// withMessageID is the message under another Message-ID.
func (s *sender) withMessageID(message *spool.Spool, h mimescan.Header, id string) (*spool.Spool, error) {
	named := spool.New(s.bridge.spoolDir)
	var err error
	var body int64
	write := func(data []byte) {
		if err == nil {
			_, err = named.Write(data)
		}
	}
	for i, f := range h {
		if body += int64(len(f.Raw)); !strings.EqualFold(f.Name, "Message-ID") {
			write(f.Raw)
		}
		if i == 0 { // below the status field
			write([]byte("Message-ID: " + id + "\r\n"))
		}
	}
	if err == nil {
		_, err = io.Copy(named, io.NewSectionReader(message, body, message.Size()-body))
	}
	if err != nil {
		_ = named.Close()
		return message, err
	}
	return named, message.Close()
}

// newMessageID is a new identifier in the domain of an address.
func newMessageID(address string) string {
	var random [16]byte
	_, _ = rand.Read(random[:])
	_, domain, _ := strings.Cut(address, "@")
	return "<" + hex.EncodeToString(random[:]) + "@" + domain + ">"
}
