package main

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/config"
	"github.com/sealpost/sealpost/bridge/upstream"
)

type initCmd struct {
	Address        string `required:"" help:"Your mail address." placeholder:"ADDRESS"`
	IMAP           string `name:"imap" help:"The provider's IMAP server; found by itself if not given." placeholder:"URL"`
	SMTP           string `name:"smtp" help:"The provider's submission server; found by itself if not given." placeholder:"URL"`
	Username       string `help:"User name at the provider (default: the address)." placeholder:"NAME"`
	PasswordFile   string `help:"File with the provider's password; asked for if not given." type:"existingfile" placeholder:"FILE"`
	CAFile         string `name:"ca-file" help:"A further authority for the provider's certificate." type:"existingfile" placeholder:"FILE"`
	PassphraseFile string `help:"File with the vault's passphrase." type:"existingfile" placeholder:"FILE"`
	GenerateKey    string `help:"Make a key (the default): compatible or pqc." placeholder:"PROFILE" xor:"key" optional:"" default:""`
	ImportKey      string `help:"Use this secret key." type:"existingfile" placeholder:"FILE" xor:"key"`
	KeyPassphrase  string `name:"key-passphrase-file" help:"File with the passphrase of the imported key." type:"existingfile" placeholder:"FILE"`
}

func (initCmd) Help() string {
	return `Example: sealpost init --address alice@example.org --imap imaps://imap.example.org:993 --smtp smtps://smtp.example.org:465 --password-file pass.txt

Nothing is written before the provider has accepted the login.`
}

// Run implements the command.
func (c initCmd) Run(ctx context.Context, g *globals) error {
	if c.GenerateKey != "" && c.GenerateKey != "compatible" && c.GenerateKey != "pqc" {
		return fmt.Errorf("%w: --generate-key takes compatible or pqc", errUsage)
	}
	account, password, err := c.account(ctx)
	if err != nil {
		return err
	}
	preamble, err := c.preamble(g)
	if err != nil {
		return err
	}
	if err := checkLogin(ctx, g, account, password); err != nil {
		return err
	}
	if err := config.AddAccount(g.path(), preamble, account); err != nil {
		return err
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	return c.fill(ctx, g, cfg, password)
}

// account is what goes into the configuration, and the provider's password.
func (c initCmd) account(ctx context.Context) (config.Account, string, error) {
	a := config.Account{Address: c.Address, IMAP: c.IMAP, SMTP: c.SMTP, Username: c.Username}
	if c.CAFile != "" {
		path, err := filepath.Abs(c.CAFile)
		if err != nil {
			return a, "", err
		}
		a.CAFile = path
	}
	if a.Username == "" {
		a.Username = c.Address
	}
	if (a.IMAP == "") != (a.SMTP == "") {
		return a, "", fmt.Errorf("%w: give both --imap and --smtp, or neither", errUsage)
	}
	if a.IMAP == "" {
		if err := discover(ctx, &a); err != nil {
			return a, "", err
		}
	}
	password, err := c.password()
	return a, password, err
}

// discover asks the provider's domain for its servers.
func discover(ctx context.Context, a *config.Account) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	candidates, err := upstream.Discover(ctx, a.Address)
	if err != nil || len(candidates) == 0 {
		return fmt.Errorf("the servers of %s could not be found; give them with --imap and --smtp (%w)", a.Address, errors.Join(err, errNotFound))
	}
	a.IMAP, a.SMTP = candidates[0].IMAP.String(), candidates[0].SMTP.String()
	if candidates[0].Username != "" {
		a.Username = candidates[0].Username
	}
	return nil
}

var errNotFound = errors.New("the domain announces none")

func (c initCmd) password() (string, error) {
	if c.PasswordFile != "" {
		password, err := readSecretFile(c.PasswordFile)
		if err == nil && len(password) == 0 {
			err = fmt.Errorf("%s is empty; write the provider's password into it", c.PasswordFile)
		}
		return string(password), err
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", fmt.Errorf("%w: give the provider's password with --password-file", errUsage)
	}
	password, err := askSecret("Password of " + c.Address + " at the provider: ")
	return string(password), err
}

// preamble starts a new configuration: where state goes, and the passphrase file if one is given.
func (c initCmd) preamble(g *globals) (string, error) {
	var s strings.Builder
	s.WriteString("# Sealpost. All keys with their meaning: config.example.toml\n")
	if state := os.Getenv("XDG_STATE_HOME"); state != "" {
		fmt.Fprintf(&s, "state_dir = %s\n", strconv.Quote(filepath.Join(state, "sealpost")))
	}
	if c.PassphraseFile == "" {
		return s.String(), nil
	}
	path, err := filepath.Abs(c.PassphraseFile)
	if err != nil {
		return "", err
	}
	if existing, err := g.load(); err == nil && existing.Vault.PassphraseFile != path {
		return "", fmt.Errorf("%s exists and names another passphrase file; set [vault] passphrase_file there", g.path())
	}
	fmt.Fprintf(&s, "\n[vault]\nunlock = [\"file\"]\npassphrase_file = %s\n", strconv.Quote(path))
	return s.String(), nil
}

// checkLogin logs in at the provider with what was given, before anything is written.
func checkLogin(ctx context.Context, g *globals, a config.Account, password string) error {
	options, err := accountOptions(a)
	if err != nil {
		return err
	}
	return bridge.CheckLogin(ctx, options, password, g.logger())
}

// fill puts the password and a key into the vault and prints the client's settings.
func (c initCmd) fill(ctx context.Context, g *globals, cfg *config.Config, password string) error {
	b, err := g.open(ctx, cfg, true)
	if err != nil {
		return fmt.Errorf("%s was written, but: %w", g.path(), err)
	}
	defer b.Close()
	s := &service{bridge: b, config: cfg, configPath: g.path(), listeners: configuredListeners(cfg.Local)}
	if err := b.SetProviderPassword(ctx, c.Address, password); err != nil {
		return err
	}
	if err := c.provideKey(ctx, g, s); err != nil {
		return err
	}
	settings, err := clientOperation.do(ctx, s, none{}, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.stdout, "Configuration: %s\nSettings for your mail client:\n\n", g.path())
	for _, one := range settings {
		if one.Address == c.Address {
			err = one.print(g, "")
		}
	}
	fmt.Fprintln(g.stdout, "Start the bridge with: sealpost run")
	return err
}

// provideKey imports or makes the account's key, unless it has one.
func (c initCmd) provideKey(ctx context.Context, g *globals, s *service) error {
	a, err := s.account(c.Address)
	if err != nil {
		return err
	}
	var infos []keyInfo
	switch {
	case c.ImportKey != "":
		p := keyImportParams{Account: c.Address}
		if p.Data, err = os.ReadFile(c.ImportKey); err == nil && c.KeyPassphrase != "" {
			p.Passphrase, err = readSecretFile(c.KeyPassphrase)
		}
		if err == nil {
			infos, err = keyImportOperation.do(ctx, s, p, nil)
		}
	case len(a.Keys()) == 0:
		profile := c.GenerateKey
		if profile == "" {
			profile = "compatible"
		}
		infos, err = keyGenerateOperation.do(ctx, s, keyGenerateParams{c.Address, profile}, nil)
	}
	if err != nil {
		return err
	}
	return printKeys(g, infos, false)
}

// randomSecret is a password for the demo's users and vaults.
func randomSecret() string {
	var random [15]byte
	_, _ = rand.Read(random[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
}
