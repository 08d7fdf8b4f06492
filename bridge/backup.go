package bridge

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/internal/backup"
	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// What a backup holds; docs/backup.md says what each file is for.
//
//	README.txt           what this is and how it is used without Sealpost
//	config.toml          the configuration as it is
//	keys.json, keys/     own secret keys, unlocked, as gpg imports them
//	secrets.json         passwords of provider and mail client, the local TLS authority
//	tables/NAME.json     contacts and what was decided about them, what must not be answered in clear, legal holds and
//	                     what was deleted while they stood
//	certificates/        the contacts' certificates once more, for other programs
//	files/               what the configuration refers to, but passwords
//
// Other mail is not in it: it is at the provider.

// RecoveryCode opens a backup; see backup.Code.
type RecoveryCode = backup.Code

// NewRecoveryCode makes one; ParseRecoveryCode reads what somebody has typed. Its error says what is wrong, not the code.
func NewRecoveryCode() RecoveryCode                       { return backup.NewCode() }
func ParseRecoveryCode(text string) (RecoveryCode, error) { return backup.ParseCode(text) }

// Errors of reading a backup.
var (
	ErrNotBackup     = backup.ErrNotBackup
	ErrWrongCode     = backup.ErrWrongCode
	ErrBackupDamaged = backup.ErrDamaged
)

// BackupFile is one file of a backup.
type BackupFile = backup.File

// backedUp are the tables whose content cannot be had again.
var backedUp = []string{
	"contact", "encrypted_message", "vouching_list", "vouch", "publication", "submitted_certificate",
	"hold", "held_body", "held_chunk", "held_message", "held_by", "hold_custody", // in the order in which rows name each other
}

// archiveTables are those of what holds have kept: they may be larger than all else.
var archiveTables = []string{"held_body", "held_chunk", "held_message", "held_by"}

// accountTables are those that a database which gateways share does not have.
var accountTables = append([]string{"publication", "hold", "hold_custody"}, archiveTables...)

// maxArchive is how many bytes of them a backup takes: it is made, and read, in memory.
const maxArchive = 128 << 20

// ErrArchiveTooLarge says that a backup would not hold what legal holds have kept.
var ErrArchiveTooLarge = errors.New("what legal holds have kept is too large for a backup")

// keyFile is one own key in keys.json.
type keyFile struct {
	Account string          `json:"account"`
	File    string          `json:"file"`
	Profile keyring.Profile `json:"profile"`
	Primary bool            `json:"primary"`
}

// Backup writes a backup of the installation to w. more are the configuration and the files it refers to, as config.toml
// and files/…. withoutArchive leaves out what legal holds have kept, but not the holds; if that is too large and is not left out
// it is ErrArchiveTooLarge.
func (b *Bridge) Backup(ctx context.Context, w io.Writer, code RecoveryCode, more []BackupFile, withoutArchive bool) error {
	tables := slices.Clone(backedUp)
	switch {
	case b.db.Pool() != nil: // of gateways
		tables = without(tables, accountTables)
	case withoutArchive:
		tables = without(tables, archiveTables)
	default:
		if err := b.checkArchive(ctx); err != nil {
			return err
		}
	}
	tableFiles := func(ctx context.Context) ([]BackupFile, error) { return b.tableFiles(ctx, tables) }
	files := []BackupFile{{Name: "README.txt", Data: []byte(backupReadme)}}
	files = append(files, more...)
	for _, part := range []func(context.Context) ([]BackupFile, error){b.keyFiles, b.secretsFile, tableFiles, b.certificateFiles} {
		made, err := part(ctx)
		if err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		files = append(files, made...)
	}
	if err := backup.Write(w, code, files, b.now()); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return b.noteBackup(ctx, `INSERT INTO backup (one, created) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET created = excluded.created`, b.now().UnixNano())
}

func without(tables, left []string) []string {
	return slices.DeleteFunc(tables, func(name string) bool { return slices.Contains(left, name) })
}

func (b *Bridge) checkArchive(ctx context.Context) error {
	var size int64
	if err := b.db.Read().QueryRowContext(ctx, `SELECT coalesce(sum(size), 0) FROM held_body`).Scan(&size); err != nil {
		return fmt.Errorf("backup: %w", store.Explain(err))
	}
	if size > maxArchive {
		return fmt.Errorf("%w: %d MiB; export it and keep the export, and make the backup with --without-archive", ErrArchiveTooLarge, size>>20)
	}
	return nil
}

