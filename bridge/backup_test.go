package bridge

import (
	"bytes"
	"database/sql"
	"errors"
	"slices"
	"testing"
)

// TestBackupWithALargeArchive: a backup that could not be read again is not made; without the archive it is.
func TestBackupWithALargeArchive(t *testing.T) {
	a := opened(t, newWorld(t).options(alice, t.TempDir()))
	defer a.bridge.Close()
	err := a.bridge.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO held_body (hash, size) VALUES ('00', ?)`, maxArchive+1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code := NewRecoveryCode()
	if err := a.bridge.Backup(t.Context(), &out, code, nil, false); !errors.Is(err, ErrArchiveTooLarge) || out.Len() > 0 {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
	if err := a.bridge.Backup(t.Context(), &out, code, nil, true); err != nil {
		t.Fatal(err)
	}
	files, err := ReadBackup(&out, code)
	if err != nil || fileOf(files, "tables/hold.json") == nil || fileOf(files, "tables/held_body.json") != nil {
		t.Errorf("%v", err)
	}
}

// TestEveryTableIsBackedUpOrNot: whoever adds a table decides whether its content can be had again.
func TestEveryTableIsBackedUpOrNot(t *testing.T) {
	again := []string{
		// Written anew from keys.json and secrets.json, under the new vault.
		"own_key", "secret",
		// Of the machine that is gone.
		"audit", "audit_base", "audit_head", "backup", "device", "outbox", "outbox_body", "schema_migration", "contact_change", "contact_chore", "contact_lookup",
		// Read from the provider again.
		"chunk", "content", "digest", "first_status", "mailbox", "message", "seal_journal", "sqlite_sequence",
		"text_index", "text_index_config", "text_index_data", "text_index_docsize", "text_index_idx", "text_vocabulary",
		// Made again at the start; asked again.
		"hosted_address", "submission",
		// Where an export has got to: it is made again.
		"export_custody", "export_job", "export_message",
		// The queue library's.
		"river_client", "river_client_queue", "river_job", "river_leader", "river_migration", "river_queue", "river_notification",
	}
	a := opened(t, newWorld(t).options(alice, t.TempDir()))
	defer a.bridge.Close()
	rows, err := a.bridge.db.Read().QueryContext(t.Context(), `SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
		if slices.Contains(again, name) == slices.Contains(backedUp, name) {
			t.Errorf("the table %s is in neither list, or in both", name)
		}
	}
	for _, name := range backedUp {
		if !slices.Contains(tables, name) {
			t.Errorf("there is no table %s", name)
		}
	}
}
