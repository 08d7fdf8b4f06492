package pgpmime

import (
	"strings"
	"testing"
)

// foreign is a message that another mail program has encrypted.
type foreign struct{ root, control, data, armor, preamble string }

func (f foreign) message(b builder) string {
	armored := b.toBob(b.packets(b.payload(), 0))
	if f.armor != "" {
		armored = strings.Replace(armored, "\r\n\r\n", "\r\n"+crlf(f.armor)+"\r\n", 1)
	}
	return "From: alice@alpha.test\r\nTo: bob@bravo.test\r\nSubject: ...\r\n" + crlf(f.root) + "\r\n" + f.preamble + "\r\n--real\r\n" +
		crlf(f.control) + "\r\nVersion: 1\r\n\r\n--real\r\n" + crlf(f.data) + "\r\n" + armored + "\r\n--real--\r\n"
}

const (
	foreignRoot    = "MIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"real\"\n"
	foreignControl = "Content-Type: application/pgp-encrypted\n"
	foreignData    = "Content-Type: application/octet-stream\n"
)

// What widespread programs write counts as encrypted, and is opened.
func TestForeignCiphertext(t *testing.T) {
	preamble := "This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)"
	for name, f := range map[string]foreign{
		"bare": {},
		"Thunderbird": {
			root:     foreignRoot + "Content-Language: en-US\n",
			control:  "Content-Type: application/pgp-encrypted\nContent-Description: PGP/MIME version identification\n",
			data:     "Content-Type: application/octet-stream; name=\"encrypted.asc\"\nContent-Description: OpenPGP encrypted message\nContent-Disposition: inline; filename=\"encrypted.asc\"\n",
			preamble: preamble,
		},
		"K-9": {
			data: "Content-Type: application/octet-stream; name=\"encrypted.asc\"\nContent-Description: OpenPGP encrypted message\nContent-Disposition: inline; filename=\"encrypted.asc\"\n",
		},
		"Apple Mail": {
			root:    "Content-Type: multipart/encrypted;\n\tboundary=\"real\";\n\tprotocol=\"application/pgp-encrypted\"\nMime-Version: 1.0 (Mac OS X Mail 16.0 \\(3774.600.62\\))\nContent-Transfer-Encoding: 7bit\n",
			control: "Content-Transfer-Encoding: 7bit\nContent-Type: application/pgp-encrypted\nContent-Description: PGP/MIME Versions Identification\n",
			data:    "Content-Transfer-Encoding: 7bit\nContent-Disposition: inline;\n\tfilename=encrypted.asc\nContent-Type: application/octet-stream;\n\tname=encrypted.asc\nContent-Description: OpenPGP encrypted message\n",
			armor:   "Comment: GPGTools - https://gpgtools.org\n",
		},
		"Mutt": {
			root:    foreignRoot + "Content-Disposition: inline\n",
			control: "Content-Type: application/pgp-encrypted\nContent-Disposition: attachment\n",
			data:    "Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"msg.asc\"\n",
			armor:   "Version: GnuPG v2.0.22 (GNU/Linux)\n",
		},
		"ProtonMail": {
			root:  "MIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"real\"; charset=utf-8\n",
			armor: "Version: ProtonMail\nComment: https://protonmail.com\n",
		},
		"Enigmail":    {armor: "Charset: windows-1252\nVersion: GnuPG v2\nComment: Using GnuPG with Mozilla - http://enigmail.mozdev.org/\n"},
		"OpenPGP.js":  {armor: "Version: OpenPGP.js v4.10.10\nComment: https://openpgpjs.org\n"},
		"Mailvelope":  {armor: "Version: Mailvelope v4.3.0\nComment: https://www.mailvelope.com\n"},
		"PGP Desktop": {armor: "Version: PGP Desktop 10.2.1 (Build 4461)\nCharset: utf-8\n"},
		"GpgOL":       {data: "Content-Type: application/octet-stream\nContent-Disposition: inline; filename=\"openpgp-encrypted-message.asc\"\n"},
	} {
		f.root, f.control, f.data = firstOf(f.root, foreignRoot), firstOf(f.control, foreignControl), firstOf(f.data, foreignData)
		message := f.message(builder{t})
		readable, err := Readable(source(message))
		ciphertext, errC := Ciphertext(source(message))
		if readable || !ciphertext || err != nil || errC != nil {
			t.Errorf("%s: readable=%v ciphertext=%v, %v, %v", name, readable, ciphertext, err, errC)
		}
		if r, shown := opened(t, message); r.Encryption != EncryptionOpenPGP || !strings.Contains(shown, victim) {
			t.Errorf("%s: %s; reason=%s", name, r.Encryption, r.Reason)
		}
	}
}

