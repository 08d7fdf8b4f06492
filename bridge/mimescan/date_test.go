package mimescan

import (
	"testing"
	"time"
)

func TestParseDate(t *testing.T) {
	for _, zone := range []string{"UTC", "America/New_York", "Asia/Kolkata"} {
		local, err := time.LoadLocation(zone)
		if err != nil {
			t.Skip("the machine has no time zones: ", err)
		}
		before := time.Local
		time.Local = local
		defer func() { time.Local = before }()
		for value, want := range map[string]string{
			"Mon, 23 Nov 2026 21:00:00 EST":              "2026-11-24T02:00:00Z",
			"Mon, 23 Nov 2026 21:00:00 pdt":              "2026-11-24T04:00:00Z",
			"Mon, 23 Nov 2026 21:00:00 IST":              "2026-11-23T21:00:00Z",
			"Mon, 23 Nov 2026 21:00:00 GMT (night)":      "2026-11-23T21:00:00Z",
			"Mon, 23 Nov 2026 21:00:00 +0530 (IST)":      "2026-11-23T15:30:00Z",
			"Mon, 23 Nov 2026 21:00:00 -0500 (EST)":      "2026-11-24T02:00:00Z",
			"23 Nov 26 21:00 A":                          "2026-11-23T21:00:00Z",
			"Mon, 23 Nov 2026 21:00:00 EST (New (York))": "2026-11-24T02:00:00Z",
			"Tue, 12 Oct 2010 16:21:05 H0500":            "",
			"tomorrow":                                   "",
			"Mon, 23 Nov":                                "",
			"":                                           "",
		} {
			at, err := ParseDate(value)
			if got := at.UTC().Format(time.RFC3339); (err != nil) != (want == "") || err == nil && got != want {
				t.Errorf("%q at a machine in %s is %s, %v", value, zone, got, err)
			}
		}
	}
}

func FuzzParseDate(f *testing.F) {
	f.Add("Mon, 23 Nov 2026 21:00:00 EST (a (b))")
	f.Add("23 Nov 26 21:00 ZZ")
	f.Fuzz(func(t *testing.T, value string) {
		here, err := ParseDate(value)
		before := time.Local
		defer func() { time.Local = before }()
		time.Local = time.FixedZone("EST", 3600)
		if there, again := ParseDate(value); (err == nil) != (again == nil) || !here.Equal(there) {
			t.Fatalf("%q is %v, %v, and elsewhere %v, %v", value, here, err, there, again)
		}
	})
}
