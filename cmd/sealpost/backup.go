package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/config"
)

type backupCmd struct {
	Create  backupCreateCmd  `cmd:"" help:"Write a backup of keys, contacts and configuration, and show its recovery code."`
	Restore backupRestoreCmd `cmd:"" help:"Make this machine what the backed up one was."`
	Drill   backupDrillCmd   `cmd:"" help:"Try whether a backup and its code bring everything back."`
}

func (backupCmd) Help() string {
	return "Example:\n\n    sealpost backup create --out sealpost.asc\n\nMail is not in a backup, but for what legal holds have kept: it is at the provider, encrypted to the keys that are."
}

type backupCreateCmd struct {
	Out   string `required:"" help:"File to write. It must not exist." placeholder:"FILE"`
	Code  string `name:"code-file" help:"File with a recovery code that you have already, for a newer backup under the same." type:"existingfile" placeholder:"FILE"`
	Print string `help:"Also write a page to print, with the code: whoever has it and the backup has your mail. Remove it after printing." placeholder:"FILE.html"`
	JSON  bool   `help:"Print JSON."`

	WithoutArchive bool `help:"Leave out what legal holds have kept."`
}

func (backupCreateCmd) Help() string {
	return "Example:\n\n    sealpost backup create --out /media/stick/sealpost.asc\n\nThe recovery code is shown once and kept nowhere. Write it down, keep it apart from the backup, and try both: sealpost backup drill."
}

type backupCreated struct {
	File string `json:"file"`
	Code string `json:"code,omitempty"` // a new one
}

type backupParams struct {
	Code           string
	WithoutArchive bool
}

var backupCreateOperation = operation[backupParams, []byte]{"backup-create", false, func(ctx context.Context, s *service, p backupParams, _ bridge.Progress) ([]byte, error) {
	code, err := bridge.ParseRecoveryCode(p.Code)
	if err != nil {
		return nil, err
	}
	more, err := configFiles(s)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = s.bridge.Backup(ctx, &out, code, more, p.WithoutArchive)
	return out.Bytes(), err
}}

// maxReference bounds the files that the configuration refers to, in bytes.
const maxReference = 4 << 20

// configFiles are the configuration and the files it refers to, by their place in config.References.
func configFiles(s *service) ([]bridge.BackupFile, error) {
	text, err := os.ReadFile(s.configPath)
	if err != nil {
		return nil, err
	}
	files := []bridge.BackupFile{{Name: "config.toml", Data: text}}
	for i, path := range s.config.References() {
		info, err := os.Stat(path)
		if path == "" || err != nil || !info.Mode().IsRegular() || info.Size() > maxReference {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, bridge.BackupFile{Name: referenceName(i), Data: data})
	}
	return files, nil
}

func referenceName(i int) string { return fmt.Sprintf("files/%d", i) }

// Run implements the command.
func (c backupCreateCmd) Run(ctx context.Context, g *globals) error {
	code, fresh, err := c.code()
	if err != nil {
		return err
	}
	for _, path := range []string{c.Out, c.Print} { // before the work
		if _, err := os.Lstat(path); path != "" && err == nil {
			return fmt.Errorf("%s exists and is not overwritten; name another file", path)
		}
	}
	data, err := call(ctx, g, backupCreateOperation, backupParams{string(code), c.WithoutArchive})
	if err != nil {
		return err
	}
	if err := writeNewFile(c.Out, data); err != nil {
		return err
	}
	if c.Print != "" {
		if err := writeNewFile(c.Print, backupSheet(code, c.Out, time.Now())); err != nil {
			return err
		}
	}
	return c.report(g, code, fresh)
}

func (c backupCreateCmd) code() (code bridge.RecoveryCode, fresh bool, err error) {
	if c.Code == "" {
		return bridge.NewRecoveryCode(), true, nil
	}
	code, err = readCode(c.Code)
	return code, false, err
}

func (c backupCreateCmd) report(g *globals, code bridge.RecoveryCode, fresh bool) error {
	created := backupCreated{File: c.Out}
	if fresh {
		created.Code = code.String()
	}
	if c.JSON {
		return g.printJSON(created)
	}
	fmt.Fprintf(g.stdout, "Written: %s\n", c.Out)
	if fresh {
		fmt.Fprintf(g.stdout, "\nRecovery code, shown this once:\n\n    %s\n\nWrite it down and keep it apart from the backup. Without it the backup is worthless; with both anybody reads your mail.\n", code)
	}
	fmt.Fprintf(g.stdout, "\nNow try it: sealpost backup drill %s\n", c.Out)
	return nil
}