// Clear text anywhere in a message makes it readable, however far down it stands.
func TestClearTextBesideCiphertext(t *testing.T) {
	const secret = "CLEAR SECRET"
	own := encrypted(t, crlf("From: alice@alpha.test\nTo: bob@bravo.test\nSubject: x\n\ntext\n"), EncryptOptions{Recipients: certs(t, "bob")})
	head, body, _ := strings.Cut(own, "\r\n\r\n")
	pad := strings.Repeat("\r\n", 2100)
	sub := func(old, new string) string { return strings.Replace(own, old, new, 1) }
	for name, message := range map[string]string{
		"far above the first part":       head + "\r\n\r\n" + pad + secret + "\r\n" + body,
		"far below the last":             own + pad + secret + "\r\n",
		"far down in the control part":   sub("Version: 1\r\n", "Version: 1\r\n"+pad+secret+"\r\n"),
		"far above the armor":            sub("-----BEGIN", pad+secret+"\r\n-----BEGIN"),
		"far below the armor":            sub("END PGP MESSAGE-----\r\n", "END PGP MESSAGE-----\r\n"+pad+secret+"\r\n"),
		"description of the data":        sub("OpenPGP encrypted message", secret),
		"name of the data":               sub(`name="encrypted.asc"`, `name="`+secret+`.asc"`),
		"file name of the data":          sub(`filename="encrypted.asc"`, `filename="`+secret+`.asc"`),
		"language of the file name":      sub(`filename="encrypted.asc"`, `filename*=utf-8'CLEAR SECRET'encrypted.asc`),
		"comment":                        sub("inline;", "inline ("+secret+");"),
		"parameter":                      sub("inline;", `inline; x="`+secret+`";`),
		"disposition":                    sub("inline;", `"`+secret+`";`),
		"parameter of the root":          sub("multipart/encrypted;", `multipart/encrypted; x="`+secret+`";`),
		"description of the root":        "Content-Description: " + secret + "\r\n" + own,
		"unknown field of a part":        sub("Content-Description: PGP/MIME version identification", "X-Text: "+secret),
		"a subject of a part":            sub("Content-Description: PGP/MIME version identification", "Subject: "+secret),
		"junk in the header of a part":   sub("Content-Description: PGP/MIME version identification", secret),
		"behind a bare CR":               sub("Content-Description: PGP", "Content-Description: PGP\r\r"+secret),
		"comment of the armor":           sub("-----BEGIN PGP MESSAGE-----\r\n", "-----BEGIN PGP MESSAGE-----\r\nComment: "+secret+"\r\n"),
		"standing comment and more":      sub("-----BEGIN PGP MESSAGE-----\r\n", "-----BEGIN PGP MESSAGE-----\r\nComment: Using GnuPG with "+secret+"\r\n"),
		"address as a comment":           sub("-----BEGIN PGP MESSAGE-----\r\n", "-----BEGIN PGP MESSAGE-----\r\nComment: https://CLEAR-SECRET.test\r\n"),
		"program of the armor":           sub("-----BEGIN PGP MESSAGE-----\r\n", "-----BEGIN PGP MESSAGE-----\r\nVersion: "+secret+"\r\n"),
		"unknown field of the armor":     sub("-----BEGIN PGP MESSAGE-----\r\n", "-----BEGIN PGP MESSAGE-----\r\nX: "+secret+"\r\n"),
		"many fields of the armor":       sub("-----BEGIN PGP MESSAGE-----\r\n", "-----BEGIN PGP MESSAGE-----\r\n"+strings.Repeat("Version: "+secret+"\r\n", 20)),
		"long field of the armor":        sub("-----BEGIN PGP MESSAGE-----\r\n", "-----BEGIN PGP MESSAGE-----\r\nVersion: "+strings.Repeat(secret, 10)+"\r\n"),
		"in the base64":                  sub("\r\n-----END", "\r\n"+secret+"\r\n-----END"),
		"after the checksum":             sub("\r\n-----END", "\r\nCLEARSECRET\r\n-----END"),
		"what base64 decoding passes by": sub("Content-Disposition: inline", "Content-Transfer-Encoding: base64\r\nContent-Disposition: inline; x="+secret),
	} {
		if !strings.Contains(message, "SECRET") {
			t.Fatal(name)
		}
		readable, err := Readable(source(message))
		ciphertext, errC := Ciphertext(source(message))
		if !readable || ciphertext || err != nil || errC != nil {
			t.Errorf("%s: readable=%v ciphertext=%v, %v, %v", name, readable, ciphertext, err, errC)
		}
	}
}

func TestArmorIsNothingElse(t *testing.T) {
	b := builder{t}
	good := b.armored(armoredMessage, make([]byte, 96)) // needs no padding
	body := strings.TrimSuffix(strings.TrimSpace(good), "-----END PGP MESSAGE-----")
	for _, c := range []struct {
		text string
		want bool
	}{
		{good, true}, {"\r\n \r\n" + good + "\r\n\t\r\n", true}, {strings.ReplaceAll(good, "\r\n", "\n"), true},
		{body + "=AbC1\r\n-----END PGP MESSAGE-----", true},
		{body + "=AbC1\r\nAAAA\r\n-----END PGP MESSAGE-----", false},
		{body + "=AbC1\r\n=AbC1\r\n-----END PGP MESSAGE-----", false},
		{body + "AA==\r\n=AbC1\r\n-----END PGP MESSAGE-----", true},
		{body + "AA==\r\nAAAA\r\n-----END PGP MESSAGE-----", false},
		{body + "two words\r\n-----END PGP MESSAGE-----", false},
		{body + "\u00fc\r\n-----END PGP MESSAGE-----", false},
		{body, false}, {good + good, false}, {good + "text", false}, {"text\r\n" + good, false}, {"", false},
		{strings.ReplaceAll(good, "MESSAGE", "SIGNATURE"), false},
	} {
		if got, err := wholeArmor(strings.NewReader(c.text), armoredMessage, isQuietArmorHeader); got != c.want || err != nil {
			t.Errorf("%v, %v for\n%s", got, err, c.text)
		}
	}
}
