package pgpmime

import (
	"crypto"
	"strings"
	"testing"
)

const (
	forgedPart = "Content-Type: text/plain\r\n\r\nforged text\r\n"
	testType   = "multipart/signed; micalg=pgp-sha256;\r\n protocol=\"application/pgp-signature\"; "
)

// layers is a genuine multipart/signed of alice's, wrapped anew by whoever sends it.
type layers struct {
	fields    string // more of the root
	boundary  string // the parameter; the true boundary is "real"
	preamble  string
	signature string // header of the signature part
	armor     func(string) string
	epilogue  string
}

func (l layers) wrap(b builder) string {
	part := plain(victim + "\n")
	armored := b.signature("alice", crypto.SHA256, testNow, part)
	if l.armor != nil {
		armored = l.armor(armored)
	}
	if l.boundary == "" {
		l.boundary = `boundary="real"`
	}
	if l.signature == "" {
		l.signature = "Content-Type: application/pgp-signature\r\n"
	}
	return l.fields + "Content-Type: " + testType + l.boundary + "\r\n\r\n" + l.preamble + "--real\r\n" + part +
		"\r\n--real\r\n" + l.signature + "\r\n" + armored + "\r\n--real--\r\n" + l.epilogue
}

// What clients and mail systems write must stay good.
func TestUsualSignedMailIsGood(t *testing.T) {
	header := func(h string) func(string) string {
		return func(armored string) string { return strings.Replace(armored, "\r\n\r\n", "\r\n"+h+"\r\n\r\n", 1) }
	}
	for name, l := range map[string]layers{
		"bare":  {},
		"K-9":   {boundary: `boundary="real"`, signature: "Content-Type: application/pgp-signature; name=\"signature.asc\"\r\nContent-Description: OpenPGP digital signature\r\nContent-Disposition: attachment; filename=\"signature.asc\"\r\n"},
		"KMail": {boundary: `boundary=real`, fields: "Content-Transfer-Encoding: 7Bit\r\n", signature: "Content-Type: application/pgp-signature; name=\"signature.asc\"\r\nContent-Description: This is a digitally signed message part.\r\nContent-Transfer-Encoding: 7Bit\r\n"},
		"Thunderbird": {preamble: "This is an OpenPGP/MIME signed message (RFC 4880 and 3156)\r\n",
			signature: "Content-Type: application/pgp-signature; name=\"OpenPGP_signature.asc\"\r\nContent-Description: OpenPGP digital signature\r\nContent-Disposition: attachment; filename=\"OpenPGP_signature.asc\"\r\n"},
		"Apple Mail":     {signature: "Content-Transfer-Encoding: 7bit\r\nContent-Disposition: attachment;\r\n\tfilename=signature.asc\r\nContent-Type: application/pgp-signature;\r\n\tname=signature.asc\r\nContent-Description: Message signed with OpenPGP\r\n"},
		"Mutt":           {fields: "Content-Disposition: inline\r\n", signature: "Content-Type: application/pgp-signature; name=\"signature.asc\"\r\n", armor: header("Version: GnuPG v2.0.22 (GNU/Linux)")},
		"ProtonMail":     {boundary: `boundary="real"; charset=utf-8`, preamble: "This is an OpenPGP/MIME signed message (RFC 4880 and 3156)\r\n", armor: header("Version: ProtonMail\r\nComment: https://protonmail.com")},
		"own comment":    {armor: header("Comment: Grüße aus Köln")},
		"gateway":        {preamble: "This is a multi-part message in MIME format...\r\n\r\n", epilogue: "\r\n\r\n"},
		"8 bit":          {fields: "Content-Transfer-Encoding: 8bit\r\n"},
		"binary":         {fields: "Content-Transfer-Encoding: binary\r\n"},
		"folded by tab":  {boundary: "\r\n\tboundary=\"real\""},
		"semicolon last": {boundary: `boundary="real";`},
	} {
		t.Run(name, func(t *testing.T) {
			b := builder{t}
			for where, message := range map[string]string{
				"stored":    outerHeader + l.wrap(b),
				"with LF":   strings.ReplaceAll(outerHeader+l.wrap(b), "\r\n", "\n"),
				"encrypted": outerHeader + encryptedMIME(b.toBob(b.packets(l.wrap(b), 0))),
				"sealed":    sealed(t, outerHeader+l.wrap(b), testSealKey),
			} {
				if r, _ := opened(t, message); r.Signature != SignatureGood {
					t.Errorf("%s: %s; reason=%s", where, r.Signature, r.Reason)
				}
			}
		})
	}
}

