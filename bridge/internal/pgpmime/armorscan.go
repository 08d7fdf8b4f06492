package pgpmime

import (
	"io"
	"regexp"
	"strings"
)

// What is between the dashes of an armor (RFC 9580 §6.2).
const (
	armoredMessage   = "PGP MESSAGE"
	armoredSignature = "PGP SIGNATURE"
)

// wholeArmor says whether r holds one armored block of that kind and white space around it: the
// armor headers that allowed lets pass, base64 and its checksum. The errors are those of reading.
func wholeArmor(r io.Reader, kind string, allowed func(header string) bool) (bool, error) {
	a := armorScan{kind: kind, allowed: allowed}
	err := eachLine(r, func(line []byte) bool { return a.line(string(line)) })
	return a.state == armorEnded, err
}

// armorScan is where in the armor a line-by-line reading is.
type armorScan struct {
	kind    string
	allowed func(header string) bool
	headers int
	state   armorState
}

type armorState int

const (
	armorBefore armorState = iota
	armorHeaders
	armorData
	armorPadded // after the padding that ends the base64
	armorSummed // after the checksum
	armorEnded
	armorBad
)

// line takes the next line without its white space; false once the answer is no.
func (a *armorScan) line(line string) bool {
	switch {
	case a.state == armorBefore && line == "-----BEGIN "+a.kind+"-----":
		a.state = armorHeaders
	case a.state == armorHeaders && line == "":
		a.state = armorData
	case line == "":
	case a.state == armorHeaders:
		a.header(line)
	case a.state >= armorData && a.state <= armorSummed:
		a.data(line)
	default:
		a.state = armorBad
	}
	return a.state != armorBad
}

// maxArmorHeaders is more than any program writes.
const maxArmorHeaders = 5

func (a *armorScan) header(line string) {
	if a.headers++; a.headers > maxArmorHeaders || !a.allowed(line) {
		a.state = armorBad
	}
}

var (
	base64Line   = regexp.MustCompile(`^[A-Za-z0-9+/]+$`)
	paddedLine   = regexp.MustCompile(`^[A-Za-z0-9+/]*={1,2}$`)
	checksumLine = regexp.MustCompile(`^=[A-Za-z0-9+/]{4}$`)
)

func (a *armorScan) data(line string) {
	switch {
	case line == "-----END "+a.kind+"-----":
		a.state = armorEnded
	case a.state <= armorPadded && checksumLine.MatchString(line):
		a.state = armorSummed
	case a.state == armorData && paddedLine.MatchString(line):
		a.state = armorPadded
	case a.state == armorData && base64Line.MatchString(line):
	default:
		a.state = armorBad
	}
}

// What programs name themselves, with their version and system, and their standing comments.
const (
	armorProgram = `(GnuPG(/MacGPG2)?|BCPG|OpenPGP\.js|ProtonMail|Mailvelope|FlowCrypt|RNP|PGP Desktop|Encryption Desktop)` +
		`( v?[0-9][0-9.]{0,15})?( \((GNU/Linux|MingW32|Darwin|Cygwin|FreeBSD|OpenBSD|Build [0-9]{1,6})\))?`
	armorComment = `(Using GnuPG with (Mozilla|Thunderbird|Icedove|SeaMonkey) - |GPGTools - )?https?://(www\.)?` +
		`(enigmail\.mozdev\.org|enigmail\.net|gpgtools\.org|gnupg\.org|protonmail\.com|proton\.me|openpgpjs\.org|mailvelope\.com|flowcrypt\.com)/?`
)

var (
	armorHeader      = regexp.MustCompile(`^(Version|Comment|Charset|MessageID|Hash):( .{0,120})?$`)
	quietArmorHeader = regexp.MustCompile(`^(Version: ` + armorProgram + `|Charset: [A-Za-z0-9_-]{1,30}|Comment: ` + armorComment + `)$`)
)

// anyArmorHeader lets pass what programs and their users write above the base64.
func anyArmorHeader(line string) bool { return armorHeader.MatchString(strings.ToValidUTF8(line, "?")) }

// inlineArmorHeader lets pass everything: of a message that is opened, nobody is shown its armor.
func inlineArmorHeader(line string) bool { return strings.Contains(line, ":") }

// isQuietArmorHeader lets pass what cannot be part of the text that is encrypted: no comment but the
// standing ones of widespread programs.
func isQuietArmorHeader(line string) bool { return quietArmorHeader.MatchString(line) }