// readCode reads a recovery code from a file or, without one, from the terminal.
func readCode(file string) (bridge.RecoveryCode, error) {
	var text []byte
	var err error
	switch {
	case file != "":
		text, err = readSecretFile(file)
	case term.IsTerminal(int(os.Stdin.Fd())):
		text, err = askSecret("Recovery code: ")
	default:
		err = fmt.Errorf("%w: there is no terminal to ask on; give the recovery code with --code-file", errUsage)
	}
	if err != nil {
		return "", err
	}
	return bridge.ParseRecoveryCode(string(text))
}

type backupDrillCmd struct {
	File string `arg:"" help:"The backup." type:"existingfile"`
	Code string `name:"code-file" help:"File with the recovery code; else it is asked for." type:"existingfile" placeholder:"FILE"`
	JSON bool   `help:"Print JSON."`
}

func (backupDrillCmd) Help() string {
	return "Example:\n\n    sealpost backup drill /media/stick/sealpost.asc\n\nNothing is changed. Exits with 3 if the backup lacks something."
}

type drillParams struct {
	Data []byte
	Code string
}

var backupDrillOperation = operation[drillParams, bridge.DrillReport]{"backup-drill", false, func(ctx context.Context, s *service, p drillParams, _ bridge.Progress) (bridge.DrillReport, error) {
	files, err := openBackup(p.Data, p.Code)
	if err != nil {
		return bridge.DrillReport{}, err
	}
	dir, err := os.MkdirTemp(s.config.StateDir, "drill-")
	if err != nil {
		return bridge.DrillReport{}, err
	}
	defer os.RemoveAll(dir)
	restored, err := restoreInto(ctx, files, s.configPath, dir)
	if err != nil {
		return bridge.DrillReport{}, err
	}
	report, err := s.bridge.Drill(ctx, restored)
	return report, errors.Join(err, restored.Close())
}}

func openBackup(data []byte, text string) ([]bridge.BackupFile, error) {
	code, err := bridge.ParseRecoveryCode(text)
	if err != nil {
		return nil, err
	}
	return bridge.ReadBackup(bytes.NewReader(data), code)
}

