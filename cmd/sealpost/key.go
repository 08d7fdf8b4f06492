package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/keydisc"
)

type keyCmd struct {
	List     keyListCmd     `cmd:"" help:"List your keys."`
	Generate keyGenerateCmd `cmd:"" help:"Make a key for an account."`
	Import   keyImportCmd   `cmd:"" help:"Take a secret key made by another program."`
	Export   keyExportCmd   `cmd:"" help:"Write your certificate, or your secret key."`
	Publish  keyPublishCmd  `cmd:"" help:"Publish your certificate where others look for it."`
	Rotate   keyRotateCmd   `cmd:"" help:"Renew a key: a new encryption subkey, a later end, or another key in use."`
	Revoke   keyRevokeCmd   `cmd:"" help:"Say for ever that a key is not used any more."`
}

func (keyCmd) Help() string { return "Example:\n\n    sealpost key list" }

// keyInfo is one key as printed.
type keyInfo struct {
	Fingerprint string     `json:"fingerprint"`
	Addresses   []string   `json:"addresses"`
	Profile     string     `json:"profile"`
	Created     time.Time  `json:"created"`
	Expires     *time.Time `json:"expires"`
	Primary     bool       `json:"primary"`
	Revoked     bool       `json:"revoked,omitempty"`
}

func keyInfos(keys []bridge.Key) []keyInfo {
	infos := make([]keyInfo, len(keys))
	for i, k := range keys {
		infos[i] = keyInfo{string(k.Fingerprint), k.Addresses, string(k.Profile), k.Created.UTC(), unlessZero(k.Expires), k.Primary, k.Revoked}
	}
	return infos
}

func printKeys(g *globals, infos []keyInfo, asJSON bool) error {
	if asJSON {
		return g.printJSON(infos)
	}
	for _, k := range infos {
		fmt.Fprintf(g.stdout, "%s\n  %v, %s, made %s", k.Fingerprint, k.Addresses, k.Profile, k.Created.Format(time.DateOnly))
		if k.Expires != nil {
			fmt.Fprintf(g.stdout, ", expires %s", k.Expires.Format(time.DateOnly))
		}
		if k.Primary {
			fmt.Fprint(g.stdout, ", in use")
		}
		if k.Revoked {
			fmt.Fprint(g.stdout, ", revoked")
		}
		fmt.Fprintln(g.stdout)
	}
	return nil
}

type keyListCmd struct {
	Account string `help:"Only this account." placeholder:"ADDRESS"`
	JSON    bool   `help:"Print JSON."`
}

func (keyListCmd) Help() string { return "Example:\n\n    sealpost key list --json" }

var keyListOperation = operation[string, []keyInfo]{"key-list", false, func(ctx context.Context, s *service, account string, _ bridge.Progress) ([]keyInfo, error) {
	owners, err := s.owners(ctx, account)
	infos := []keyInfo{}
	for _, o := range owners {
		if err == nil {
			infos = append(infos, keyInfos(o.Keys())...)
		}
	}
	return infos, err
}}

// Run implements the command.
func (c keyListCmd) Run(ctx context.Context, g *globals) error {
	infos, err := call(ctx, g, keyListOperation, c.Account)
	if err != nil {
		return err
	}
	return printKeys(g, infos, c.JSON)
}

type keyGenerateCmd struct {
	Account string `help:"The account, if there are several." placeholder:"ADDRESS"`
	Profile string `help:"Kind of key: ${enum}. compatible is read by every program; v6 is RFC 9580's; pqc adds a post-quantum subkey; pqc-v6 is post-quantum throughout." enum:"compatible,v6,pqc,pqc-v6" default:"compatible"`
	Primary bool   `help:"Use it from now on; the one in use so far still opens older mail."`
	JSON    bool   `help:"Print JSON."`
}

func (keyGenerateCmd) Help() string { return "Example:\n\n    sealpost key generate --profile pqc" }

