package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/config"
)

type clientCmd struct {
	For     string `help:"Settings in the form of one program: ${enum}." enum:",thunderbird,apple,outlook,mutt,mbsync,msmtp" default:""`
	Account string `help:"Only this account." placeholder:"ADDRESS"`
	JSON    bool   `help:"Print JSON."`
}

func (clientCmd) Help() string {
	return "Example:\n\n    sealpost client --for thunderbird\n\n--for apple prints a configuration profile: sealpost client --for apple > sealpost.mobileconfig, then open that file."
}

// clientSettings is what a mail client needs for one account; listeners are host:port, "" if off.
type clientSettings struct {
	Address  string `json:"address"`
	Username string `json:"username"`
	Password string `json:"password"`
	IMAP     string `json:"imap"`
	IMAPS    string `json:"imaps"`
	SMTP     string `json:"smtp"`
	SMTPS    string `json:"smtps"`
	CAFile   string `json:"ca_file"`
}

var clientOperation = operation[string, []clientSettings]{"client", false, func(ctx context.Context, s *service, account string, _ bridge.Progress) ([]clientSettings, error) {
	accounts, err := s.accounts(account)
	if err != nil {
		return nil, err
	}
	caFile, err := writeCA(ctx, s)
	if err != nil {
		return nil, err
	}
	settings := []clientSettings{}
	for _, a := range accounts {
		password, err := a.LocalPassword(ctx)
		if err != nil {
			return nil, err
		}
		settings = append(settings, clientSettings{
			Address: a.Address(), Username: a.Address(), Password: password, CAFile: caFile,
			IMAP: s.listeners["imap"], IMAPS: s.listeners["imaps"], SMTP: s.listeners["smtp"], SMTPS: s.listeners["smtps"],
		})
	}
	return settings, nil
}}

// writeCA puts the local authority's certificate where mail programs can read it.
func writeCA(ctx context.Context, s *service) (string, error) {
	identity, err := s.bridge.Identity(ctx, localHost(s.config.Local))
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.config.StateDir, "local-ca.pem")
	return path, os.WriteFile(path, identity.CAPEM(), 0o600)
}

// localHost is the host of the first listener that is not a loopback address, "" if there is none:
// the certificate has to name it.
func localHost(l config.Local) string {
	for _, address := range configuredListeners(l) {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
			return host
		}
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// configuredListeners are the listeners as configured, by name.
func configuredListeners(l config.Local) map[string]string {
	return map[string]string{
		"imap": l.IMAP, "imaps": l.IMAPS, "smtp": l.SMTP, "smtps": l.SMTPS, "dashboard": l.Dashboard, "metrics": l.Metrics,
	}
}

// Run implements the command.
func (c clientCmd) Run(ctx context.Context, g *globals) error {
	settings, err := call(ctx, g, clientOperation, c.Account)
	if err != nil {
		return err
	}
	if c.For == "apple" && len(settings) > 1 {
		return fmt.Errorf("%w: a configuration profile is for one account; name it with --account", errUsage)
	}
	if c.JSON {
		return g.printJSON(settings)
	}
	for _, s := range settings {
		if err := s.print(g, c.For); err != nil {
			return err
		}
	}
	return nil
}

func (s clientSettings) print(g *globals, program string) error {
	if program != "" && (s.IMAPS == "" || s.SMTPS == "") {
		return fmt.Errorf("imaps or smtps is off in [local], and the settings for %s need both; turn them on", program)
	}
	text := clientTexts[program]
	t, err := template.New(program).Funcs(template.FuncMap{"host": hostOf, "port": portOf, "under": underscored, "ca": derOf, "uuid": uuidOf, "listeners": listenersOf}).Parse(text)
	if err != nil {
		return err
	}
	return t.Execute(g.stdout, s)
}

func hostOf(address string) (string, error) {
	host, _, err := net.SplitHostPort(address)
	return host, err
}

func portOf(address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	return port, err
}

// listenersOf names those that are on.
func listenersOf(startTLS, tls string) string {
	switch {
	case startTLS == "" && tls == "":
		return "off"
	case startTLS == "":
		return tls + " (TLS)"
	case tls == "":
		return startTLS + " (STARTTLS)"
	}
	return startTLS + " (STARTTLS) or " + tls + " (TLS)"
}

func underscored(address string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("@.+", r) {
			return '-'
		}
		return r
	}, address)
}