// restoreInto restores for a drill: under a passphrase that is kept nowhere.
func restoreInto(ctx context.Context, files []bridge.BackupFile, configPath, dir string) (*bridge.Bridge, error) {
	cfg, err := config.Parse(configPath, configText(files))
	if err != nil {
		return nil, fmt.Errorf("the configuration in the backup: %w", err)
	}
	cfg.StateDir, cfg.Database.URL = dir, ""
	o, err := bridgeOptions(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	o.Keydisc.Methods = nil
	o.Unlock = bridge.UnlockOptions{Methods: []string{"prompt"}, Prompt: func(context.Context) ([]byte, error) {
		return []byte(rand.Text()), nil
	}}
	return bridge.Restore(ctx, o, files)
}

func configText(files []bridge.BackupFile) []byte {
	for _, f := range files {
		if f.Name == "config.toml" {
			return f.Data
		}
	}
	return nil
}

// Run implements the command.
func (c backupDrillCmd) Run(ctx context.Context, g *globals) error {
	p, err := readBackup(c.File, c.Code)
	if err != nil {
		return err
	}
	report, err := call(ctx, g, backupDrillOperation, p)
	if err != nil {
		return err
	}
	if c.JSON {
		err = g.printJSON(report)
	} else {
		report := report
		fmt.Fprintf(g.stdout, "The backup and its code bring back %d keys, each of which opened a message, and %d contacts.\n", report.Keys, report.Contacts)
		for _, missing := range report.Missing {
			fmt.Fprintf(g.stdout, "  missing: %s\n", missing)
		}
	}
	if err == nil && len(report.Missing) > 0 {
		fmt.Fprintln(g.stderr, "Make a new backup: sealpost backup create --out FILE")
		err = errAttention
	}
	return err
}

func readBackup(file, codeFile string) (p drillParams, err error) {
	code, err := readCode(codeFile)
	if err != nil {
		return p, err
	}
	p.Code = string(code)
	p.Data, err = os.ReadFile(file)
	return p, err
}

type backupRestoreCmd struct {
	File           string `arg:"" help:"The backup." type:"existingfile"`
	Code           string `name:"code-file" help:"File with the recovery code; else it is asked for." type:"existingfile" placeholder:"FILE"`
	PassphraseFile string `help:"File with the passphrase of the new vault." type:"existingfile" placeholder:"FILE"`
	JSON           bool   `help:"Print JSON."`
}

func (backupRestoreCmd) Help() string {
	return "Example:\n\n    sealpost backup restore /media/stick/sealpost.asc --passphrase-file vault.txt\n\nWrites the configuration and the state folder it names; neither must be there. Then: sealpost run. Your mail comes from the provider."
}

type restoredInfo struct {
	Config   string    `json:"config"`
	StateDir string    `json:"state_dir"`
	Keys     []keyInfo `json:"keys"`
	Files    []string  `json:"files"`   // that were written for the configuration
	Missing  []string  `json:"missing"` // that it refers to and are not there
}

// Run implements the command.
func (c backupRestoreCmd) Run(ctx context.Context, g *globals) error {
	if _, err := os.Lstat(g.path()); err == nil {
		return fmt.Errorf("%s exists and is not overwritten; restore on a machine without it, or name another with --config", g.path())
	}
	p, err := readBackup(c.File, c.Code)
	if err != nil {
		return err
	}
	files, err := openBackup(p.Data, p.Code)
	if err != nil {
		return err
	}
	info, err := c.restore(ctx, g, files)
	if err != nil {
		return err
	}
	return info.report(g, c.JSON)
}

func (c backupRestoreCmd) restore(ctx context.Context, g *globals, files []bridge.BackupFile) (info restoredInfo, err error) {
	text := configText(files)
	if c.PassphraseFile != "" {
		path, err := absolute(c.PassphraseFile)
		if err != nil {
			return info, err
		}
		if text, err = config.WithPassphraseFile(g.path(), text, path); err != nil {
			return info, err
		}
	}
	cfg, err := config.Parse(g.path(), text)
	if err != nil {
		return info, fmt.Errorf("the configuration in the backup: %w", err)
	}
	if _, err := os.Lstat(cfg.StateDir); err == nil {
		return info, fmt.Errorf("%s exists and is not overwritten; move it away, or restore elsewhere", cfg.StateDir)
	}
	info = restoredInfo{Config: g.path(), StateDir: cfg.StateDir, Files: []string{}, Missing: []string{}}
	if err := info.writeReferences(cfg, files); err != nil {
		return info, err
	}
	if info.Keys, err = restoreState(ctx, g, cfg, files); err != nil {
		return info, err
	}
	return info, config.WriteNew(g.path(), text)
}

// restoreState makes the state folder under another name and gives it its own when it is whole.
func restoreState(ctx context.Context, g *globals, cfg *config.Config, files []bridge.BackupFile) ([]keyInfo, error) {
	final := cfg.StateDir
	cfg.StateDir = final + ".restoring"
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(cfg.StateDir)
	o, err := bridgeOptions(cfg, g.logger())
	if err != nil {
		return nil, err
	}
	o.Unlock.Prompt = promptPassphrase(true)
	b, err := bridge.Restore(ctx, o, files)
	if err != nil {
		return nil, err
	}
	var keys []keyInfo
	for _, a := range b.Accounts() {
		keys = append(keys, keyInfos(a.Keys())...)
	}
	if err := b.Close(); err != nil {
		return nil, err
	}
	return keys, os.Rename(cfg.StateDir, final)
}

// writeReferences puts the files that the configuration refers to where it looks for them, unless they are there.
func (info *restoredInfo) writeReferences(cfg *config.Config, files []bridge.BackupFile) error {
	for i, path := range cfg.References() {
		if _, err := os.Stat(path); path == "" || err == nil {
			continue
		}
		data := fileNamed(files, referenceName(i))
		if data == nil {
			info.Missing = append(info.Missing, path)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := writeNewFile(path, data); err != nil {
			return err
		}
		info.Files = append(info.Files, path)
	}
	return nil
}

func fileNamed(files []bridge.BackupFile, name string) []byte {
	for _, f := range files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func (info restoredInfo) report(g *globals, asJSON bool) error {
	if asJSON {
		if err := g.printJSON(info); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(g.stdout, "Restored: %s and %s, %d keys.\n", info.Config, info.StateDir, len(info.Keys))
		for _, path := range info.Files {
			fmt.Fprintf(g.stdout, "  also %s\n", path)
		}
		fmt.Fprintln(g.stdout, "Start it with: sealpost run")
	}
	if len(info.Missing) > 0 {
		fmt.Fprintf(g.stderr, "The configuration refers to files that are neither here nor in the backup: %s\n", strings.Join(info.Missing, ", "))
		return errAttention
	}
	return nil
}
