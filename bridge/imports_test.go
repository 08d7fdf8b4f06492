package bridge_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sealpost/sealpost/"

// allowed says which packages of this module each package may import: downwards only. "*" is all.
// A package that is not listed may import none, so that a new one has to be placed here.
var allowed = map[string][]string{
	"cmd/sealpost":       {"*"},
	"cmd/sealpost-bench": {"*"},
	"bridge": {
		"bridge/audit", "bridge/contacts", "bridge/doctor", "bridge/export", "bridge/internal/backup", "bridge/internal/keyring", "bridge/internal/pgpmime", "bridge/internal/spool", "bridge/localtls",
		"bridge/metrics", "bridge/mimescan", "bridge/mirror", "bridge/outbox", "bridge/store", "bridge/upstream", "keydisc",
	},
	"bridge/audit":               {"bridge/store"},
	"bridge/bridgetest/database": {"bridge/store"},
	"bridge/contacts":            {"bridge/store", "keydisc"},
	"bridge/dashboard":           {"bridge"},
	"bridge/export":              {"bridge/audit", "bridge/export/extract", "bridge/export/query", "bridge/mimescan", "bridge/mirror", "bridge/store"},
	"bridge/export/extract":      {"bridge/mimescan", "bridge/mirror"},
	"bridge/export/query":        {"bridge/mirror"},
	"bridge/internal/keyring":    {"bridge/store", "keydisc"},
	"bridge/internal/pgpmime":    {"bridge/internal/spool", "bridge/mimescan", "keydisc"},
	"bridge/mirror":              {"bridge/internal/spool", "bridge/mimescan", "bridge/store", "bridge/upstream"},
	"bridge/outbox":              {"bridge/store", "bridge/upstream"},
	"bridge/upstream":            {"bridge/mimescan"},
	"keydisc":                    {"keydisc/internal/dnssec"},
	"keydisc/wkdserver":          {"keydisc"},
	"imapd":                      {"bridge", "bridge/mimescan", "bridge/mirror"},
	"smtpd":                      {"bridge"},
}

// mayUseOpenPGP: nobody else can decide or bypass encryption.
func mayUseOpenPGP(name string) bool {
	return name == "keydisc" || strings.HasPrefix(name, "bridge/internal/") || name == "cmd/sealpost-bench" // which makes its own mail
}

// TestImports holds the packages to docs/architecture.md.
func TestImports(t *testing.T) {
	packages := imports(t)
	if len(packages) < 15 {
		t.Fatalf("found only %d packages", len(packages))
	}
	for name, imported := range packages {
		for _, each := range imported {
			if problem := judge(name, each); problem != "" {
				t.Errorf("%s imports %s: %s", name, each, problem)
			}
		}
	}
}

// judge returns what is wrong with an import, or nothing.
func judge(name, imported string) string {
	own, inside := strings.CutPrefix(imported, module)
	switch {
	case strings.HasPrefix(imported, "github.com/ProtonMail/go-crypto") && !mayUseOpenPGP(name):
		return "OpenPGP is for keydisc and bridge/internal alone"
	case imported == "testing" || strings.HasPrefix(own, "bridge/bridgetest/peers"):
		return "tests' packages do not belong into the program"
	case own == "bridge/config" && !strings.HasPrefix(name, "cmd/"):
		return "only cmd reads the configuration"
	case inside && !slices.Contains(allowed[name], own) && !slices.Contains(allowed[name], "*"):
		return "imports point downwards only"
	}
	return ""
}

func TestImportRulesBite(t *testing.T) {
	for _, c := range []struct{ name, imported string }{
		{"imapd", "github.com/ProtonMail/go-crypto/openpgp/v2"}, {"bridge", "github.com/ProtonMail/go-crypto/openpgp/v2"},
		{"bridge", module + "bridge/config"}, {"bridge/store", module + "bridge/mirror"}, {"bridge/mirror", module + "bridge"},
		{"bridge", module + "bridge/bridgetest"}, {"bridge/new", module + "bridge/store"}, {"bridge/bridgetest", "testing"},
		{"smtpd", module + "bridge/upstream"}, {"cmd/sealpost", "github.com/ProtonMail/go-crypto/openpgp/armor"},
	} {
		if judge(c.name, c.imported) == "" {
			t.Errorf("%s may import %s", c.name, c.imported)
		}
	}
}

// imports are those of the packages' own files, without tests, by name inside the module.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	found := map[string][]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimPrefix(p.ImportPath, module)] = p.Imports
	}
}
