package main

import (
	_ "embed"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// scriptPatience is how long a script waits for what must happen.
const scriptPatience = 30 * time.Second

// exits CODE COMMAND…: the command ends with that code. A failure is exactly one line on stderr
// that begins with "sealpost: "; CODE/N allows N lines.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE[/LINES] COMMAND…")
	}
	text, lines, several := strings.Cut(args[0], "/")
	want, err := strconv.Atoi(text)
	ts.Check(err)
	if code := exitCodeOf(ts, args[1:]); code != want {
		ts.Fatalf("exit code %d, not %d", code, want)
	}
	if want != exitFailed && want != exitUsage || args[1] != "sealpost" {
		return
	}
	count := 1
	if several {
		count, err = strconv.Atoi(lines)
		ts.Check(err)
	}
	stderr := ts.ReadFile("stderr")
	if strings.Count(stderr, "\n") != count || !strings.HasPrefix(stderr, "sealpost: ") {
		ts.Fatalf("stderr is not %d lines that begin with sealpost:", count)
	}
}

func exitCodeOf(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode()
	}
	ts.Check(err)
	return 0
}

// until CODE REGEXP COMMAND…: again and again until it ends so and its output matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: until CODE REGEXP COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	match := regexp.MustCompile("(?m)" + args[1])
	poll(ts, func() bool {
		return exitCodeOf(ts, args[2:]) == want && match.MatchString(ts.ReadFile("stdout")+ts.ReadFile("stderr"))
	})
}

// poll asks until the answer is yes.
func poll(ts *testscript.TestScript, ask func() bool) {
	for end := time.Now().Add(scriptPatience); !ask(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("it did not happen within %v", scriptPatience)
		}
	}
}

// json FILE: stdout is JSON with exactly the fields and values of FILE, where the value "*" stands for
// any, and "/…/" for a string that matches.
func likeJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: json FILE")
	}
	var got, want any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &got))
	ts.Check(json.Unmarshal([]byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), &want))
	if where := difference("", want, got); where != "" {
		ts.Fatalf("%s", where)
	}
}

// difference names the first place where got is not like want; "" if there is none.
func difference(at string, want, got any) string {
	if text, ok := want.(string); ok && text == "*" {
		return ""
	}
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is no object: %v", at, got)
		}
		return objectDifference(at, want, object)
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Sprintf("%s is not a list of %d: %v", at, len(want), got)
		}
		for i := range want {
			if where := difference(fmt.Sprintf("%s[%d]", at, i), want[i], list[i]); where != "" {
				return where
			}
		}
		return ""
	}
	if !sameValue(want, got) {
		return fmt.Sprintf("%s is %v, not %v", at, got, want)
	}
	return ""
}

func objectDifference(at string, want, got map[string]any) string {
	for key := range got {
		if _, ok := want[key]; !ok {
			return fmt.Sprintf("%s.%s is not expected", at, key)
		}
	}
	for key := range want {
		value, ok := got[key]
		if !ok {
			return fmt.Sprintf("%s.%s is missing", at, key)
		}
		if where := difference(at+"."+key, want[key], value); where != "" {
			return where
		}
	}
	return ""
}

func sameValue(want, got any) bool {
	pattern, isText := want.(string)
	text, alsoText := got.(string)
	if isText && alsoText && len(pattern) > 1 && strings.HasPrefix(pattern, "/") && strings.HasSuffix(pattern, "/") {
		return regexp.MustCompile("^(?:" + pattern[1:len(pattern)-1] + ")$").MatchString(text)
	}
	return want == got
}

// plist: stdout is a well-formed property list: one dict, in every dict keys and values in turn.
func isPlist(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: plist")
	}
	var list plistValue
	decoder := xml.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	ts.Check(decoder.Decode(&list))
	var more plistValue
	if err := decoder.Decode(&more); err != io.EOF {
		ts.Fatalf("something follows the list: %v", more.XMLName)
	}
	if list.XMLName.Local != "plist" || len(list.Inner) != 1 || list.Inner[0].XMLName.Local != "dict" {
		ts.Fatalf("it is not one dict")
	}
	ts.Check(list.Inner[0].check())
}

type plistValue struct {
	XMLName xml.Name
	Text    string       `xml:",chardata"`
	Inner   []plistValue `xml:",any"`
}

func (v plistValue) check() error {
	for i, inner := range v.Inner {
		isKey := inner.XMLName.Local == "key"
		if v.XMLName.Local == "dict" && isKey != (i%2 == 0) {
			return fmt.Errorf("a dict has %s where a key or value belongs", inner.XMLName.Local)
		}
		if err := inner.check(); err != nil {
			return err
		}
	}
	if v.XMLName.Local == "dict" && len(v.Inner)%2 != 0 {
		return errors.New("a dict ends with a key")
	}
	if v.XMLName.Local == "integer" {
		_, err := strconv.Atoi(v.Text)
		return err
	}
	return nil
}

