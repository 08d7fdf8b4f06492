//go:build peers

package keydisc

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/keydisc/internal/dnssec"
)

// peerZone is a zone that BIND's or ldns's own tools sign and BIND serves.
type peerZone struct {
	name, text string
	keygen     []string // arguments of dnssec-keygen; none: not signed
	sign       []string // arguments of dnssec-signzone
	ldns       []string // arguments of ldns-signzone, instead
}

const peerApex = "@ 300 IN SOA ns.test. hostmaster.test. 1 7200 3600 86400 300\n@ 300 IN NS ns.test.\n"

// peerZones are the zones from the lowest up, so that each one's DS can go into its parent.
func peerZones(t *testing.T, bob []byte) []peerZone {
	ecdsa := []string{"-a", "ECDSAP256SHA256"}
	content := func(zone string) string {
		name := func(local string) string {
			return strings.TrimSuffix(nameOf(t, local+"@"+zone), zone+".") + zone + ". 300 IN "
		}
		key := "OPENPGPKEY " + base64.StdEncoding.EncodeToString(bob) + "\n"
		return name("bob") + key + name("alias") + "CNAME " + nameOf(t, "bob@"+zone) + "\n" +
			name("far") + "CNAME " + nameOf(t, "bob@nsec3.test") + "\n" + name("plain") + "CNAME " + nameOf(t, "bob@unsigned.test") + "\n" +
			"*._openpgpkey.wild 300 IN " + key + "_openpgpkey.moved 300 IN DNAME _openpgpkey.nsec3.test.\n"
	}
	return []peerZone{
		{name: "nsec.test", text: content("nsec.test"), keygen: ecdsa},
		{name: "nsec3.test", text: content("nsec3.test"), keygen: []string{"-a", "RSASHA512", "-b", "2048"}, sign: []string{"-3", "-", "-H", "0"}},
		{name: "salted.test", text: content("salted.test"), keygen: []string{"-a", "ECDSAP384SHA384"}, sign: []string{"-3", "aabbccdd", "-H", "10"}},
		{name: "optout.test", text: content("optout.test") + "sub 300 IN NS ns.test.\n", keygen: ecdsa, sign: []string{"-3", "-", "-H", "0", "-A"}},
		{name: "slow.test", text: content("slow.test"), keygen: ecdsa, sign: []string{"-3", "-", "-H", "150"}},
		{name: "ldns.test", text: content("ldns.test"), keygen: []string{"-a", "ED25519"}, ldns: []string{"-n", "-t", "1", "-s", "00aa"}},
		{name: "expired.test", text: content("expired.test"), keygen: ecdsa, sign: []string{"-P", "-s", "20200101000000", "-e", "20200201000000"}},
		{name: "early.test", text: content("early.test"), keygen: ecdsa, sign: []string{"-P", "-s", "20350101000000", "-e", "20360101000000"}},
		{name: "unsigned.test", text: content("unsigned.test")},
		{name: "test", text: "ns 300 IN A 127.0.0.1\n", keygen: []string{"-a", "RSASHA256", "-b", "2048"}},
		{name: ".", keygen: []string{"-a", "RSASHA256", "-b", "2048"}},
	}
}

// peerFile is where a zone is.
func peerFile(dir, zone string) string {
	return filepath.Join(dir, "zone-"+strings.ReplaceAll(zone, ".", "_"))
}

