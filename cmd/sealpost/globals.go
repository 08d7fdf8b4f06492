package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/config"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

// globals are what every command has.
type globals struct {
	configPath     string
	stdout, stderr io.Writer
}

var errUsage = errors.New("wrong usage")

// path of the configuration file.
func (g *globals) path() string {
	if g.configPath != "" {
		return g.configPath
	}
	return config.DefaultPath()
}

func (g *globals) load() (*config.Config, error) { return config.Load(g.path()) }

// logger writes to stderr at the level of $SEALPOST_LOG.
func (g *globals) logger() *slog.Logger {
	level := slog.LevelWarn
	switch os.Getenv("SEALPOST_LOG") {
	case "debug":
		level = slog.LevelDebug
	case "info":
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(g.stderr, &slog.HandlerOptions{Level: level}))
}

// open opens the bridge in this process.
func (g *globals) open(ctx context.Context, cfg *config.Config, create bool) (*bridge.Bridge, error) {
	o, err := bridgeOptions(cfg, g.logger())
	if err != nil {
		return nil, err
	}
	o.Unlock.Create = create || len(cfg.Accounts) == 0 && cfg.Gateway.Enabled() // no sealpost init for a gateway alone
	o.Unlock.Prompt = promptPassphrase(o.Unlock.Create)
	return bridge.Open(ctx, o)
}

// bridgeOptions turns the configuration into the bridge's options.
func bridgeOptions(cfg *config.Config, log *slog.Logger) (bridge.Options, error) {
	passphraseFile := cfg.Vault.PassphraseFile
	if file := os.Getenv("SEALPOST_PASSPHRASE_FILE"); file != "" {
		passphraseFile = file
	}
	o := bridge.Options{
		StateDir:     cfg.StateDir,
		Database:     cfg.Database.URL,
		Unlock:       bridge.UnlockOptions{Methods: cfg.Vault.Unlock, PassphraseFile: passphraseFile},
		Policy:       policyOf(cfg.Policy),
		Keydisc:      finderOptions(cfg.Keydisc),
		KeepLog:      time.Duration(cfg.Policy.KeepLog),
		Announce:     cfg.Discovery.Announce,
		UseAutocrypt: slices.Contains(cfg.Keydisc.Methods, "autocrypt"),
		VerifyEvery:  time.Duration(cfg.Policy.VerifyEvery),
		Log:          log,
	}
	var err error
	if o.Lists, err = listsOf(cfg.Keydisc.Lists); err != nil {
		return o, err
	}
	if o.Gateway, err = gatewayOptions(cfg.Gateway); err != nil {
		return o, err
	}
	for _, device := range cfg.Devices {
		n, per, err := device.Messages()
		if err != nil {
			return o, err
		}
		o.Devices = append(o.Devices, bridge.DeviceOptions{
			Name: device.Name, Account: device.Account, Address: device.Address, Recipients: device.Recipients,
			Rate: bridge.Rate{Events: n, Per: per}, SilentAfter: time.Duration(device.SilentAfter),
		})
	}
	for _, account := range cfg.Accounts {
		a, err := accountOptions(account)
		if err != nil {
			return o, err
		}
		o.Accounts = append(o.Accounts, a)
	}
	return o, nil
}

// finderOptions are about the methods that go out and ask; "contacts" and "autocrypt" do not.
func finderOptions(k config.Keydisc) keydisc.Options {
	o := keydisc.Options{
		Timeout: time.Duration(k.Timeout), CAFile: k.CAFile, Resolve: k.Resolve,
		HKP: k.HKP, VKS: k.VKS, DNS: k.DNS, DNSAnchors: k.DNSAnchors, Files: k.Files,
	}
	for _, method := range k.Methods {
		if method != "contacts" && method != "autocrypt" {
			o.Methods = append(o.Methods, keydisc.Method(method))
		}
	}
	for _, l := range k.LDAP {
		server := keydisc.LDAPServer{URL: l.URL, BaseDN: l.BaseDN, BindDN: l.BindDN, Domains: l.Domains, CAFile: l.CAFile}
		if l.PasswordFile != "" {
			server.Password = func(context.Context) (string, error) {
				password, err := readSecretFile(l.PasswordFile)
				return string(password), err
			}
		}
		o.LDAP = append(o.LDAP, server)
	}
	return o
}

func accountOptions(a config.Account) (bridge.AccountOptions, error) {
	imap, err := upstream.ParseEndpoint(a.IMAP)
	if err != nil {
		return bridge.AccountOptions{}, err
	}
	smtp, err := upstream.ParseEndpoint(a.SMTP)
	if err != nil {
		return bridge.AccountOptions{}, err
	}
	all, mailboxes := a.Sealing()
	return bridge.AccountOptions{
		Address: a.Address, Aliases: a.Aliases, IMAP: imap, SMTP: smtp, Username: a.Username, CAFile: a.CAFile,
		Seal: bridge.Seal{All: all, Mailboxes: mailboxes}, Headers: bridge.HeaderMode(a.Headers), Connections: a.MaxConnections(),
	}, nil
}

func policyOf(p config.Policy) bridge.Policy {
	policy := bridge.Policy{
		Default: bridge.Mode(p.Default), AllowSplit: p.Mixed == "split", Fixed: p.Override == "forbid",
		TagRequire: p.SubjectRequire, TagClear: p.SubjectClear,
	}
	policy.Rules = rulesOf(p.Rules)
	return policy
}

func rulesOf(configured []config.Rule) (rules []bridge.Rule) {
	for _, r := range configured {
		rules = append(rules, bridge.Rule{Match: r.Match, From: r.From, Encrypt: bridge.Mode(r.Encrypt), Fixed: r.Override == "forbid"})
	}
	return rules
}

// promptPassphrase asks on the terminal; nil if there is none.
func promptPassphrase(isNew bool) func(context.Context) ([]byte, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil
	}
	return func(context.Context) ([]byte, error) {
		if isNew {
			fmt.Fprintln(os.Stderr, "This passphrase protects your keys and mail on this device. There is no other way in: keep it safe.")
		}
		return askSecret("Passphrase of the vault: ")
	}
}

func askSecret(question string) ([]byte, error) {
	fmt.Fprint(os.Stderr, question)
	secret, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	return secret, err
}

// readSecretFile is the file's content without the line end.
func readSecretFile(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	return []byte(strings.TrimRight(string(data), "\r\n")), err
}

func (g *globals) printJSON(v any) error {
	encoder := json.NewEncoder(g.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// withRemedy adds what to do to errors that do not say so themselves.
func withRemedy(err error) string {
	remedy := ""
	switch {
	case errors.Is(err, bridge.ErrVaultDamaged):
		remedy = "nothing was changed; restore the file from a backup"
	case errors.Is(err, bridge.ErrNoVault):
		remedy = "run sealpost init first, or check state_dir in the configuration"
	case errors.Is(err, bridge.ErrLocked):
		remedy = "give the right passphrase: [vault] passphrase_file, or $SEALPOST_PASSPHRASE_FILE; nothing was changed"
	case errors.Is(err, bridge.ErrUnreachable):
		remedy = "check [database] url and whether the server runs; nothing was changed"
	case errors.Is(err, bridge.ErrInUse):
		remedy = "another sealpost uses this state folder; stop it first"
	case errors.Is(err, syscall.ENOSPC):
		remedy = "free some space on that disk and try again; nothing was lost"
	case errors.Is(err, os.ErrPermission):
		remedy = "check who owns the file and its mode"
	}
	if remedy == "" {
		return err.Error()
	}
	return err.Error() + "; " + remedy
}
