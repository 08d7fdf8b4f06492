package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// records answers SRV lookups: service → "host port".
func records(m map[string]*net.SRV) func(context.Context, string, string, string) (string, []*net.SRV, error) {
	return func(_ context.Context, service, _, _ string) (string, []*net.SRV, error) {
		if r := m[service]; r != nil {
			return "", []*net.SRV{r}, nil
		}
		return "", nil, errors.New("no such record")
	}
}

// files answers HTTP requests by URL.
type files map[string]string

func (f files) RoundTrip(r *http.Request) (*http.Response, error) {
	body, ok := f[r.URL.String()]
	response := &http.Response{StatusCode: 200, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(body))}
	if location, redirect := strings.CutPrefix(body, "-> "); redirect {
		response.StatusCode = 302
		response.Header.Set("Location", location)
	} else if !ok {
		response.StatusCode = 404
	}
	return response, nil
}

const config = `<clientConfig version="1.1"><emailProvider id="x">
<incomingServer type="pop3"><hostname>pop.x.test</hostname><port>995</port><socketType>SSL</socketType></incomingServer>
<incomingServer type="imap"><hostname>imap.x.test</hostname><port>143</port><socketType>STARTTLS</socketType><username>wrong</username></incomingServer>
<incomingServer type="imap"><hostname>imap.x.test</hostname><port>993</port><socketType>SSL</socketType><username>%EMAILLOCALPART%</username></incomingServer>
<outgoingServer type="smtp"><hostname>smtp.x.test</hostname><port>587</port><socketType>STARTTLS</socketType></outgoingServer>
</emailProvider></clientConfig>`

func TestDiscover(t *testing.T) {
	const wellKnown = "https://x.test/.well-known/autoconfig/mail/config-v1.1.xml"
	both := map[string]*net.SRV{
		"imaps": {Target: "m.x.test.", Port: 993}, "imap": {Target: "old.x.test.", Port: 143},
		"submissions": {Target: ".", Port: 0}, "submission": {Target: "s.x.test.", Port: 587},
	}
	for _, c := range []struct {
		name, address string
		srv           map[string]*net.SRV
		http          files
		want          string
	}{
		{"SRV, implicit TLS first, a dot means no", "a@x.test", both, nil, "imaps://m.x.test:993 smtp+starttls://s.x.test:587 a@x.test srv"},
		{"autoconfig", "a+b@x.test", nil, files{"https://autoconfig.x.test/mail/config-v1.1.xml?emailaddress=a%2Bb%40x.test": config},
			"imaps://imap.x.test:993 smtp+starttls://smtp.x.test:587 a+b autoconfig"},
		{"well-known after a redirect", "a@x.test", nil, files{wellKnown: "-> https://y.test/c", "https://y.test/c": config},
			"imaps://imap.x.test:993 smtp+starttls://smtp.x.test:587 a autoconfig"},
		{"no redirect to http", "a@x.test", nil, files{wellKnown: "-> http://y.test/c", "http://y.test/c": config}, ""},
		{"no servers without TLS", "a@x.test", nil, files{wellKnown: strings.NewReplacer("SSL", "plain", "STARTTLS", "plain").Replace(config)}, ""},
		{"too large a file", "a@x.test", nil, files{wellKnown: config + strings.Repeat(" ", maxAutoconfig)}, ""},
		{"known", "a@GMX.net", nil, nil, "imaps://imap.gmx.net:993 smtps://mail.gmx.net:465 a@GMX.net known"},
		{"no address", "alice", nil, nil, ""},
		{"a strange domain", "a@x.test/../y", both, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &Discoverer{LookupSRV: records(c.srv), HTTP: &http.Client{Transport: c.http}}
			found, err := d.Discover(t.Context(), c.address)
			if (err != nil) != (c.want == "") {
				t.Fatalf("%v, %v", found, err)
			}
			if err != nil {
				return
			}
			got := found[0].IMAP.String() + " " + found[0].SMTP.String() + " " + found[0].Username + " " + found[0].Source
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestKnownProvidersAreWellFormed(t *testing.T) {
	for line := range strings.Lines(knownProviders) {
		if line[0] == '#' {
			continue
		}
		for domain := range strings.SplitSeq(strings.Fields(line)[0], ",") {
			c, ok := byTable(t.Context(), "a@"+domain, domain)
			if !ok || c.IMAP.Protocol != "imap" || c.SMTP.Protocol != "smtp" {
				t.Errorf("%s: %+v", domain, c)
			}
		}
	}
}