// account NAME [FLAG…]: configures alice, bob or carol with her fixed key in $SEALPOST_CONFIG,
// which begins as base.toml.
func addAccount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: account NAME [FLAG…]")
	}
	name := args[0]
	if _, err := os.Stat(ts.Getenv("SEALPOST_CONFIG")); err != nil {
		ts.Check(os.WriteFile(ts.Getenv("SEALPOST_CONFIG"), []byte(ts.ReadFile(ts.MkAbs("base.toml"))), 0o600))
		quickVault(ts)
	}
	flags := []string{
		"init", "--address", addressOf(ts, name), "--imap", ts.Getenv("IMAP_URL"), "--smtp", ts.Getenv("SMTP_URL"), "--ca-file", ts.Getenv("CA"),
		"--password-file", ts.MkAbs(name + ".pass"), "--import-key", ts.MkAbs(name + ".sec.asc"),
	}
	ts.Check(ts.Exec("sealpost", append(flags, args[1:]...)...))
}

// quickVault puts a vault into the usual state folder, unless that is there, which costs next to nothing to unlock: most of the
// time of the scripts would go into Argon2 otherwise. Its passphrase is the one in the file passphrase.
func quickVault(ts *testscript.TestScript) {
	state := ts.MkAbs("state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return
	}
	ts.Check(os.WriteFile(filepath.Join(state, "vault.json"), quickVaultFile, 0o600))
}

//go:embed testdata/quick-vault.json
var quickVaultFile []byte

func addressOf(ts *testscript.TestScript, name string) string {
	for _, u := range users {
		if strings.HasPrefix(u.Address, name+"@") {
			return u.Address
		}
	}
	ts.Fatalf("nobody is called %s", name)
	return ""
}

// provider SECURITY [expired] starts another provider and uses it. provider offline, provider
// online: the one in use takes no connections, or does again.
func provider(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: provider tls|starttls|insecure [expired], provider offline|online")
	}
	w := worldOf(ts)
	switch args[0] {
	case "offline":
		for _, protocol := range []string{"imap", "smtp"} {
			w.faults = append(w.faults, w.provider().Inject(bridgetest.Fault{Protocol: protocol, Command: "CONNECT", Drop: true}))
		}
		w.provider().Disconnect()
	case "online":
		w.removeFaults()
	default:
		ts.Check(w.start(ts.Setenv, args[0], len(args) > 1 && args[1] == "expired"))
	}
}

func (w *world) removeFaults() {
	for _, remove := range w.faults {
		remove()
	}
	w.faults = nil
}

// fault PROTOCOL COMMAND REPLY [TIMES]: the provider answers so until "provider online".
func fault(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: fault PROTOCOL COMMAND REPLY [TIMES]")
	}
	f := bridgetest.Fault{Protocol: args[0], Command: args[1], Reply: args[2]}
	if len(args) > 3 {
		var err error
		f.Times, err = strconv.Atoi(args[3])
		ts.Check(err)
	}
	w := worldOf(ts)
	w.faults = append(w.faults, w.provider().Inject(f))
}

// wkd withdraw|publish NAME, wkd fail STATUS: what the Web Key Directory answers from now on.
func directory(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: wkd withdraw|publish NAME, wkd fail STATUS")
	}
	switch args[0] {
	case "withdraw":
		worldOf(ts).wkd.Withdraw(addressOf(ts, args[1]))
	case "publish":
		address := addressOf(ts, args[1])
		worldOf(ts).wkd.Publish(address, bridgetest.PublicKey(address))
	case "fail":
		status, err := strconv.Atoi(args[1])
		ts.Check(err)
		worldOf(ts).wkd.Fail(status)
	}
}

// vks open|unpublish NAME, vks fail STATUS, vks mails COUNT: the verifying key server; its mails' links.
func keyServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: vks open|unpublish NAME, vks fail STATUS, vks mails COUNT")
	}
	server := worldOf(ts).vks
	switch args[0] {
	case "open":
		server.Open(addressOf(ts, args[1]))
	case "unpublish":
		server.Unpublish(addressOf(ts, args[1]))
	case "fail":
		status, err := strconv.Atoi(args[1])
		ts.Check(err)
		var failure *bridgetest.VKSFailure
		if status != 0 {
			failure = &bridgetest.VKSFailure{Status: status, Error: "not today"}
		}
		server.Fail(failure)
	case "mails":
		if n := strconv.Itoa(len(server.Mails())); n != args[1] {
			ts.Fatalf("it has sent %s mails", n)
		}
	}
}

// occupy VARIABLE: takes a free port and puts its address into the variable.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy VARIABLE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// damage FILE OFFSET: changes 16 bytes from there on.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage FILE OFFSET")
	}
	data := []byte(ts.ReadFile(args[0]))
	offset, err := strconv.Atoi(args[1])
	ts.Check(err)
	for i := range 16 {
		data[offset+i] ^= 0x15
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}
