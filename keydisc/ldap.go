package keydisc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// LDAPServer is a company directory.
type LDAPServer struct {
	// URL is ldaps://host[:port] or ldap+starttls://host[:port]. ldap+insecure://host[:port] is for loopback addresses
	// alone, and what is not found there stays open: without TLS it may be another program that answers.
	URL    string
	BaseDN string // below it all is searched
	// BindDN and Password log in with simple authentication (RFC 4513 §5.1.3). Password is called for every search; nil,
	// with an empty BindDN, means anonymous.
	BindDN   string
	Password func(context.Context) (string, error)
	Domains  []string // of the addresses that it is asked about; empty: all
	CAFile   string   // extra roots
}

// maxEntries is how many a search may find for one address.
const maxEntries = 16

// ldapSchemes are those of LDAPServer.URL.
var ldapSchemes = map[string]scheme{"ldaps": {port: "636"}, "ldap+starttls": {port: "389"}, "ldap+insecure": {port: "389", plain: true}}

// directory is an LDAPServer, checked.
type directory struct {
	LDAPServer
	server
	tls  *tls.Config
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	now  func() time.Time
}

func newLDAP(f *Finder) (method, error) {
	if len(f.options.LDAP) == 0 {
		return method{}, errors.New("it needs a directory")
	}
	var all []*directory
	for i, o := range f.options.LDAP {
		d, err := newDirectory(o)
		if err != nil {
			return method{}, fmt.Errorf("directory %d: %w", i+1, err)
		}
		d.dial, d.now = f.web.dial, f.options.Now
		all = append(all, d)
	}
	find := func(ctx context.Context, address string) ([]*Certificate, error) {
		return together(all, func(d *directory) ([]*Certificate, error) { return d.find(ctx, address) })
	}
	plain := slices.ContainsFunc(all, func(d *directory) bool { return d.plain })
	return method{name: LDAP, authenticated: !plain, find: find}, nil
}

func newDirectory(o LDAPServer) (*directory, error) {
	s, err := parseServer(o.URL, ldapSchemes)
	if err != nil {
		return nil, err
	}
	if _, err := ldap.ParseDN(o.BaseDN); err != nil || o.BaseDN == "" {
		return nil, fmt.Errorf("%s needs a base DN", s.host)
	}
	if (o.BindDN == "") != (o.Password == nil) {
		return nil, fmt.Errorf("%s needs both a bind DN and a password, or neither", s.host)
	}
	roots, err := rootsWith(o.CAFile)
	if err != nil {
		return nil, err
	}
	domains, err := normalDomains(o.Domains)
	if err != nil {
		return nil, err
	}
	o.Domains = domains
	return &directory{LDAPServer: o, server: s, tls: tlsFor(s.host, roots)}, nil
}

func tlsFor(host string, roots *x509.CertPool) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func normalDomains(domains []string) (normal []string, err error) {
	for _, d := range domains {
		address, err := NormalizeAddress("x@" + d)
		if err != nil {
			return nil, fmt.Errorf("%q is not a domain", d)
		}
		normal = append(normal, domainOf(address))
	}
	return normal, nil
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// find asks the directory for an address, if it is there for that domain.
func (d *directory) find(ctx context.Context, address string) ([]*Certificate, error) {
	normal, err := NormalizeAddress(address)
	if err != nil {
		return nil, err
	}
	if len(d.Domains) > 0 && !slices.Contains(d.Domains, domainOf(normal)) {
		return nil, nil
	}
	entries, err := d.search(ctx, normal)
	if err != nil {
		return nil, d.blame(err)
	}
	if len(entries) == 0 && d.plain {
		return nil, d.blame(errors.New("it has none, but says so without TLS: whatever listens there may be another program"))
	}
	certificates, err := together(entries, func(e *ldap.Entry) ([]*Certificate, error) { return entryCertificates(e, normal, d.now()) })
	return certificates, d.blame(err)
}

// search is what the directory has for the address. No error and no entry is a definite "there is none".
func (d *directory) search(ctx context.Context, address string) ([]*ldap.Entry, error) {
	ctx, cancel := context.WithCancel(ctx) // ends what connect leaves behind
	defer cancel()
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is left to be said
	if err := d.login(ctx, conn); err != nil {
		return nil, fmt.Errorf("log in: %w", ldapError(ctx, err))
	}
	result, err := conn.Search(ldap.NewSearchRequest(d.BaseDN, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases,
		maxEntries, 0, false, ldapFilter(address), ldapAttributes, nil))
	switch {
	case err != nil:
		// noSuchObject is no answer either: that is what a server calls a base which the user may not even know of
		// (slapd.access(5), "disclose"), and a misspelt one would mean that nobody has a certificate.
		return nil, fmt.Errorf("search: %w", ldapError(ctx, err))
	case len(result.Entries) > maxEntries:
		return nil, fmt.Errorf("search: more than %d entries", maxEntries)
	case len(result.Referrals) > 0:
		return nil, errors.New("search: a part of the directory is on other servers, which are not asked") // RFC 4511 §4.5.3
	}
	return result.Entries, nil
}

// login is the simple bind. go-ldap refuses an empty password, with which the server would take us for anonymous
// (RFC 4513 §5.1.2).
func (d *directory) login(ctx context.Context, conn *ldap.Conn) error {
	if d.Password == nil {
		return nil
	}
	password, err := d.Password(ctx)
	if err != nil {
		return fmt.Errorf("password: %w", err)
	}
	return conn.Bind(d.BindDN, password)
}

// ldapError leaves out what the server says in its own words, which may be anything, and names the deadline rather
// than the closed connection it led to.
func ldapError(ctx context.Context, err error) error {
	var l *ldap.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &l) && l.ResultCode < ldap.ErrorNetwork:
		return fmt.Errorf("LDAP result %d %s", l.ResultCode, ldap.LDAPResultCodeMap[l.ResultCode])
	}
	return err
}