// What some program may show in place of the signed part, or beside it, is not good.
func TestAmbiguousSignedMailIsNotGood(t *testing.T) {
	evil := "\r\n--EVIL\r\n" + forgedPart + "--EVIL--\r\n"
	signature := "Content-Type: application/pgp-signature\r\n"
	for name, l := range map[string]layers{
		"first of two boundaries":      {boundary: `boundary="real"; boundary="EVIL"`, preamble: evil},
		"the same boundary twice":      {boundary: `boundary="real"; boundary="real"`},
		"RFC 2231 over plain":          {boundary: `boundary="EVIL"; boundary*=us-ascii''real`, preamble: evil},
		"RFC 2231 alone":               {boundary: `boundary*=us-ascii''real`},
		"RFC 2231 pieces":              {boundary: `boundary="EVIL"; boundary*0="re"; boundary*1="al"`, preamble: evil},
		"RFC 2231 behind white space":  {boundary: `boundary="real"; boundary *0="EVIL"`},
		"comment in the value":         {boundary: `boundary=re(x)al`},
		"comment before the value":     {boundary: `boundary=(x)"real"`},
		"junk after the quoted string": {boundary: `boundary="real"EVIL`},
		"escaped":                      {boundary: `boundary="re\al"`},
		"never closed":                 {boundary: `boundary="real`},
		"boundary inside another":      {boundary: `boundary="real"; x="; boundary=EVIL"`, preamble: evil},
		"control byte":                 {boundary: "boundary=\"real\"; x=\"\x00\""},
		"bare CR in the type":          {boundary: "boundary=\"real\"\r; x=y"},
		"two types":                    {fields: "Content-type: " + testType + "boundary=\"real\"\r\n"},
		"type with white space":        {fields: "Content-Type : " + testType + "boundary=\"real\"\r\nX-"},
		"quoted-printable":             {fields: "Content-Transfer-Encoding: quoted-printable\r\n"},
		"base64":                       {fields: "Content-Transfer-Encoding: base64\r\n"},
		"encoding with comment":        {fields: "Content-Transfer-Encoding: 7bit (base64)\r\n"},
		"two encodings":                {fields: "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n"},
		"line of white space":          {fields: "X-Other: a\r\n \r\n\tforged text\r\n"},
		"preamble":                     {preamble: "forged text\r\n"},
		"preamble far down":            {preamble: strings.Repeat("\r\n", 4<<10) + "forged text\r\n"},
		"epilogue":                     {epilogue: "forged text\r\n"},
		"epilogue far down":            {epilogue: strings.Repeat("\r\n", 4<<10) + "forged text\r\n"},
		"parts after the last":         {epilogue: "--real\r\n" + forgedPart + "--real--\r\n"},
		"before the signature":         {armor: func(s string) string { return "forged text\r\n" + s }},
		"after the signature":          {armor: func(s string) string { return s + "forged text\r\n" }},
		"two signatures":               {armor: func(s string) string { return s + s }},
		"text in the armor":            {armor: func(s string) string { return strings.Replace(s, "-----END", "forged text\r\n-----END", 1) }},
		"unknown armor header":         {armor: func(s string) string { return strings.Replace(s, "\r\n\r\n", "\r\nX: forged text\r\n\r\n", 1) }},
		"bare CR above the signature":  {signature: signature + "X: a\r\rforged text\r\n"},
		"white space above it":         {signature: signature + "X: a\r\n \r\n forged text\r\n"},
		"junk above it":                {signature: signature + "forged text\r\n"},
		"two types of it":              {signature: signature + "Content-Type: text/html\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := builder{t}
			for where, message := range map[string]string{
				"stored":    outerHeader + l.wrap(b),
				"encrypted": outerHeader + encryptedMIME(b.toBob(b.packets(l.wrap(b), 0))),
				"sealed":    sealed(t, outerHeader+l.wrap(b), testSealKey),
			} {
				r, _ := opened(t, message)
				if r.Signature == SignatureGood || r.Signature == SignatureBad && r.Reason != reasonMalformed {
					t.Errorf("%s: %s; reason=%s", where, r.Signature, r.Reason)
				}
			}
		})
	}
}

// Two types inside the encryption, of which the client is shown both.
func TestTwoTypesInsideAreNotGood(t *testing.T) {
	b := builder{t}
	for name, more := range map[string]string{
		"second": "\r\nContent-Type: multipart/mixed; boundary=EVIL\r\n\r\n--EVIL\r\n" + forgedPart + "--EVIL--\r\n\r\n",
		"html":   "\r\nContent-Type: text/html\r\n\r\n",
	} {
		inner := strings.Replace(b.good(b.payload()), "\r\n\r\n", more, 1)
		r, _ := opened(t, outerHeader+encryptedMIME(b.toBob(b.packets(inner, 0))))
		if r.Signature != SignatureBad || r.Reason != reasonMalformed {
			t.Errorf("%s: %s; reason=%s", name, r.Signature, r.Reason)
		}
	}
}

