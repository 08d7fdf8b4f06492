package config

import (
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// checker collects everything that is wrong with the values.
type checker struct {
	file     string
	lines    []keyLine
	problems Problems
}

// keyLine is where a key stands: "account.1.imap" for the second account's.
type keyLine struct {
	key  string
	line int
}

func (c *checker) bad(key, what, remedy string, args ...any) {
	line := 1
	for _, l := range c.lines {
		if l.key == key || strings.HasPrefix(key, l.key+".") {
			line = l.line // the key itself, or the table it is missing from
		}
	}
	c.problems = append(c.problems, Problem{File: c.file, Line: line, Key: display(key), What: what, Remedy: fmt.Sprintf(remedy, args...)})
}

// display drops the index of array tables: users know them as [[account]].
func display(key string) string {
	words := strings.Split(key, ".")
	return strings.Join(slices.DeleteFunc(words, func(w string) bool {
		_, err := strconv.Atoi(w)
		return err == nil
	}), ".")
}

func (c *checker) sorted() Problems {
	sort.SliceStable(c.problems, func(i, j int) bool { return c.problems[i].Line < c.problems[j].Line })
	return c.problems
}

func (c *checker) config(cfg *Config) {
	if cfg.StateDir == "" {
		c.bad("state_dir", "it is empty", "name a folder that only you can read")
	}
	c.local(cfg.Local)
	c.oneOfEach("vault.unlock", cfg.Vault.Unlock, "keyring", "systemd", "file", "prompt")
	seen := map[string]int{}
	for i, a := range cfg.Accounts {
		c.account(fmt.Sprintf("account.%d", i), a, seen)
	}
	c.policy(cfg.Policy)
	c.keydisc(cfg.Keydisc)
	c.database(cfg)
	c.devices(cfg)
	c.lanListener("local.devices", cfg.Local.Devices)
	c.gateway(cfg.Gateway)
	for _, address := range cfg.Discovery.Announce {
		if !isAddress(address) {
			c.bad("discovery.announce", fmt.Sprintf("%q is not a mail address", address), "write it as name@example.org")
		}
	}
}

func (c *checker) database(cfg *Config) {
	if cfg.Database.URL == "" {
		return
	}
	u, err := url.Parse(cfg.Database.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		c.bad("database.url", "it is not the URL of a PostgreSQL database", `write it as "postgres://user@host/database", or "" for an encrypted file in state_dir`)
		return
	}
	if len(cfg.Accounts) > 0 {
		c.bad("database.url", "an [[account]] keeps its mail in a database of its own", "leave out one of the two: a shared database is for gateways")
	}
}

func (c *checker) local(l Local) {
	listeners := []struct{ key, address string }{
		{"local.imap", l.IMAP}, {"local.imaps", l.IMAPS}, {"local.smtp", l.SMTP}, {"local.smtps", l.SMTPS},
		{"local.devices", l.Devices}, {"local.dashboard", l.Dashboard},
		{"local.metrics", l.Metrics},
	}
	taken := map[string]string{}
	for _, listener := range listeners {
		if listener.address == "" {
			continue
		}
		c.listener(listener.key, listener.address)
		if other, ok := taken[listener.address]; ok && !strings.HasSuffix(listener.address, ":0") {
			c.bad(listener.key, fmt.Sprintf("%s is already used by %s", listener.address, other), "give each listener its own port")
		}
		taken[listener.address] = listener.key
	}
	host, _, _ := net.SplitHostPort(l.Dashboard)
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsLoopback() {
		c.bad("local.dashboard", fmt.Sprintf("%s is not for this machine alone", l.Dashboard), `write 127.0.0.1:1180, or "" to turn it off; from another computer use an SSH tunnel`)
	}
}

func (c *checker) listener(key, address string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		c.bad(key, fmt.Sprintf("%q is not host:port", address), `write for example "127.0.0.1:1143", or "" to turn it off`)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		c.bad(key, fmt.Sprintf("%q is not a port", port), "use 1 to 65535, or 0 to have one picked")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		c.bad(key, fmt.Sprintf("%q is not an address of this machine", host), "use 127.0.0.1, ::1 or localhost")
	}
}

func (c *checker) account(key string, a Account, seen map[string]int) {
	for i, address := range append([]string{a.Address}, a.Aliases...) {
		field := key + ".aliases"
		if i == 0 {
			field = key + ".address"
		}
		if !isAddress(address) {
			c.bad(field, fmt.Sprintf("%q is not a mail address", address), "write it as name@example.org")
			continue
		}
		if _, ok := seen[strings.ToLower(address)]; ok {
			c.bad(field, address+" is configured twice", "remove one of them")
		}
		seen[strings.ToLower(address)]++
	}
	c.server(key+".imap", a.IMAP, "imap")
	c.server(key+".smtp", a.SMTP, "smtp")
	c.oneOf(key+".auth", a.Auth, "password")
	c.oneOf(key+".headers", a.Headers, "baseline", "shy")
	c.seal(key+".seal", a.Seal)
	if n := a.MaxConnections(); n < minConnections || n > maxConnections {
		c.bad(key+".connections", fmt.Sprintf("%d is out of range", n),
			"choose between %d and %d; providers commonly allow each user 10 to 15", minConnections, maxConnections)
	}
}

