package upstream

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Candidate is a pair of servers that an address may be at.
type Candidate struct {
	IMAP, SMTP Endpoint
	Username   string
	Source     string // "srv", "autoconfig" or "known"
	Remark     string // what the user should know, or ""
}

// Discoverer finds the servers of an address. The zero value uses the network.
type Discoverer struct {
	LookupSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	HTTP      *http.Client  // https only, whatever it does; redirects are not followed to http
	Timeout   time.Duration // for each source; 0: 10 s
}

const (
	discoverTimeout = 10 * time.Second
	maxAutoconfig   = 256 << 10 // bytes of an autoconfig file
	maxRedirects    = 3
)

//go:embed providers.txt
var knownProviders string

// Discover finds the servers of an address: by SRV records (RFC 6186, RFC 8314 §5.1), by
// the provider's autoconfig file, in a table of known providers, in this order. Nothing
// found is proven: the caller logs in before it believes it. None found is an error.
func Discover(ctx context.Context, address string) ([]Candidate, error) {
	return (&Discoverer{}).Discover(ctx, address)
}

// Discover is like the function, with this Discoverer's network.
func (d *Discoverer) Discover(ctx context.Context, address string) ([]Candidate, error) {
	if err := checkAddress(address, true); err != nil {
		return nil, err
	}
	at := strings.LastIndexByte(address, '@')
	domain := strings.ToLower(address[at+1:])
	if strings.ContainsAny(domain, "/:?#[]%") {
		return nil, fmt.Errorf("%s is no domain with a mail provider", oneLine(domain))
	}
	var found []Candidate
	for _, source := range []func(context.Context, string, string) (Candidate, bool){d.bySRV, d.byAutoconfig, byTable} {
		limited, cancel := context.WithTimeout(ctx, cmp.Or(d.Timeout, discoverTimeout))
		if c, ok := source(limited, address, domain); ok {
			found = append(found, c)
		}
		cancel()
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no mail servers are published for %s; give them with --imap and --smtp, as the provider documents them", domain)
	}
	return found, nil
}

// bySRV prefers implicit TLS (RFC 8314 §3).
func (d *Discoverer) bySRV(ctx context.Context, address, domain string) (Candidate, bool) {
	c := Candidate{Username: address, Source: "srv"}
	var imapOK, smtpOK bool
	c.IMAP, imapOK = d.firstSRV(ctx, domain, [2]string{"imaps", "imaps"}, [2]string{"imap", "imap+starttls"})
	c.SMTP, smtpOK = d.firstSRV(ctx, domain, [2]string{"submissions", "smtps"}, [2]string{"submission", "smtp+starttls"})
	return c, imapOK && smtpOK
}

// firstSRV takes pairs of service and scheme.
func (d *Discoverer) firstSRV(ctx context.Context, domain string, services ...[2]string) (Endpoint, bool) {
	lookup := d.LookupSRV
	if lookup == nil {
		lookup = net.DefaultResolver.LookupSRV
	}
	for _, s := range services {
		_, records, err := lookup(ctx, s[0], "tcp", domain)
		if err != nil || len(records) == 0 {
			continue
		}
		host := strings.TrimSuffix(records[0].Target, ".")
		if host == "" { // RFC 2782: the service is decidedly not available
			continue
		}
		if e, err := endpoint(s[1], host, int(records[0].Port)); err == nil {
			return e, true
		}
	}
	return Endpoint{}, false
}

func endpoint(scheme, host string, port int) (Endpoint, error) {
	return ParseEndpoint(fmt.Sprintf("%s://%s", scheme, net.JoinHostPort(host, fmt.Sprint(port))))
}

// byAutoconfig asks the two places of Thunderbird's autoconfig.
func (d *Discoverer) byAutoconfig(ctx context.Context, address, domain string) (Candidate, bool) {
	for _, location := range []string{
		"https://autoconfig." + domain + "/mail/config-v1.1.xml?emailaddress=" + url.QueryEscape(address),
		"https://" + domain + "/.well-known/autoconfig/mail/config-v1.1.xml",
	} {
		data, err := d.get(ctx, location)
		if err != nil {
			continue
		}
		if c, err := parseAutoconfig(data, address); err == nil {
			return c, true
		}
	}
	return Candidate{}, false
}

// get fetches a small file over https, never over http.
func (d *Discoverer) get(ctx context.Context, address string) ([]byte, error) {
	client := http.Client{}
	if d.HTTP != nil {
		client = *d.HTTP
	}
	client.Jar = nil
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Scheme != "https" || len(via) > maxRedirects {
			return errors.New("redirected to an insecure address, or too often")
		}
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAutoconfig+1))
	if len(data) > maxAutoconfig {
		err = errors.New("the file is too large")
	}
	return data, err
}

// autoconfig is the part of the file that matters here.
type autoconfig struct {
	Provider struct {
		Incoming []autoconfigServer `xml:"incomingServer"`
		Outgoing []autoconfigServer `xml:"outgoingServer"`
	} `xml:"emailProvider"`
}

type autoconfigServer struct {
	Type     string `xml:"type,attr"`
	Hostname string `xml:"hostname"`
	Port     int    `xml:"port"`
	Socket   string `xml:"socketType"`
	Username string `xml:"username"`
}

// parseAutoconfig takes the first server of each kind that can be reached securely,
// implicit TLS before STARTTLS.
func parseAutoconfig(data []byte, address string) (Candidate, error) {
	var file autoconfig
	if err := xml.Unmarshal(data, &file); err != nil {
		return Candidate{}, err
	}
	c := Candidate{Source: "autoconfig"}
	incoming, okIn := best(file.Provider.Incoming, "imap", &c.IMAP)
	_, okOut := best(file.Provider.Outgoing, "smtp", &c.SMTP)
	if !okIn || !okOut {
		return Candidate{}, errors.New("the file names no IMAP and submission servers with TLS")
	}
	local, domain, _ := strings.Cut(address, "@")
	c.Username = strings.NewReplacer("%EMAILADDRESS%", address, "%EMAILLOCALPART%", local, "%EMAILDOMAIN%", domain).Replace(incoming.Username)
	if c.Username == "" || strings.ContainsAny(c.Username, "\r\n\x00") {
		c.Username = address
	}
	return c, nil
}

func best(servers []autoconfigServer, protocol string, e *Endpoint) (autoconfigServer, bool) {
	for _, socket := range [][2]string{{"SSL", protocol + "s"}, {"STARTTLS", protocol + "+starttls"}} {
		for _, s := range servers {
			if s.Type != protocol || s.Socket != socket[0] {
				continue
			}
			parsed, err := endpoint(socket[1], strings.TrimSpace(s.Hostname), s.Port)
			if err == nil {
				*e = parsed
				return s, true
			}
		}
	}
	return autoconfigServer{}, false
}

// byTable looks into providers.txt.
func byTable(_ context.Context, address, domain string) (Candidate, bool) {
	for line := range strings.Lines(knownProviders) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] == "#" || !slices.Contains(strings.Split(fields[0], ","), domain) {
			continue
		}
		c := Candidate{Username: address, Source: "known", Remark: strings.Join(fields[4:], " ")}
		if fields[3] == "local" {
			c.Username, _, _ = strings.Cut(address, "@")
		}
		var errIMAP, errSMTP error
		c.IMAP, errIMAP = ParseEndpoint(fields[1])
		c.SMTP, errSMTP = ParseEndpoint(fields[2])
		return c, errors.Join(errIMAP, errSMTP) == nil
	}
	return Candidate{}, false
}
