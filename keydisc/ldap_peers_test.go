//go:build peers

package keydisc

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gnupg is GnuPG with a home of its own for one test.
type gnupg struct{ home string }

func newGnuPG(t *testing.T) gnupg {
	t.Helper()
	home, err := os.MkdirTemp("", "kd") // short: the agent's socket is below it
	if err != nil {
		t.Fatal(err)
	}
	g := gnupg{home}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all") // those of this home
		cmd.Env = g.env()
		if err := errors.Join(cmd.Run(), os.RemoveAll(home)); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g gnupg) env() []string { return append(os.Environ(), "GNUPGHOME="+g.home, "LC_ALL=C") }

func (g gnupg) run(t *testing.T, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("gpg")
	if err != nil {
		t.Fatal("gpg is missing: apt-get install gnupg")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--batch", "--passphrase", ""}, args...)...)
	cmd.Env = g.env()
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("gpg %v: %v\n%s", args, err, exit.Stderr)
	}
	return out
}

// generate makes a key for the address and returns its fingerprint.
func (g gnupg) generate(t *testing.T, userID string) string {
	t.Helper()
	g.run(t, "--quick-generate-key", userID, "future-default", "default", "never")
	for line := range strings.Lines(string(g.run(t, "--with-colons", "--list-keys", userID))) {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			return fields[9]
		}
	}
	t.Fatal("GnuPG made no key")
	return ""
}

// revoke imports the revocation that GnuPG keeps ready, behind a colon so that nobody does it by accident.
func (g gnupg) revoke(t *testing.T, fp string) {
	t.Helper()
	data := mustRead(t, filepath.Join(g.home, "openpgp-revocs.d", fp+".rev"))
	path := write(t, filepath.Join(t.TempDir(), "rev"), []byte(strings.Replace(string(data), ":-----BEGIN", "-----BEGIN", 1)))
	g.run(t, "--import", path)
}

// slapd is OpenLDAP's server on loopback, with TLS.
type slapd struct {
	secure, plain string // addresses
	ca            string // file
	folder        string
}

const (
	slapdBase     = "dc=example,dc=com"
	slapdPassword = "opensesame"
)

// startSlapd serves the entries, which are in LDIF.
func startSlapd(t *testing.T, ldif string) *slapd {
	t.Helper()
	s := &slapd{secure: freeAddress(t), plain: freeAddress(t), folder: t.TempDir()}
	config := s.config(t)
	data := write(t, filepath.Join(s.folder, "data.ldif"), []byte(ldif))
	if out, err := exec.CommandContext(t.Context(), slapdPath(t, "slapadd"), "-f", config, "-b", slapdBase, "-l", data).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, slapdPath(t, "slapd"), "-f", config, "-h", "ldaps://"+s.secure+" ldap://"+s.plain, "-d", "stats")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	stderr, err := cmd.StderrPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	go func() {
		log, _ := io.ReadAll(stderr)
		ended <- string(log)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = cmd.Wait() // it was told to end
	})
	for _, address := range []string{s.secure, s.plain} {
		awaitListener(t, address, ended)
	}
	return s
}

// awaitListener returns when somebody listens; slapd's log says that it starts before it does.
func awaitListener(t *testing.T, address string, ended <-chan string) {
	t.Helper()
	for again := time.NewTicker(10 * time.Millisecond); ; {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			again.Stop()
			return
		}
		select {
		case <-again.C:
		case log := <-ended:
			t.Fatalf("slapd: %s", log)
		}
	}
}

func slapdPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Fatalf("%s is missing: apt-get install slapd", name)
		}
	}
	return path
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *slapd) config(t *testing.T) string {
	t.Helper()
	schema, err := filepath.Abs("testdata/gnupg.schema")
	if err != nil {
		t.Fatal(err)
	}
	pair, ca := testTLS(t)
	s.ca = ca
	key, err := x509.MarshalPKCS8PrivateKey(pair.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := write(t, filepath.Join(s.folder, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	database := filepath.Join(s.folder, "db")
	if err := os.Mkdir(database, 0o700); err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(s.folder, "slapd.conf"), fmt.Appendf(nil, `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include %s
pidfile %s/pid
argsfile %s/args
TLSCertificateFile %s
TLSCertificateKeyFile %s
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix %q
rootdn "cn=admin,%s"
rootpw %s
directory %s
access to dn.subtree="ou=hidden,%s" by dn.exact="cn=reader,%s" read by * none
access to attrs=userPassword by anonymous auth by * none
access to * by * read
`, schema, s.folder, s.folder, ca, keyFile, slapdBase, slapdBase, slapdPassword, database, slapdBase, slapdBase))
}

// ldifEntry is an entry; values that are not text go in as Base64.
func ldifEntry(dn string, attributes ...string) string {
	var b strings.Builder
	b.WriteString("dn: " + dn + "\n")
	for _, a := range attributes {
		name, value, _ := strings.Cut(a, "=")
		b.WriteString(name + ":: " + base64.StdEncoding.EncodeToString([]byte(value)) + "\n")
	}
	return b.String() + "\n"
}

func unit(name, under string) string {
	return ldifEntry("ou="+name+","+under, "objectClass=organizationalUnit", "ou="+name)
}

func keyEntry(under, id, certificate string, more ...string) string {
	all := append([]string{"objectClass=pgpKeyInfo", "pgpCertID=" + id, "pgpKey=" + certificate}, more...)
	return ldifEntry("pgpCertID="+id+","+under, all...)
}

func personEntry(name string, more ...string) string {
	all := append([]string{"objectClass=inetOrgPerson", "objectClass=personWithKey", "cn=" + name, "sn=" + name}, more...)
	return ldifEntry("cn="+name+",ou=people,"+slapdBase, all...)
}

// companyLDIF is a directory of all kinds of entries, and what is in it by address.
func companyLDIF(t *testing.T) (ldif string, fingerprints map[string]string) {
	t.Helper()
	g := newGnuPG(t)
	fingerprints = map[string]string{}
	for _, name := range []string{"Alice", "Bob", "Carol", "Rita", "Hidden", "Disabled", "Flood"} {
		address := strings.ToLower(name) + "@example.com"
		fingerprints[address] = g.generate(t, name+" <"+address+">")
	}
	g.revoke(t, fingerprints["rita@example.com"])
	armored := func(name string) string {
		return string(g.run(t, "--armor", "--export", fingerprints[name+"@example.com"]))
	}
	binary := func(name string) string { return string(g.run(t, "--export", fingerprints[name+"@example.com"])) }
	keys, hidden := "ou=keys,"+slapdBase, "ou=hidden,"+slapdBase
	var b strings.Builder
	b.WriteString(ldifEntry(slapdBase, "objectClass=dcObject", "objectClass=organization", "dc=example", "o=Example"))
	b.WriteString(unit("keys", slapdBase) + unit("people", slapdBase) + unit("hidden", slapdBase) + unit("elsewhere", slapdBase))
	b.WriteString(ldifEntry("cn=reader,"+slapdBase, "objectClass=organizationalRole", "objectClass=simpleSecurityObject", "cn=reader", "userPassword="+slapdPassword))
	b.WriteString(keyEntry(keys, "1", armored("alice"), "gpgMailbox=alice@example.com", "pgpRevoked=0", "pgpDisabled=0"))
	b.WriteString(keyEntry(keys, "2", armored("bob"), "pgpUserID=Bob <Bob@example.com>"))
	b.WriteString(keyEntry(keys, "3", armored("rita"), "gpgMailbox=rita@example.com", "pgpRevoked=1"))
	b.WriteString(keyEntry(keys, "4", armored("disabled"), "gpgMailbox=disabled@example.com", "pgpDisabled=1"))
	b.WriteString(keyEntry(hidden, "5", armored("hidden"), "gpgMailbox=hidden@example.com"))
	b.WriteString(personEntry("carol", "mail=carol@example.com", "openPGPKey="+binary("carol")))
	b.WriteString(personEntry("dave", "mail=dave@example.com"))
	b.WriteString(personEntry("erin", "mail=erin@example.com", "openPGPKey=nonsense"))
	b.WriteString(personEntry("frank", "mail=frank@example.com", "openPGPKey="+binary("carol")))
	for i := range maxEntries + 1 {
		b.WriteString(personEntry(fmt.Sprintf("flood%d", i), "mail=flood@example.com", "openPGPKey="+binary("flood")))
	}
	return b.String(), fingerprints
}

// OpenLDAP with GnuPG's schema and with persons' entries, whose certificates GnuPG made.
func TestLDAPWithSlapd(t *testing.T) {
	ldif, fingerprints := companyLDIF(t)
	s := startSlapd(t, ldif)
	anonymous := LDAPServer{URL: "ldaps://" + s.secure, BaseDN: slapdBase, CAFile: s.ca}
	with := func(change func(*LDAPServer)) LDAPServer {
		o := anonymous
		change(&o)
		return o
	}
	password := func(p string) func(*LDAPServer) {
		return func(o *LDAPServer) {
			o.BindDN = "cn=reader," + slapdBase
			o.Password = func(context.Context) (string, error) { return p, nil }
		}
	}
	reader, base := with(password(slapdPassword)), func(dn string) LDAPServer { return with(func(o *LDAPServer) { o.BaseDN = dn }) }
	startTLS := with(func(o *LDAPServer) { o.URL = "ldap+starttls://" + s.plain })
	for name, c := range map[string]struct {
		server     LDAPServer
		address    string
		found      bool
		conclusive bool
	}{
		"key server schema, version 2": {anonymous, "alice@example.com", true, true},
		"key server schema, version 1": {anonymous, "bob@example.com", true, true},
		"written otherwise":            {anonymous, "ALICE@Example.com", true, true},
		"a person's":                   {anonymous, "carol@example.com", true, true},
		"revoked":                      {anonymous, "rita@example.com", true, true},
		"disabled":                     {anonymous, "disabled@example.com", false, false},
		"a person without":             {anonymous, "dave@example.com", false, true},
		"a person with nonsense":       {anonymous, "erin@example.com", false, false},
		"a person with another's":      {anonymous, "frank@example.com", false, false},
		"nobody":                       {anonymous, "nobody@example.com", false, true},
		"a part of an address":         {anonymous, "lice@example.com", false, true},
		"an asterisk":                  {anonymous, "*@example.com", false, true},
		"too many":                     {anonymous, "flood@example.com", false, false},
		"not shown to us":              {anonymous, "hidden@example.com", false, true},
		"shown to the reader":          {reader, "hidden@example.com", true, true},
		"wrong password":               {with(password("wrong")), "alice@example.com", false, false},
		"a base not shown to us":       {base("ou=hidden," + slapdBase), "hidden@example.com", false, false},
		"a base that is not there":     {base("ou=missing," + slapdBase), "alice@example.com", false, false},
		"another directory's base":     {base("dc=example,dc=net"), "alice@example.com", false, false},
		"STARTTLS":                     {startTLS, "alice@example.com", true, true},
		"STARTTLS, nobody":             {startTLS, "nobody@example.com", false, true},
		"STARTTLS, unknown authority":  {LDAPServer{URL: startTLS.URL, BaseDN: slapdBase}, "nobody@example.com", false, false},
		"unknown authority":            {LDAPServer{URL: anonymous.URL, BaseDN: slapdBase}, "nobody@example.com", false, false},
		"TLS to the plain port":        {with(func(o *LDAPServer) { o.URL = "ldaps://" + s.plain }), "nobody@example.com", false, false},
	} {
		f := ldapFinderFor(t, c.server, 20*time.Second)
		answer := f.Find(t.Context(), c.address)
		if (len(answer.Found) == 1) != c.found || answer.Conclusive != c.conclusive {
			t.Errorf("%s: %+v", name, answer)
			continue
		}
		if !c.found {
			continue
		}
		certificate := answer.Found[0].Certificate
		if got, want := string(certificate.Fingerprint()), fingerprints[strings.ToLower(c.address)]; got != want || !answer.Found[0].Authenticated {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
		var unusable *UnusableError
		if err := certificate.Check(c.address, time.Now()); name == "revoked" != (errors.As(err, &unusable) && unusable.Reason == ReasonRevoked) || name != "revoked" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What GnuPG itself puts into a directory is found there.
func TestLDAPFilledByGnuPG(t *testing.T) {
	const info = "cn=PGPServerInfo," + slapdBase
	s := startSlapd(t, ldifEntry(slapdBase, "objectClass=dcObject", "objectClass=organization", "dc=example", "o=Example")+
		unit("keys", slapdBase)+
		ldifEntry(info, "objectClass=pgpServerInfo", "cn=PGPServerInfo", "pgpBaseKeySpaceDN=ou=keys,"+slapdBase, "pgpSoftware=GnuPG", "pgpVersion=2 openldap"))
	g := newGnuPG(t)
	fp := g.generate(t, "Bob <bob@example.com>")
	if _, err := exec.LookPath("dirmngr"); err != nil {
		t.Fatal("dirmngr is missing: apt-get install dirmngr")
	}
	login := url.PathEscape("cn=admin," + slapdBase)
	g.run(t, "--keyserver", "ldap://"+s.plain+"/????bindname="+login+",password="+slapdPassword, "--send-keys", fp)
	f := ldapFinderFor(t, LDAPServer{URL: "ldaps://" + s.secure, BaseDN: slapdBase, CAFile: s.ca}, 20*time.Second)
	answer := f.Find(t.Context(), "bob@example.com")
	if len(answer.Found) != 1 || !answer.Conclusive || string(answer.Found[0].Certificate.Fingerprint()) != fp {
		t.Errorf("%+v", answer)
	}
}

// A part of the directory that is on another server is neither asked nor left out in silence.
func TestLDAPReferralWithSlapd(t *testing.T) {
	elsewhere := listen(t, nil, silentPeer)
	ldif := ldifEntry(slapdBase, "objectClass=dcObject", "objectClass=organization", "dc=example", "o=Example") +
		ldifEntry("ou=branch,"+slapdBase, "objectClass=referral", "objectClass=extensibleObject", "ou=branch",
			"ref=ldap://"+elsewhere.Addr().String()+"/ou=branch,"+slapdBase)
	s := startSlapd(t, ldif)
	for _, base := range []string{slapdBase, "ou=branch," + slapdBase} {
		answer := ldapFinderFor(t, LDAPServer{URL: "ldaps://" + s.secure, BaseDN: base, CAFile: s.ca}, 20*time.Second).Find(t.Context(), "bob@example.com")
		if answer.Conclusive || len(answer.Found) > 0 || elsewhere.connections.Load() > 0 {
			t.Errorf("%s: %+v", base, answer)
		}
	}
}

// What GnuPG exports without user IDs after a revocation is news of the certificate from before.
func TestUpdateFromGnuPG(t *testing.T) {
	g := newGnuPG(t)
	fp := g.generate(t, "Bob <bob@example.com>")
	known := parseOne(t, g.run(t, "--export", fp))
	g.run(t, "--quick-add-key", fp, "cv25519", "encr", "never")
	g.revoke(t, fp)
	after, err := ParseUpdate(withoutUserIDs(t, parseOne(t, g.run(t, "--export", fp))), known)
	if err != nil {
		t.Fatal(err)
	}
	var unusable *UnusableError
	if !errors.As(after.Check("bob@example.com", time.Now()), &unusable) || unusable.Reason != ReasonRevoked {
		t.Error("the revocation was not learnt")
	}
	folder := t.TempDir()
	write(t, filepath.Join(folder, "bob.asc"), g.run(t, "--armor", "--export", fp))
	f, err := New(Options{Methods: []Method{File}, Files: []string{folder}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if answer := f.Find(t.Context(), "bob@example.com"); len(answer.Found) != 1 || !answer.Conclusive {
		t.Errorf("%+v", answer)
	}
	write(t, filepath.Join(folder, "backup.asc"), g.run(t, "--armor", "--export-secret-keys", fp))
	if answer := f.Find(t.Context(), "bob@example.com"); !errors.Is(answer.Err, ErrSecretKey) || answer.Conclusive {
		t.Errorf("%+v", answer)
	}
}
