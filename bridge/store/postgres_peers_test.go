//go:build peers

package store_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/bridge/bridgetest/database"
	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
	"github.com/sealpost/sealpost/bridge/store"
)

// onPostgres are the packages whose tables gateways share, and those of their tests that are about SQLite.
var onPostgres = []struct{ name, without string }{
	{"audit", ""}, {"contacts", "Inconclusive|DamagedRow"}, {"outbox", "Disk"}, {"internal/keyring", "Vault|File"},
}

// TestPackagesOnPostgres runs the tests of the packages whose tables gateways share once more, on PostgreSQL.
func TestPackagesOnPostgres(t *testing.T) {
	server := peers.StartPostgres(t)
	for _, p := range onPostgres {
		args := []string{"test", "-count=1", "../" + p.name}
		if p.without != "" {
			args = append(args, "-skip", p.without)
		}
		test := exec.Command("go", args...)
		test.Env = append(os.Environ(), database.Variable+"="+server)
		if out, err := test.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", p.name, err, out)
		}
	}
}

// TestSharedTablesAreThoseOfSQLite: what one database has the other has, too, but for the tables of the mirror and of
// replacing messages, which no gateway needs.
func TestSharedTablesAreThoseOfSQLite(t *testing.T) {
	url, err := database.NewSchema(t.Context(), peers.StartPostgres(t), "tables")
	if err != nil {
		t.Fatal(err)
	}
	shared, err := store.OpenShared(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	own, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	there := columns(t, shared, `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()`)
	here := columns(t, own, `SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'`)
	for _, name := range []string{"vault"} {
		delete(there, name)
	}
	for _, name := range notShared {
		if _, ok := here[name]; !ok {
			t.Errorf("there is no table %s", name)
		}
		delete(here, name)
	}
	if diff := cmp.Diff(here, there); diff != "" {
		t.Errorf("SQLite (-) and PostgreSQL (+) differ; add a migration to the one that lacks it:\n%s", diff)
	}
}

// notShared are the tables that only the bridge of an account needs.
var notShared = []string{
	"chunk", "content", "digest", "export_custody", "export_job", "export_message", "held_body", "held_by", "held_chunk", "held_message", "hold", "hold_custody", "mailbox", "message", "publication", "seal_journal", "sqlite_sequence",
	"text_index", "text_index_config", "text_index_data", "text_index_docsize", "text_index_idx", "text_vocabulary",
}

// columns of each table, sorted.
func columns(t *testing.T, db *store.DB, query string) map[string][]string {
	t.Helper()
	rows, err := db.Read().QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	tables := map[string][]string{}
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		tables[table] = append(tables[table], column)
	}
	for _, c := range tables {
		slices.Sort(c)
	}
	return tables
}
