//go:build peers

package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Postgres is a PostgreSQL server.
type Postgres struct {
	URL         string
	t           testing.TB
	dir, script string
}

// StartPostgresServer starts one, which stops at the end of the test.
func StartPostgresServer(t testing.TB) *Postgres {
	t.Helper()
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); err != nil || len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: apt-get install postgresql")
	}
	Need(t, "python3", "python3")
	p := &Postgres{t: t, dir: Dir(t)}
	p.script = script(t, p.dir, "postgres.sh")
	t.Cleanup(p.Stop)
	p.Start()
	env, err := os.ReadFile(filepath.Join(p.dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	p.URL = strings.TrimPrefix(strings.TrimSpace(string(env)), "URL=")
	return p
}

// StartPostgres starts a server and returns its URL.
func StartPostgres(t testing.TB) (url string) {
	t.Helper()
	return StartPostgresServer(t).URL
}

// Start starts it again after Stop, with its data and port.
func (p *Postgres) Start() { p.t.Helper(); Run(p.t, nil, nil, p.script, "start", p.dir) }

// Stop stops it; connections are cut.
func (p *Postgres) Stop() {
	if _, err := Try(p.t, p.script, "stop", p.dir); err != nil {
		p.t.Error(err)
	}
}