func isAddress(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && !strings.ContainsAny(s, "\" \t<>")
}

// server checks a provider URL; without TLS only loopback addresses are allowed.
func (c *checker) server(key, value, protocol string) {
	remedy := fmt.Sprintf("write for example %ss://mail.example.org:%d or %s+starttls://mail.example.org:%d", protocol,
		map[string]int{"imap": 993, "smtp": 465}[protocol], protocol, map[string]int{"imap": 143, "smtp": 587}[protocol])
	if strings.Contains(value, "@") { // not shown: it may hold a password
		c.bad(key, "a user name or password does not belong in it", "write the name as username; sealpost init puts the password into the vault")
		return
	}
	u, err := url.Parse(value)
	if value == "" || err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || !isPort(u.Port()) {
		c.bad(key, fmt.Sprintf("%q is not a server", value), "%s", remedy)
		return
	}
	switch u.Scheme {
	case protocol + "s", protocol + "+starttls":
	case protocol + "+insecure":
		if !isLoopback(u.Hostname()) {
			c.bad(key, "insecure is allowed for this machine only", "%s", remedy)
		}
	default:
		c.bad(key, fmt.Sprintf("%q is not known", u.Scheme+"://"), "%s", remedy)
	}
}

// isPort also takes "": the protocol's own port.
func isPort(port string) bool {
	n, err := strconv.Atoi(port)
	return port == "" || err == nil && n > 0 && n <= 65535
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func (c *checker) seal(key string, value any) {
	const remedy = `write "all", "off" or a list of mailboxes such as ["INBOX", "Archive"]`
	switch v := value.(type) {
	case string:
		if v == "all" || v == "off" {
			return
		}
	case []any:
		if !slices.ContainsFunc(v, func(name any) bool { s, ok := name.(string); return !ok || s == "" }) {
			return
		}
	}
	c.bad(key, fmt.Sprintf("%v is not a choice of mailboxes", value), "%s", remedy)
}

func (c *checker) policy(p Policy) {
	c.oneOf("policy.default", p.Default, "require", "prefer", "never")
	c.oneOf("policy.mixed", p.Mixed, "split", "refuse")
	c.oneOf("policy.override", p.Override, "allow", "forbid")
	if p.SubjectRequire != "" && strings.EqualFold(strings.TrimSpace(p.SubjectRequire), strings.TrimSpace(p.SubjectClear)) {
		c.bad("policy.subject_clear", "it is the same as subject_require", "choose two different tags")
	}
	if p.VerifyEvery != 0 && p.VerifyEvery < Duration(day) {
		c.bad("policy.verify_every", p.VerifyEvery.String()+" is too short", `choose "1d" or more, or "0" for no reminder`)
	}
	if p.KeepLog != 0 && p.KeepLog < Duration(30*day) {
		c.bad("policy.keep_log", p.KeepLog.String()+" is too short", `choose "30d" or more, or "0" to keep it for ever`)
	}
	c.rules("policy.rule", p.Rules)
}

func (c *checker) rules(table string, rules []Rule) {
	for i, r := range rules {
		key := fmt.Sprintf("%s.%d", table, i)
		c.pattern(key+".match", r.Match)
		if r.From != "" {
			c.pattern(key+".from", r.From)
		}
		if r.Override != "" {
			c.oneOf(key+".override", r.Override, "allow", "forbid")
		}
		c.oneOf(key+".encrypt", r.Encrypt, "require", "prefer", "never")
	}
}

// pattern checks what matches addresses.
func (c *checker) pattern(key, pattern string) {
	domain := strings.TrimPrefix(pattern, "*@")
	if pattern != "*" && !isAddress(pattern) && (domain == "" || strings.ContainsAny(domain, "@* \t<>\"")) {
		c.bad(key, fmt.Sprintf("%q matches nothing", pattern), `write an address, "*@example.org", "example.org" or "*"`)
	}
}

func (c *checker) keydisc(k Keydisc) {
	c.oneOfEach("keydisc.methods", k.Methods, "contacts", "autocrypt", "wkd", "vks", "hkp", "dane", "ldap", "file")
	c.keydiscServers(k)
	if t := time.Duration(k.Timeout); t < time.Second || t > 2*time.Minute {
		c.bad("keydisc.timeout", t.String()+" is out of range", `choose between "1s" and "2m"`)
	}
	for host, address := range k.Resolve {
		_, _, errHost := net.SplitHostPort(host)
		_, errAddress := netip.ParseAddrPort(address)
		if errHost != nil || errAddress != nil {
			c.bad("keydisc.resolve", fmt.Sprintf("%q = %q is not host:port = address:port", host, address), `write for example "openpgpkey.example.org:443" = "127.0.0.1:8443"`)
		}
	}
}

// keydiscServers checks what the methods need.
func (c *checker) keydiscServers(k Keydisc) {
	for method, settings := range map[string]struct {
		key string
		n   int
	}{"hkp": {"keydisc.hkp", len(k.HKP)}, "ldap": {"keydisc.ldap", len(k.LDAP)}, "file": {"keydisc.files", len(k.Files)}} {
		if slices.Contains(k.Methods, method) && settings.n == 0 {
			c.bad("keydisc.methods", method+" has nothing to ask", "set %s, or leave the method out", settings.key)
		}
	}
	for _, server := range k.HKP {
		c.scheme("keydisc.hkp", server, "hkps://", "https://", "hkp://")
	}
	c.scheme("keydisc.vks", k.VKS, "https://")
	for _, server := range k.DNS {
		if _, err := netip.ParseAddrPort(server); err != nil {
			c.bad("keydisc.dns", fmt.Sprintf("%q is not address:port", server), `write for example "127.0.0.1:53"`)
		}
	}
	c.lists(k.Lists)
	for i, l := range k.LDAP {
		c.ldap(fmt.Sprintf("keydisc.ldap.%d", i), l)
	}
}

func (c *checker) ldap(key string, l LDAP) {
	c.scheme(key+".url", l.URL, "ldaps://", "ldap+starttls://", "ldap+insecure://")
	if l.BaseDN == "" {
		c.bad(key+".base_dn", "it is missing", `name the entry below which people are, for example "ou=people,dc=example,dc=org"`)
	}
	if (l.BindDN == "") != (l.PasswordFile == "") {
		c.bad(key+".bind_dn", "bind_dn and password_file belong together", "set both, or neither for an anonymous search")
	}
}

func (c *checker) scheme(key, server string, schemes ...string) {
	for _, scheme := range schemes {
		if host, ok := strings.CutPrefix(server, scheme); ok && host != "" {
			return
		}
	}
	c.bad(key, fmt.Sprintf("%q is not a server", server), "begin it with %s", strings.Join(schemes, ", "))
}

func (c *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.bad(key, fmt.Sprintf("%q is not allowed", value), "choose %s", strings.Join(allowed, ", "))
	}
}