// signPeerZones writes the zones, signed, and returns the root's DS records.
func signPeerZones(t *testing.T, dir string, zones []peerZone) []*dns.DS {
	t.Helper()
	delegations := map[string]string{}
	for _, z := range zones {
		_, parent, _ := strings.Cut(z.name, ".")
		text := peerApex + z.text + delegations[z.name]
		if z.name != "." {
			if parent == "" {
				parent = "."
			}
			delegations[parent] += strings.TrimSuffix(z.name, ".") + ". 300 IN NS ns.test.\n"
		}
		file := peerFile(dir, z.name)
		if err := os.WriteFile(file, []byte("$ORIGIN "+dns.Fqdn(z.name)+"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if z.keygen != nil {
			delegations[parent] += z.signed(t, dir, file)
		}
		if z.name == "." {
			return dsRecords(t, delegations[""]+delegations["."])
		}
	}
	return nil
}

// signed signs the zone's file in place and returns its DS records.
func (z *peerZone) signed(t *testing.T, dir, file string) string {
	t.Helper()
	var keys []string
	for _, flags := range [][]string{{"-f", "KSK"}, {}} {
		args := append(append([]string{"-q", "-K", dir}, z.keygen...), append(flags, z.name)...)
		keys = append(keys, filepath.Join(dir, strings.TrimSpace(run(t, "bind9-utils", nil, "dnssec-keygen", args...))))
	}
	if z.ldns != nil {
		ldns := append(append([]string{"-o", z.name, "-f", file + ".signed"}, z.ldns...), append([]string{file}, keys...)...)
		run(t, "ldnsutils", nil, "ldns-signzone", ldns...)
	} else {
		args := append([]string{"-q", "-S", "-K", dir, "-d", dir, "-o", z.name, "-f", file + ".signed"}, z.sign...)
		run(t, "bind9-utils", nil, "dnssec-signzone", append(args, file)...)
	}
	if err := os.Rename(file+".signed", file); err != nil {
		t.Fatal(err)
	}
	return run(t, "bind9-utils", nil, "dnssec-dsfromkey", "-2", keys[0]+".key")
}

func dsRecords(t *testing.T, text string) (all []*dns.DS) {
	t.Helper()
	parser := dns.NewZoneParser(strings.NewReader(text), ".", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		if ds, ok := rr.(*dns.DS); ok && ds.Hdr.Name == "." {
			all = append(all, ds)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no DS of the root in %q: %v", text, parser.Err())
	}
	return all
}

// freePort is one that is free for UDP and TCP on loopback.
func freePort(t *testing.T) int {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		port := tcp.Addr().(*net.TCPAddr).Port
		_ = tcp.Close()
		if err == nil {
			_ = udp.Close()
			return port
		}
	}
	t.Fatal("no port is free for both UDP and TCP")
	return 0
}

// daemon starts a server that stays in the foreground, and returns when its log says that it is ready.
func daemon(t *testing.T, debian, ready, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, debian)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	var seen strings.Builder
	for lines := bufio.NewScanner(log); lines.Scan(); {
		seen.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), ready) {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return
		}
	}
	t.Fatalf("%s did not start:\n%s", name, seen.String())
}