type keyGenerateParams struct {
	Account, Profile string
	Primary          bool
}

var keyGenerateOperation = operation[keyGenerateParams, []keyInfo]{"key-generate", false, func(ctx context.Context, s *service, p keyGenerateParams, _ bridge.Progress) ([]keyInfo, error) {
	a, err := s.owner(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	key, err := a.GenerateKey(ctx, bridge.KeyProfile(p.Profile), p.Primary)
	return keyInfos([]bridge.Key{key}), err
}}

// Run implements the command.
func (c keyGenerateCmd) Run(ctx context.Context, g *globals) error {
	infos, err := call(ctx, g, keyGenerateOperation, keyGenerateParams{c.Account, c.Profile, c.Primary})
	if err != nil {
		return err
	}
	return printKeys(g, infos, c.JSON)
}

type keyImportCmd struct {
	File          string `arg:"" help:"Secret key, ASCII-armored or binary." type:"existingfile"`
	Account       string `help:"The account, if there are several." placeholder:"ADDRESS"`
	KeyPassphrase string `name:"key-passphrase-file" help:"File with the key's passphrase, if it has one." type:"existingfile" placeholder:"FILE"`
	SetupCode     string `name:"setup-code-file" help:"File with the code of an Autocrypt Setup Message." type:"existingfile" placeholder:"FILE"`
	JSON          bool   `help:"Print JSON."`
}

func (keyImportCmd) Help() string {
	return "Example:\n\n    gpg --export-secret-keys alice@alpha.test > key.pgp && sealpost key import key.pgp --key-passphrase-file pass.txt"
}

type keyImportParams struct {
	Account          string
	Data, Passphrase []byte
	SetupCode        string
}

var keyImportOperation = operation[keyImportParams, []keyInfo]{"key-import", false, func(ctx context.Context, s *service, p keyImportParams, _ bridge.Progress) ([]keyInfo, error) {
	a, err := s.owner(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	if p.SetupCode != "" {
		keys, err := a.ImportSetup(ctx, p.Data, p.SetupCode)
		return keyInfos(keys), err
	}
	keys, err := a.ImportKey(ctx, p.Data, p.Passphrase)
	return keyInfos(keys), err
}}

// Run implements the command.
func (c keyImportCmd) Run(ctx context.Context, g *globals) error {
	p := keyImportParams{Account: c.Account}
	var err error
	if p.Data, err = os.ReadFile(c.File); err != nil {
		return err
	}
	if c.KeyPassphrase != "" {
		if p.Passphrase, err = readSecretFile(c.KeyPassphrase); err != nil {
			return err
		}
	}
	if p.SetupCode, err = c.setupCode(p.Data); err != nil {
		return err
	}
	infos, err := call(ctx, g, keyImportOperation, p)
	if err != nil {
		return err
	}
	return printKeys(g, infos, c.JSON)
}

// setupCode is the code of an Autocrypt Setup Message; "" if the file is none.
func (c keyImportCmd) setupCode(data []byte) (string, error) {
	if !bridge.IsSetupMessage(data) {
		if c.SetupCode != "" {
			return "", fmt.Errorf("%s: %w", c.File, bridge.ErrNoSetup)
		}
		return "", nil
	}
	if c.SetupCode == "" {
		return "", fmt.Errorf("%s is an Autocrypt Setup Message; write its code into a file and give that with --setup-code-file", c.File)
	}
	code, err := readSecretFile(c.SetupCode)
	return string(code), err
}

type keyExportCmd struct {
	Account     string `help:"The account, if there are several." placeholder:"ADDRESS"`
	Fingerprint string `help:"Another key than the one in use." placeholder:"FINGERPRINT"`
	Secret      bool   `help:"Write the secret key."`
	Passphrase  string `name:"key-passphrase-file" help:"File with the passphrase to protect the secret key with." type:"existingfile" placeholder:"FILE"`
	Unprotected bool   `help:"Write the secret key without a passphrase."`
	Setup       bool   `name:"setup-message" help:"Write an Autocrypt Setup Message for another device, and show its code."`
	Revocation  bool   `help:"Write a certificate that revokes the key, for the time when it is lost."`
	Out         string `help:"File to write (default: standard output). It must not exist." placeholder:"FILE"`
}

func (keyExportCmd) Help() string {
	return "Example:\n\n    sealpost key export --secret --key-passphrase-file pass.txt --out alice.asc\n\nThe file can be imported with gpg --import. Whoever has it and its passphrase can read your mail."
}

type keyExportParams struct {
	Account, Fingerprint string
	Secret, Setup        bool
	Revocation           bool
	Passphrase           []byte
}

type keyExported struct {
	Data []byte
	Code string // of a setup message
}

var keyExportOperation = operation[keyExportParams, keyExported]{"key-export", false, func(ctx context.Context, s *service, p keyExportParams, _ bridge.Progress) (keyExported, error) {
	a, err := s.owner(ctx, p.Account)
	if err != nil {
		return keyExported{}, err
	}
	if p.Fingerprint == "" {
		certificate, err := a.Certificate()
		if err != nil {
			return keyExported{}, err
		}
		p.Fingerprint = string(certificate.Fingerprint())
	}
	exported, err := p.export(ctx, a)
	if errors.Is(err, bridge.ErrNoKey) {
		err = fmt.Errorf("%s: %w; see sealpost key list", p.Fingerprint, err)
	}
	return exported, err
}}

func (p keyExportParams) export(ctx context.Context, a *bridge.Owner) (e keyExported, err error) {
	fingerprint := keydisc.Fingerprint(p.Fingerprint)
	switch {
	case p.Setup:
		e.Data, e.Code, err = a.SetupMessage(ctx, fingerprint)
	case p.Revocation:
		e.Data, err = a.ExportRevocation(ctx, fingerprint)
	case p.Secret:
		e.Data, err = a.ExportKey(ctx, fingerprint, p.Passphrase)
	default:
		e.Data, err = a.ExportCertificate(fingerprint)
	}
	return e, err
}

// Run implements the command.
func (c keyExportCmd) Run(ctx context.Context, g *globals) error {
	p := keyExportParams{Account: c.Account, Fingerprint: c.Fingerprint, Secret: c.Secret, Setup: c.Setup, Revocation: c.Revocation}
	if c.Secret && c.Setup || c.Secret && c.Revocation || c.Setup && c.Revocation {
		return fmt.Errorf("%w: only one of --secret, --setup-message and --revocation", errUsage)
	}
	if c.Setup && c.Out == "" {
		return fmt.Errorf("%w: --setup-message needs --out: its code is shown on standard output", errUsage)
	}
	if c.Secret && (c.Passphrase == "") != c.Unprotected {
		return fmt.Errorf("%w: --secret needs either --key-passphrase-file or --unprotected", errUsage)
	}
	var err error
	if c.Passphrase != "" {
		if p.Passphrase, err = readSecretFile(c.Passphrase); err != nil {
			return err
		}
		if len(p.Passphrase) == 0 {
			return errors.New("the passphrase file is empty; write a passphrase into it, or use --unprotected")
		}
	}
	exported, err := call(ctx, g, keyExportOperation, p)
	if err != nil {
		return err
	}
	if c.Out == "" {
		_, err = g.stdout.Write(exported.Data)
		return err
	}
	if err := writeNewFile(c.Out, exported.Data); err != nil || exported.Code == "" {
		return err
	}
	fmt.Fprintf(g.stdout, "Setup code, shown this once:\n\n    %s\n\nType it on the other device. Do not mail it.\n", exported.Code)
	return nil
}

// writeNewFile writes a file only its owner can read; it never overwrites.
func writeNewFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists and is not overwritten; name another file", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