// A boundary that is the beginning of a line of the signed text ends it there for some readers, whether or not
// it ends the multipart, and whatever they take for a line.
func TestBoundaryThatBeginsALine(t *testing.T) {
	b := builder{t}
	for _, c := range []struct {
		boundary, text, end string
		want                Signature
	}{
		{"--", "I agree\r\n---- but not today ----\r\n", "------\r\n", SignatureBad},
		{"-- but", "I agree\r\n---- but not today ----\r\n", "---- but--\r\n", SignatureBad},
		{"--x", "I agree\r\n---- but not today ----\r\n", "----x--\r\n", SignatureGood},
		{"abc", "I agree\r\n--abcdef\r\nto nothing\r\n", "--abc--\r\n", SignatureBad},
		{"abc", "I agree\r\n--abcdef\r\nto nothing\r\n", "", SignatureBad},
		{"abc", "I agree\r--abc\rto nothing\r\n", "--abc--\r\n", SignatureBad},
		{"abc", "I agree to --abc\r\n", "--abc--\r\n", SignatureGood},
		{"abc", "I agree\r\n", "", SignatureBad},
	} {
		part := "Content-Type: text/plain\r\n\r\n" + c.text
		message := outerHeader + "Content-Type: " + testType + "boundary=\"" + c.boundary + "\"\r\n\r\n--" + c.boundary + "\r\n" + part +
			"\r\n--" + c.boundary + "\r\nContent-Type: application/pgp-signature\r\n\r\n" + b.signature("alice", crypto.SHA256, testNow, part) + "\r\n" + c.end
		if r, _ := opened(t, message); r.Signature != c.want {
			t.Errorf("%q in %q, then %q: %s; reason=%s", c.boundary, c.text, c.end, r.Signature, r.Reason)
		}
	}
}

// A multipart/encrypted that programs read differently is not decrypted.
func TestAmbiguousEncryptedMailIsBroken(t *testing.T) {
	b := builder{t}
	good := outerHeader + encryptedMIME(b.toBob(b.packets(b.payload(), 0, "alice")))
	_, boundary, _ := strings.Cut(good, "boundary=")
	boundary, _, _ = strings.Cut(boundary, "\r\n")
	sub := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for name, message := range map[string]string{
		"two boundaries":   sub("boundary="+boundary, "boundary="+boundary+"; boundary=EVIL"),
		"RFC 2231":         sub("boundary="+boundary, "boundary=EVIL; boundary*="+strings.Trim(boundary, `"`)),
		"comment":          sub("boundary="+boundary, "boundary="+boundary+"(x)"),
		"two types":        sub("MIME-Version: 1.0\r\n", "Content-Type: "+encryptedType+"; boundary="+boundary+"\r\n"),
		"quoted-printable": sub("MIME-Version: 1.0\r\n", "Content-Transfer-Encoding: quoted-printable\r\n"),
		"inside a list":    outerHeader + mime("multipart/mixed", "Content-Type: text/html\r\n"+encryptedMIME(b.toBob(b.packets(b.payload(), 0))), plain("footer")),
	} {
		if r, _ := opened(t, message); r.Encryption == EncryptionOpenPGP {
			t.Errorf("%s: %s; reason=%s", name, r.Encryption, r.Reason)
		}
	}
	if r, _ := opened(t, sub("MIME-Version: 1.0\r\n", "Content-Transfer-Encoding: 7bit\r\n")); r.Signature != SignatureGood {
		t.Errorf("7bit: %s; reason=%s", r.Signature, r.Reason)
	}
}

// A bare CR ends a line for some readers: what stands behind it may be another From.
func TestFromBehindABareCR(t *testing.T) {
	b := builder{t}
	for name, field := range map[string]string{
		"before": "X-Other: a\rFrom: bob@bravo.test\r\nFrom: alice@alpha.test\r\n",
		"behind": "From: alice@alpha.test\r\nX-Other: a\rFrom: bob@bravo.test\r\n",
		"folded": "X-Other: a\r\n b\rFrom: bob@bravo.test\r\nFrom: alice@alpha.test\r\n",
	} {
		r, _ := opened(t, strings.Replace(outerHeader, "From: alice@alpha.test\r\n", field, 1)+b.good(plain(victim+"\n")))
		if r.Signature == SignatureGood {
			t.Errorf("%s: good by %s", name, r.Signer)
		}
	}
}