func startBIND(t *testing.T, dir string, zones []peerZone) (address string) {
	port := freePort(t)
	config := fmt.Sprintf(`options { directory %q; pid-file none; session-keyfile none; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
		recursion no; dnssec-validation no; allow-query { any; }; notify no; }; controls { };`, dir, port)
	for _, z := range zones {
		config += fmt.Sprintf("\nzone %q { type primary; file %q; };", z.name, peerFile(dir, z.name))
	}
	file := filepath.Join(dir, "named.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon(t, "bind9", "all zones loaded", "named", "-g", "-n", "1", "-c", file)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// startUnbound starts a recursive server that finds everything at the upstream.
func startUnbound(t *testing.T, dir, upstream, modules string, anchors []*dns.DS) (address string) {
	port := freePort(t)
	config := fmt.Sprintf(`server:
  interface: 127.0.0.1@%d
  access-control: 127.0.0.0/8 allow
  do-daemonize: no
  do-ip6: no
  chroot: ""
  username: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  num-threads: 1
  do-not-query-localhost: no
  local-zone: "test." nodefault
  val-nsec3-keysize-iterations: "1024 100 2048 100 4096 100"
  module-config: %q
`, port, dir, modules)
	for _, ds := range anchors {
		config += fmt.Sprintf("  trust-anchor: %q\n", strings.Join(strings.Fields(ds.String()), " "))
	}
	config += fmt.Sprintf("remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: %s\n", strings.Replace(upstream, ":", "@", 1))
	file := filepath.Join(dir, fmt.Sprintf("unbound-%d.conf", port))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon(t, "unbound", "start of service", "unbound", "-d", "-c", file)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// unboundSays is what a validating server thinks of a name: "secure 1", "secure 0", "insecure" or "error".
func unboundSays(t *testing.T, server, name string) string {
	t.Helper()
	query := new(dns.Msg).SetQuestion(name, dns.TypeOPENPGPKEY)
	query.AuthenticatedData = true
	m, _, err := (&dns.Client{Net: "tcp", Timeout: 20 * time.Second}).Exchange(query, server)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == dns.TypeOPENPGPKEY {
			found++
		}
	}
	switch {
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return "error"
	case !m.AuthenticatedData:
		return "insecure"
	}
	return fmt.Sprintf("secure %d", found)
}

func weSay(answer dnssec.Answer, err error) string {
	switch {
	case err != nil:
		return "error"
	case answer.Status == dnssec.Insecure && len(answer.Records) == 0:
		return "insecure"
	case answer.Status == dnssec.Secure:
		return fmt.Sprintf("secure %d", len(answer.Records))
	}
	return "nonsense"
}

// The same names through three servers, one that validates itself among them: our verdicts are the same with each, and
// the same as Unbound's.
func TestDANEAgreesWithPeers(t *testing.T) {
	dir := t.TempDir()
	zones := peerZones(t, load(t, "bob").Bytes())
	anchors := signPeerZones(t, dir, zones)
	bind := startBIND(t, dir, zones)
	validating := startUnbound(t, dir, bind, "validator iterator", anchors)
	servers := map[string]string{"BIND": bind, "Unbound": startUnbound(t, dir, bind, "iterator", anchors), "validating Unbound": validating}
	resolvers := map[string]*dane{}
	for name, address := range servers {
		d, err := newDANE(dnssec.Options{Servers: []string{address}, Anchors: anchors, Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		resolvers[name] = d
	}
	seen := map[string]int{}
	for _, z := range zones[:len(zones)-1] { // mail to the root has no form
		for _, local := range []string{"bob@", "nobody@", "alias@", "far@", "plain@", "any@wild.", "bob@moved.", "nobody@moved.", "bob@sub.", "bob@no.such."} {
			name := nameOf(t, local+z.name)
			want := unboundSays(t, validating, name)
			seen[want]++
			for server, d := range resolvers {
				answer, err := d.resolver.Lookup(t.Context(), name, dns.TypeOPENPGPKEY)
				if got := weSay(answer, err); got != want {
					t.Errorf("%s%s through %s: %s, Unbound says %s: %v", local, z.name, server, got, want, err)
				}
			}
		}
	}
	for _, verdict := range []string{"secure 1", "secure 0", "insecure", "error"} {
		if seen[verdict] < 5 {
			t.Errorf("only %d names were %q: %v", seen[verdict], verdict, seen)
		}
	}
}

// A certificate comes through BIND's tools as it went in.
func TestDANEFindsWithPeers(t *testing.T) {
	dir := t.TempDir()
	bob := load(t, "bob")
	zones := peerZones(t, bob.Bytes())
	anchors := signPeerZones(t, dir, zones)
	d, err := newDANE(dnssec.Options{Servers: []string{startBIND(t, dir, zones)}, Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"bob@nsec.test", "Bob@NSEC3.test", "bob@ldns.test", "alias@salted.test", "anybody@wild.nsec.test"} {
		data := mustFind(t, d, address)
		if certificates, err := ParseCertificates(data); err != nil || len(certificates) != 1 || certificates[0].Fingerprint() != bob.Fingerprint() {
			t.Errorf("%s: %d bytes, %v", address, len(data), err)
		}
	}
}
