package pgpmime

import (
	"strings"
	"testing"
)

// What a clear-signed message shows above the text is judged by the header inside the signature.
func TestHeaderOfClearSignedMail(t *testing.T) {
	full, legacy, none := `; hp="clear"`, `; protected-headers="v1"`, ""
	header := crlf("From: Alice <alice@alpha.test>\nTo: bob@bravo.test\nSubject: =?utf-8?q?l=C3=BCnch?=\nDate: Mon, 01 Jun 2026 10:00:00 +0200\nMessage-ID: <m@alpha.test>\n")
	differs := func(old, new string) string { return strings.Replace(header, old, crlf(new), 1) }
	for _, c := range []struct {
		name, outer, inner, protection string
		signature                      Signature
		reason                         string
	}{
		{"the same", header, header, full, SignatureGood, ""},
		{"folded and encoded otherwise", differs("=?utf-8?q?l=C3=BCnch?=", "\n lünch"), header, full, SignatureGood, ""},
		{"trace fields outside", "Received: by mx.test; date\r\nList-Id: <l.test>\r\nResent-From: c@d.test\r\n" + header, header, full, SignatureGood, ""},
		{"Bcc of a sent copy", "Bcc: c@d.test\r\n" + header, header, full, SignatureGood, ""},
		{"other case of names", strings.ReplaceAll(header, "Subject:", "SUBJECT:"), header, full, SignatureGood, ""},
		{"subject", differs("l=C3=BCnch", "dinner"), header, full, SignatureMismatch, "header-differs"},
		{"display name", differs("Alice", "The Bank"), header, full, SignatureMismatch, "header-differs"},
		{"second subject", "Subject: dinner\r\n" + header, header, full, SignatureMismatch, "header-differs"},
		{"recipient", differs("To: bob", "To: carol"), header, full, SignatureMismatch, "header-differs"},
		{"date", differs("01 Jun", "02 Jun"), header, full, SignatureMismatch, "header-differs"},
		{"identifier", differs("<m@", "<n@"), header, full, SignatureMismatch, "header-differs"},
		{"added Reply-To", "Reply-To: mallory@evil.test\r\n" + header, header, full, SignatureMismatch, "header-differs"},
		{"added Sender", "Sender: mallory@evil.test\r\n" + header, header, full, SignatureMismatch, "header-differs"},
		{"added Cc", "Cc: mallory@evil.test\r\n" + header, header, full, SignatureMismatch, "header-differs"},
		{"added thread", "In-Reply-To: <x@y>\r\nReferences: <x@y>\r\n" + header, header, full, SignatureMismatch, "header-differs"},
		{"removed", strings.Replace(header, "To: bob@bravo.test\r\n", "", 1), header, full, SignatureMismatch, "header-differs"},
		{"author", differs("alice@alpha", "mallory@evil"), header, full, SignatureUnknownKey, "from-differs"},
		{"older protection, the same", header, header, legacy, SignatureGood, ""},
		{"older protection, subject", differs("l=C3=BCnch", "dinner"), header, legacy, SignatureMismatch, "header-differs"},
		{"older protection of some", "Reply-To: mallory@evil.test\r\n" + header, header, legacy, SignatureGood, "outer-only"},
		{"not protected", "Subject: You sell me your house?\r\nReply-To: mallory@evil.test\r\n" + outerHeader, "", none, SignatureGood, "outer-only"},
		{"inside, but not protected", outerHeader, header, none, SignatureGood, "outer-only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := builder{t}
			message := c.outer + b.good(c.inner+"Content-Type: text/plain"+c.protection+"\r\n\r\nYes, I agree.\r\n")
			for where, m := range map[string]string{"stored": message, "sealed": sealed(t, message, testSealKey)} {
				r, shown := opened(t, m)
				if r.Signature != c.signature || r.Reason != c.reason || shown != message {
					t.Errorf("%s: signature=%s; reason=%s\n%s", where, r.Signature, r.Reason, shown)
				}
			}
		})
	}
}

// Whoever encrypts to us can wrap alice's signed text in a header of his own and call that protected.
func TestHeaderAboveTheSignatureInside(t *testing.T) {
	b := builder{t}
	forged := "From: alice@alpha.test\r\nSubject: You sell me your house?\r\n"
	root := strings.Replace(b.good(plain("Yes, I agree.\n")), "; boundary", `; hp="cipher"; boundary`, 1)
	for _, c := range []struct {
		name    string
		signers []string
		reason  string
	}{
		{"signed below the header", nil, "outer-only"},
		{"signed as a whole", []string{"alice"}, ""},
	} {
		r, _ := opened(t, outerHeader+encryptedMIME(b.toBob(b.packets(forged+root, 0, c.signers...))))
		if r.Signature != SignatureGood || r.Reason != c.reason {
			t.Errorf("%s: %s; reason=%s", c.name, r.Signature, r.Reason)
		}
	}
}

// Of a message that is opened nobody is shown the armor: what stands above its base64 is no reason to leave it closed.
func TestInlineArmorHeaders(t *testing.T) {
	b := builder{t}
	armored := strings.Replace(b.toBob(b.packets(victim+"\n", 0, "alice")), "\r\n\r\n", "\r\nX-Program: "+strings.Repeat("x", 200)+"\r\n\r\n", 1)
	if r, shown := opened(t, outerHeader+plain("")+armored); r.Signature != SignatureGood || !strings.Contains(shown, victim) {
		t.Errorf("%s, %s; reason=%s", r.Encryption, r.Signature, r.Reason)
	}
}