func (c *checker) oneOfEach(key string, values []string, allowed ...string) {
	for _, value := range values {
		c.oneOf(key, value, allowed...)
	}
	if len(values) == 0 && key == "vault.unlock" {
		c.bad(key, "it is empty", "name at least one of %s", strings.Join(allowed, ", "))
	}
}

// linesOf finds the line of every key, well enough for messages: the file has been parsed
// by the time it is asked.
func linesOf(data []byte) []keyLine {
	var lines []keyLine
	table, arrays := "", map[string]int{}
	for i, text := range strings.Split(string(data), "\n") {
		text = strings.TrimSpace(text)
		switch {
		case strings.HasPrefix(text, "[["):
			name := strings.TrimSpace(strings.SplitN(text[2:], "]", 2)[0])
			if at := strings.LastIndexByte(name, '.'); at > 0 && arrays[name[:at]] > 0 { // an array in a table of an array
				name = fmt.Sprintf("%s.%d%s", name[:at], arrays[name[:at]]-1, name[at:])
			}
			table = fmt.Sprintf("%s.%d", name, arrays[name])
			arrays[name]++
			lines = append(lines, keyLine{table, i + 1})
		case strings.HasPrefix(text, "["):
			table = strings.TrimSpace(strings.SplitN(text[1:], "]", 2)[0])
			lines = append(lines, keyLine{table, i + 1})
		case strings.Contains(text, "=") && !strings.HasPrefix(text, "#"):
			key := strings.Trim(strings.TrimSpace(strings.SplitN(text, "=", 2)[0]), `"`)
			if table != "" {
				key = table + "." + key
			}
			lines = append(lines, keyLine{key, i + 1})
		}
	}
	return lines
}

// keys are all keys of the file, without the indexes of array tables.
func keys() []string { return keysOf(reflect.TypeFor[Config](), "") }

func keysOf(t reflect.Type, prefix string) []string {
	var found []string
	for i := range t.NumField() {
		field := t.Field(i)
		key := prefix + field.Tag.Get("toml")
		inner := field.Type
		if field.Anonymous { // its keys stand in the same table
			found = append(found, keysOf(inner, prefix)...)
			continue
		}
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			found = append(found, keysOf(inner, key+".")...)
			continue
		}
		found = append(found, key)
	}
	return found
}

// nearestKey is the key that differs least from a mistyped one; "" if none is near.
func nearestKey(mistyped string) string {
	best, distance := "", 3
	for _, key := range keys() {
		if d := editDistance(mistyped, key); d < distance {
			best, distance = key, d
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(row[j]+1, row[j-1]+1, cost)
		}
	}
	return row[len(b)]
}
