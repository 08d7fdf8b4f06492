package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	GenerateKey    string `help:"Make a key (the default): compatible, v6, pqc or pqc-v6." placeholder:"PROFILE" xor:"key"`
	ImportKey      string `help:"Use this secret key." type:"existingfile" placeholder:"FILE" xor:"key"`
	KeyPassphrase  string `name:"key-passphrase-file" help:"File with the passphrase of the imported key." type:"existingfile" placeholder:"FILE"`
}

func (initCmd) Help() string {
	return `Example:

    sealpost init --address alice@example.org --imap imaps://imap.example.org:993 --smtp smtps://smtp.example.org:465 --password-file pass.txt

Nothing is written before the provider has accepted the login. For an address that is configured already only the password (and a key, if one is named) is replaced.`
}

// Run implements the command.
func (c initCmd) Run(ctx context.Context, g *globals) error {
	if c.GenerateKey != "" && !slices.Contains(bridge.Profiles, bridge.KeyProfile(c.GenerateKey)) {
		return fmt.Errorf("%w: --generate-key takes one of %s", errUsage, bridge.Profiles)
	}
	plan, err := c.plan(ctx, g)
	if err != nil {
		return err
	}
	password, err := c.password()
	if err != nil {
		return err
	}
	if err := checkLogin(ctx, g, plan.account, password); err != nil {
		return err
	}
	return c.fill(ctx, g, plan, password)
}

// initPlan is the configuration that will be, and how it is written once everything else has worked.
type initPlan struct {
	account config.Account
	config  *config.Config
	commit  func() error
}

// plan looks at the flags and the configuration there is, and changes nothing.
func (c initCmd) plan(ctx context.Context, g *globals) (initPlan, error) {
	existing, err := g.load()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return initPlan{}, err
	}
	if existing != nil {
		for _, a := range existing.Accounts {
			if strings.EqualFold(a.Address, c.Address) {
				return c.again(g, existing, a)
			}
		}
	}
	account, err := c.account(ctx, g)
	if err != nil {
		return initPlan{}, err
	}
	preamble, err := c.preamble(g, existing)
	if err != nil {
		return initPlan{}, err
	}
	planned, commit, err := config.PlanAccount(g.path(), preamble, account)
	return initPlan{account, planned, commit}, withoutPlace(err)
}

// again is the plan for an address that is configured already: its settings stay.
func (c initCmd) again(g *globals, existing *config.Config, a config.Account) (initPlan, error) {
	caFile, err := absolute(c.CAFile)
	if err != nil {
		return initPlan{}, err
	}
	for _, flag := range []struct{ name, given, configured string }{
		{"imap", c.IMAP, a.IMAP}, {"smtp", c.SMTP, a.SMTP}, {"username", c.Username, a.Username}, {"ca-file", caFile, a.CAFile},
	} {
		if flag.given != "" && flag.given != flag.configured {
			return initPlan{}, fmt.Errorf("%s is configured already with another --%s; change it in %s", c.Address, flag.name, g.path())
		}
	}
	if _, err := c.preamble(g, existing); err != nil {
		return initPlan{}, err
	}
	return initPlan{a, existing, func() error { return nil }}, nil
}

// withoutPlace names what is wrong with the flags, not with a file that has not been written.
func withoutPlace(err error) error {
	var problems config.Problems
	if !errors.As(err, &problems) {
		return err
	}
	var texts []string
	for _, p := range problems {
		texts = append(texts, fmt.Sprintf("%s: %s; %s", strings.TrimPrefix(p.Key, "account."), p.What, p.Remedy))
	}
	return errors.New(strings.Join(texts, ". "))
}

