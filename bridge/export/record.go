package export

import (
	"crypto/md5"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// File is one file of an export.
type File struct {
	Path   string `json:"path"`             // below the export's folder, with slashes
	Size   int64  `json:"size"`             // bytes, as delivered
	SHA256 string `json:"sha256"`           // hex, as delivered
	Plain  string `json:"plain,omitempty"`  // of an encrypted file: SHA-256 of what is in it
	Length int64  `json:"length,omitempty"` // and its bytes
	MD5    string `json:"-"`                // of what is in it
}

// content is the SHA-256 and the size of what the file says, encrypted or not.
func (f File) content() (hash string, size int64) {
	if f.Plain != "" {
		return f.Plain, f.Length
	}
	return f.SHA256, f.Size
}

// Record is one document: a message, or what is attached to one.
type Record struct {
	DocID, Begin, End             string // Begin and End are Bates numbers; "" without
	BeginAttach, EndAttach        string // the first and last document of the family
	Parent                        string
	Attached                      []string
	Custodian                     string
	AllCustodians                 []string // also of suppressed copies
	Folder                        string
	From, To, Cc, Bcc, Subject    string
	Sent, Received                time.Time // UTC
	SentRaw, SentOffset           string    // the Date field as it stands, its offset (+0200)
	MessageID, InReplyTo, Thread  string
	Name, Extension, MediaType    string
	Size                          int64
	MD5, SHA256, Ciphertext       string // of the native file; of the message as the provider stores it
	Native, Text, CiphertextPath  string
	Privilege, Redacted, Mark     string
	Exception                     []string
	Signer, Signature, Encryption string
	Trust, DKIM                   string
	UID                           uint32
	UIDValidity                   uint32
	Files                         []File
	Source                        string `json:",omitempty"` // in a merged export: the source, and the DOCID there
	Deleted                       string `json:",omitempty"` // how and when it left its mailbox, of what a hold kept
}

// column is one of the load file.
type column struct {
	name  string
	value func(*Record) string
}

// columns of the load file, in order.
var columns = []column{
	{"DOCID", func(r *Record) string { return r.DocID }},
	{"BEGBATES", func(r *Record) string { return r.Begin }},
	{"ENDBATES", func(r *Record) string { return r.End }},
	{"BEGATTACH", func(r *Record) string { return r.BeginAttach }},
	{"ENDATTACH", func(r *Record) string { return r.EndAttach }},
	{"PARENTID", func(r *Record) string { return r.Parent }},
	{"ATTACHIDS", func(r *Record) string { return strings.Join(r.Attached, ";") }},
	{"CUSTODIAN", func(r *Record) string { return r.Custodian }},
	{"ALLCUSTODIANS", func(r *Record) string { return strings.Join(r.AllCustodians, ";") }},
	{"FOLDER", func(r *Record) string { return r.Folder }},
	{"FROM", func(r *Record) string { return r.From }},
	{"TO", func(r *Record) string { return r.To }},
	{"CC", func(r *Record) string { return r.Cc }},
	{"BCC", func(r *Record) string { return r.Bcc }},
	{"SUBJECT", func(r *Record) string { return r.Subject }},
	{"DATESENT", func(r *Record) string { return format(r.Sent, time.DateOnly) }},
	{"TIMESENT", func(r *Record) string { return format(r.Sent, time.TimeOnly) }},
	{"DATESENT_RAW", func(r *Record) string { return r.SentRaw }},
	{"DATESENT_OFFSET", func(r *Record) string { return r.SentOffset }},
	{"DATERCVD", func(r *Record) string { return format(r.Received, time.DateOnly) }},
	{"TIMERCVD", func(r *Record) string { return format(r.Received, time.TimeOnly) }},
	{"MESSAGEID", func(r *Record) string { return r.MessageID }},
	{"INREPLYTO", func(r *Record) string { return r.InReplyTo }},
	{"THREADID", func(r *Record) string { return r.Thread }},
	{"FILENAME", func(r *Record) string { return r.Name }},
	{"FILEEXT", func(r *Record) string { return r.Extension }},
	{"FILESIZE", func(r *Record) string { return strconv.FormatInt(r.Size, 10) }},
	{"MIMETYPE", func(r *Record) string { return r.MediaType }},
	{"MD5HASH", func(r *Record) string { return r.MD5 }},
	{"SHA256HASH", func(r *Record) string { return r.SHA256 }},
	{"EDRM_MIH", func(r *Record) string { return messageHash(r.MessageID) }},
	{"NATIVEPATH", func(r *Record) string { return r.Native }},
	{"TEXTPATH", func(r *Record) string { return r.Text }},
	{"CIPHERTEXTPATH", func(r *Record) string { return r.CiphertextPath }},
	{"PRIVILEGE", func(r *Record) string { return r.Privilege }},
	{"REDACTED", func(r *Record) string { return r.Redacted }},
	{"CONFIDENTIALITY", func(r *Record) string { return r.Mark }},
	{"EXCEPTION", func(r *Record) string { return strings.Join(r.Exception, "; ") }},
	{"SHA256_CIPHERTEXT", func(r *Record) string { return r.Ciphertext }},
	{"SIGNER_FPR", func(r *Record) string { return r.Signer }},
	{"SIG_VERDICT", func(r *Record) string { return r.Signature }},
	{"ENC_STATUS", func(r *Record) string { return r.Encryption }},
	{"KEY_TRUST_AT_RECEIPT", func(r *Record) string { return r.Trust }},
	{"DKIM_RESULT", func(r *Record) string { return r.DKIM }},
}

func format(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(layout)
}

// messageHash is the EDRM Message Identification Hash: MD5 of the Message-ID without its angle brackets.
func messageHash(id string) string {
	if id == "" {
		return ""
	}
	sum := md5.Sum([]byte(id))
	return hex.EncodeToString(sum[:])
}

// describe fills in what the header says: of a message, or of an attached one.
func (r *Record) describe(h mimescan.Header) {
	r.From, r.To, r.Cc, r.Bcc = decoded(h, "From"), decoded(h, "To"), decoded(h, "Cc"), decoded(h, "Bcc")
	r.Subject, r.SentRaw = decoded(h, "Subject"), h.Get("Date")
	r.MessageID = strings.Trim(h.Get("Message-ID"), "<> ")
	r.InReplyTo = strings.Trim(h.Get("In-Reply-To"), "<> ")
	r.Thread = r.MessageID
	for _, id := range append(strings.Fields(h.Get("References")), strings.Fields(h.Get("In-Reply-To"))...) {
		r.Thread = strings.Trim(id, "<> ")
		break
	}
	if at := sentAt(h); !at.IsZero() {
		r.Sent, r.SentOffset = at.UTC(), at.Format("-0700")
	} else {
		r.Exception = append(r.Exception, "no Date that can be read")
	}
}

// verdict fills in what the bridge found when the message was first opened.
func (r *Record) verdict(m *Message) {
	r.Signature, r.Encryption, r.Trust = m.status["signature"], m.status["encryption"], m.status["trust"]
	if r.Signer = m.status["signer"]; r.Signer == "-" {
		r.Signer = ""
	}
	r.DKIM = dkim(m.Header.Get("Authentication-Results"))
	if strings.HasSuffix(m.Header.Get("Message-ID"), madeByUs) {
		r.MessageID, r.Exception = "", append(r.Exception, "no well-formed Message-ID: the one in the native file was made from the digest of the stored bytes")
	}
	if r.Encryption == "failed" {
		r.Exception = append(r.Exception, "cannot be decrypted: "+m.status["reason"])
	}
}

var dkimResult = regexp.MustCompile(`(?i)\bdkim=([a-z]+)`)

// dkim is what the topmost Authentication-Results field says, and who says it (RFC 8601 §2.2): it was not checked here.
func dkim(field string) string {
	result := dkimResult.FindStringSubmatch(field)
	if result == nil {
		return ""
	}
	server, _, _ := strings.Cut(field, ";")
	return strings.ToLower(result[1]) + ", says " + strings.TrimSpace(server)
}

var usualEnding = regexp.MustCompile(`^[a-z0-9]{1,8}$`)

// ending is that of a file name, "bin" if it has none that can be one of ours.
func ending(name string) string {
	i := strings.LastIndexByte(name, '.')
	if e := strings.ToLower(name[i+1:]); i >= 0 && usualEnding.MatchString(e) {
		return e
	}
	return "bin"
}

// addCustodian notes a holder of a copy.
func (r *Record) addCustodian(address string) {
	if !slices.Contains(r.AllCustodians, address) {
		r.AllCustodians = append(r.AllCustodians, address)
		slices.Sort(r.AllCustodians)
	}
}
