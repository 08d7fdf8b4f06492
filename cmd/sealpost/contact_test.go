package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/contacts"
)

func TestContactSaysWhenToCompareAgain(t *testing.T) {
	verified := time.Now().Add(-48 * time.Hour)
	for by, want := range map[time.Time]bool{{}: false, time.Now().Add(time.Hour): false, time.Now().Add(-time.Hour): true} {
		info := infoOf(contacts.Contact{Address: "bob@bravo.test", Trust: contacts.Verified, Verified: verified, VerifyBy: by})
		var out bytes.Buffer
		if err := printContacts(&globals{stdout: &out}, []contactInfo{info}, false); err != nil {
			t.Fatal(err)
		}
		if info.VerifyAgain != want || strings.Contains(out.String(), "compare again (contact verify)") != want {
			t.Errorf("due %s: %t\n%s", by, info.VerifyAgain, &out)
		}
	}
}
