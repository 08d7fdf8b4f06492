//go:build peers

package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// StartPostgres starts a PostgreSQL server, which stops at the end of the test, and returns its URL.
func StartPostgres(t testing.TB) (url string) {
	t.Helper()
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); err != nil || len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: apt-get install postgresql")
	}
	Need(t, "python3", "python3")
	dir := Dir(t)
	script := script(t, dir, "postgres.sh")
	t.Cleanup(func() {
		if _, err := Try(t, script, "stop", dir); err != nil {
			t.Error(err)
		}
	})
	Run(t, nil, nil, script, "start", dir)
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(env)), "URL=")
}