// absolute is the path from the root; "" stays.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// account is what goes into the configuration.
func (c initCmd) account(ctx context.Context, g *globals) (config.Account, error) {
	a := config.Account{Address: c.Address, IMAP: c.IMAP, SMTP: c.SMTP, Username: c.Username}
	var err error
	if a.CAFile, err = absolute(c.CAFile); err != nil {
		return a, err
	}
	if a.Username == "" {
		a.Username = c.Address
	}
	if (a.IMAP == "") != (a.SMTP == "") {
		return a, fmt.Errorf("%w: give both --imap and --smtp, or neither", errUsage)
	}
	if a.IMAP == "" {
		err = discover(ctx, g, &a)
	}
	return a, err
}

// discover asks the provider's domain for its servers.
func discover(ctx context.Context, g *globals, a *config.Account) error {
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
	if candidates[0].Remark != "" {
		fmt.Fprintln(g.stderr, candidates[0].Remark)
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
func (c initCmd) preamble(g *globals, existing *config.Config) (string, error) {
	passphraseFile, err := absolute(c.PassphraseFile)
	if err != nil {
		return "", err
	}
	if passphraseFile != "" && existing != nil && existing.Vault.PassphraseFile != passphraseFile {
		return "", fmt.Errorf("%s exists and names another passphrase file; set [vault] passphrase_file there", g.path())
	}
	var s strings.Builder
	s.WriteString("# Sealpost. All keys with their meaning: config.example.toml\n")
	if state := os.Getenv("XDG_STATE_HOME"); state != "" {
		fmt.Fprintf(&s, "state_dir = %s\n", strconv.Quote(filepath.Join(state, "sealpost")))
	}
	if passphraseFile != "" {
		fmt.Fprintf(&s, "\n[vault]\nunlock = [\"file\"]\npassphrase_file = %s\n", strconv.Quote(passphraseFile))
	}
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

// fill puts a key and the password into the vault, writes the configuration and prints the
// client's settings.
func (c initCmd) fill(ctx context.Context, g *globals, plan initPlan, password string) error {
	b, err := g.open(ctx, plan.config, true)
	if err != nil {
		return err
	}
	defer b.Close()
	s := &service{bridge: b, config: plan.config, configPath: g.path(), listeners: configuredListeners(plan.config.Local)}
	keys, err := c.provideKey(ctx, s)
	if err != nil {
		return err
	}
	if err := b.SetProviderPassword(ctx, plan.account.Address, password); err != nil {
		return err
	}
	if err := plan.commit(); err != nil {
		return err
	}
	settings, err := clientOperation.do(ctx, s, "", nil)
	if err != nil {
		return err
	}
	return c.report(g, keys, settings)
}

func (c initCmd) report(g *globals, keys []keyInfo, settings []clientSettings) error {
	if err := printKeys(g, keys, false); err != nil {
		return err
	}
	fmt.Fprintf(g.stdout, "Configuration: %s\nSettings for your mail client:\n\n", g.path())
	for _, one := range settings {
		if strings.EqualFold(one.Address, c.Address) {
			if err := one.print(g, ""); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(g.stdout, "Start the bridge with: sealpost run")
	return nil
}

// provideKey imports or makes the account's key, unless it has one and no other is asked for.
func (c initCmd) provideKey(ctx context.Context, s *service) ([]keyInfo, error) {
	a, err := s.account(c.Address)
	if err != nil {
		return nil, err
	}
	if c.ImportKey != "" {
		p := keyImportParams{Account: c.Address}
		if p.Data, err = os.ReadFile(c.ImportKey); err == nil && c.KeyPassphrase != "" {
			p.Passphrase, err = readSecretFile(c.KeyPassphrase)
		}
		if err != nil {
			return nil, err
		}
		return keyImportOperation.do(ctx, s, p, nil)
	}
	if len(a.Keys()) > 0 && c.GenerateKey == "" {
		return keyInfos(a.Keys()), nil
	}
	profile := cmp.Or(c.GenerateKey, string(bridge.ProfileCompatible))
	return keyGenerateOperation.do(ctx, s, keyGenerateParams{c.Address, profile, true}, nil)
}

// randomSecret is a password for the demo's users and vaults.
func randomSecret() string {
	var random [15]byte
	_, _ = rand.Read(random[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
}