func (b *Bridge) keyFiles(ctx context.Context) (files []BackupFile, err error) {
	index := []keyFile{}
	err = b.eachRing(ctx, func(account string, ring *keyring.Ring) error {
		for _, k := range ring.List() {
			armored, err := ring.Export(k.Fingerprint, nil)
			if err != nil {
				return err
			}
			name := "keys/" + account + "/" + string(k.Fingerprint) + ".asc"
			index = append(index, keyFile{account, name, k.Profile, k.Primary})
			files = append(files, BackupFile{Name: name, Data: armored})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list, err := json.MarshalIndent(index, "", "  ")
	return append(files, BackupFile{Name: "keys.json", Data: list}), err
}

// eachRing visits the keys of all accounts that have some, configured or not.
func (b *Bridge) eachRing(ctx context.Context, visit func(account string, ring *keyring.Ring) error) error {
	accounts, err := keyring.Accounts(ctx, b.db)
	if err != nil {
		return err
	}
	for _, account := range accounts {
		ring, done, err := b.ringOf(ctx, account)
		if err != nil {
			return err
		}
		err = visit(account, ring)
		done()
		if err != nil {
			return fmt.Errorf("keys of %s: %w", account, err)
		}
	}
	return nil
}

// ringOf is the keys of an account; done ends their use.
func (b *Bridge) ringOf(ctx context.Context, account string) (ring *keyring.Ring, done func(), err error) {
	for _, a := range b.accounts {
		if strings.EqualFold(a.Address(), account) {
			return a.ring, func() {}, nil
		}
	}
	if ring, err = keyring.Open(ctx, b.db, b.vault, account); err != nil {
		return nil, nil, err
	}
	return ring, ring.Close, nil
}

func (b *Bridge) secretsFile(ctx context.Context) ([]BackupFile, error) {
	all, err := b.secrets.All(ctx)
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(all, "", "  ")
	return []BackupFile{{Name: "secrets.json", Data: data}}, err
}

func (b *Bridge) tableFiles(ctx context.Context, tables []string) (files []BackupFile, err error) {
	for _, table := range tables {
		rows, err := b.db.Dump(ctx, table)
		if err != nil {
			return nil, err
		}
		data, err := json.MarshalIndent(rows, "", " ")
		if err != nil {
			return nil, err
		}
		files = append(files, BackupFile{Name: "tables/" + table + ".json", Data: data})
	}
	return files, nil
}

func (b *Bridge) certificateFiles(ctx context.Context) (files []BackupFile, err error) {
	all, err := b.contacts.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Certificate != nil {
			files = append(files, BackupFile{Name: "certificates/" + c.Address + ".pgp", Data: c.Certificate.Bytes()})
		}
	}
	return files, nil
}

// ReadBackup opens a backup. The error unwraps to ErrNotBackup, ErrWrongCode or ErrBackupDamaged.
func ReadBackup(r io.Reader, code RecoveryCode) ([]BackupFile, error) { return backup.Read(r, code) }

// fileOf is the content of one file; nil if there is none.
func fileOf(files []BackupFile, name string) []byte {
	i := slices.IndexFunc(files, func(f BackupFile) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return files[i].Data
}

// Restore makes an installation out of a backup's files, in a state folder that has none. The caller closes it.
func Restore(ctx context.Context, o Options, files []BackupFile) (*Bridge, error) {
	o.Unlock.Create = true
	b, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	for _, part := range []func(context.Context, []BackupFile) error{b.restoreTables, b.restoreSecrets, b.restoreKeys} {
		if err := part(ctx, files); err != nil {
			_ = b.Close()
			return nil, fmt.Errorf("%w: %w", ErrBackupDamaged, err)
		}
	}
	return b, nil
}

func (b *Bridge) restoreTables(ctx context.Context, files []BackupFile) error {
	for _, table := range backedUp {
		data := fileOf(files, "tables/"+table+".json")
		if data == nil {
			continue // of an earlier version
		}
		rows, err := store.ParseRows(data)
		if err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
		if err := b.db.Write(ctx, func(tx *sql.Tx) error { return store.Load(ctx, tx, table, rows) }); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bridge) restoreSecrets(ctx context.Context, files []BackupFile) error {
	var all map[string][]byte
	if err := json.Unmarshal(fileOf(files, "secrets.json"), &all); err != nil {
		return fmt.Errorf("secrets.json: %w", err)
	}
	for name, value := range all {
		if err := b.secrets.Set(ctx, name, value); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bridge) restoreKeys(ctx context.Context, files []BackupFile) error {
	var index []keyFile
	if err := json.Unmarshal(fileOf(files, "keys.json"), &index); err != nil {
		return fmt.Errorf("keys.json: %w", err)
	}
	for _, k := range index {
		ring, done, err := b.ringOf(ctx, k.Account)
		if err != nil {
			return err
		}
		err = ring.Restore(ctx, fileOf(files, k.File), k.Profile, k.Primary)
		done()
		if err != nil {
			return fmt.Errorf("%s: %w", k.File, err)
		}
	}
	for _, a := range b.accounts { // the backup may be of years ago
		if err := a.maintainKeys(ctx); err != nil {
			return err
		}
	}
	return nil
}

// DrillReport says what a backup is worth to this installation.
type DrillReport struct {
	Keys     int      `json:"keys"`     // that it brings back, each of which has opened a message
	Contacts int      `json:"contacts"` // that it brings back as they are
	Missing  []string `json:"missing"`  // what it lacks: keys, contacts, in words
}

// Drill restores a backup into an installation of its own, which the caller has made with Restore, and compares: what of
// this one would be lost with this backup alone. A drill in which every key opens a message is kept in mind; see BackupState.
func (b *Bridge) Drill(ctx context.Context, restored *Bridge) (report DrillReport, err error) {
	report.Missing = []string{}
	var proven []string
	err = b.eachRing(ctx, func(account string, ring *keyring.Ring) error {
		there, done, err := restored.ringOf(ctx, account)
		if err != nil {
			return err
		}
		defer done()
		for _, k := range ring.List() {
			if problem := drillKey(ring, there, k); problem != nil {
				report.Missing = append(report.Missing, fmt.Sprintf("key %s of %s: %v", k.Fingerprint, account, problem))
				continue
			}
			report.Keys++
			proven = append(proven, string(k.Fingerprint))
		}
		return nil
	})
	if err != nil {
		return report, err
	}
	passed := len(report.Missing) == 0 && report.Keys > 0
	if err := b.drillContacts(ctx, restored, &report); err != nil || !passed {
		return report, err
	}
	return report, b.noteBackup(ctx, `INSERT INTO backup (one, drilled, keys) VALUES (1, ?, ?)
		ON CONFLICT (one) DO UPDATE SET drilled = excluded.drilled, keys = excluded.keys`, b.now().UnixNano(), strings.Join(proven, " "))
}

// drillKey encrypts to the certificate as it is here and opens with what is there. To one that is not encrypted to any
// more only its presence is asked for.
func drillKey(here, there *keyring.Ring, k Key) error {
	if _, err := there.CertificateOf(k.Fingerprint); err != nil {
		return errors.New("it is not in the backup")
	}
	certificate, err := here.CertificateOf(k.Fingerprint)
	if err != nil || k.Revoked {
		return err
	}
	if err := there.Opens(certificate); err != nil {
		return fmt.Errorf("the one in the backup does not open what is encrypted to it now: %w", err)
	}
	return nil
}

func (b *Bridge) drillContacts(ctx context.Context, restored *Bridge, report *DrillReport) error {
	here, err := b.contacts.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range here {
		there, _, err := restored.contacts.Get(ctx, c.Address)
		switch {
		case err != nil:
			return err
		case there.Trust != c.Trust || there.Blocked != c.Blocked || there.Ever != c.Ever || !sameCertificate(there.Certificate, c.Certificate):
			report.Missing = append(report.Missing, "contact "+c.Address+": it is new, or has changed since")
		default:
			report.Contacts++
		}
	}
	return nil
}

// BackupState is what is known of backups.
type BackupState struct {
	Created time.Time // the last one; zero: none
	Drilled time.Time // the last drill that passed; zero: none
	// Unproven are keys, of hosted users too, that no drill has brought back: without them mail is lost with this device.
	Unproven []string
	Shared   bool // the keys are in a database that is not this device's
}

// BackupState says whether the keys would survive this device.
func (b *Bridge) BackupState(ctx context.Context) (s BackupState, err error) {
	var created, drilled int64
	var keys string
	err = b.db.Read().QueryRowContext(ctx, `SELECT created, drilled, keys FROM backup`).Scan(&created, &drilled, &keys)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s, fmt.Errorf("backup: %w", store.Explain(err))
	}
	if created != 0 {
		s.Created = time.Unix(0, created)
	}
	if drilled != 0 {
		s.Drilled = time.Unix(0, drilled)
	}
	if s.Shared = b.db.Pool() != nil; s.Shared {
		return s, nil
	}
	all, err := keyring.Fingerprints(ctx, b.db)
	if err != nil {
		return s, err
	}
	proven := strings.Fields(keys)
	slices.Sort(proven)
	s.Unproven = slices.DeleteFunc(all, func(fingerprint string) bool {
		_, found := slices.BinarySearch(proven, fingerprint)
		return found
	})
	return s, nil
}

func (b *Bridge) noteBackup(ctx context.Context, statement string, values ...any) error {
	return b.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statement, values...)
		return err
	})
}

const backupReadme = `This is a backup of Sealpost (https://github.com/sealpost/sealpost).

With Sealpost: install it on the new machine, then
    sealpost backup restore FILE --code-file CODE

Without: every file here is plain. keys/ADDRESS/*.asc are secret OpenPGP keys without a passphrase:
    gpg --import keys/*/*.asc
opens all mail at the provider that was encrypted or sealed to them. certificates/ are those of your contacts,
tables/ what was decided about them, and legal holds with what they have kept; secrets.json the passwords (base64), config.toml the configuration.

Whoever has this folder can read your mail. Remove it when you are done.
`

func sameCertificate(one, other *keydisc.Certificate) bool {
	if one == nil || other == nil {
		return one == other
	}
	return one.Fingerprint() == other.Fingerprint()
}
