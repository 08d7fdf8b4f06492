package export

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// CustodyEntry is one event in the life of an export.
type CustodyEntry struct {
	Seq    int       `json:"seq"`
	Time   time.Time `json:"time"` // of this device's clock
	Event  string    `json:"event"`
	Detail string    `json:"detail,omitempty"`
	Prev   string    `json:"prev"` // hex SHA-256 of the line before, without its end; "" for the first
}

// custodyLog is where the entries about exports, or about holds, are.
type custodyLog struct{ last, insert string }

var (
	exportCustody = custodyLog{`SELECT seq + 1, hash FROM export_custody WHERE job = ? ORDER BY seq DESC LIMIT 1`,
		`INSERT INTO export_custody (job, seq, entry, hash) VALUES (?, ?, ?, ?)`}
	holdCustody = custodyLog{`SELECT seq + 1, hash FROM hold_custody WHERE hold = ? ORDER BY seq DESC LIMIT 1`,
		`INSERT INTO hold_custody (hold, seq, entry, hash) VALUES (?, ?, ?, ?)`}
)

// add appends to the log of that export or hold, within a Write.
func (l custodyLog) add(ctx context.Context, tx *sql.Tx, id int64, at time.Time, event, detail string) error {
	e := CustodyEntry{Seq: 1, Time: at.UTC().Round(0), Event: event, Detail: detail}
	err := tx.QueryRowContext(ctx, l.last, id).Scan(&e.Seq, &e.Prev)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	text, err := json.Marshal(e)
	if err == nil {
		_, err = tx.ExecContext(ctx, l.insert, id, e.Seq, string(text), hashOf(text))
	}
	return err
}

// record appends to the custody log.
func (j *job) record(ctx context.Context, at time.Time, event, detail string) error {
	err := j.db.Write(ctx, func(tx *sql.Tx) error { return exportCustody.add(ctx, tx, j.id, at, event, detail) })
	if err != nil {
		return fmt.Errorf("custody log: %w", err)
	}
	return nil
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// custody are the lines of the log.
func (j *job) custody(ctx context.Context, w io.Writer) error {
	lines, err := textsOf(j.db.Read().QueryContext(ctx, `SELECT entry FROM export_custody WHERE job = ? ORDER BY seq`, j.id))
	for _, line := range lines {
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return err
		}
	}
	return err
}

// readCustody checks that each line of a custody log names the one before it.
func readCustody(r io.Reader) ([]CustodyEntry, error) {
	var all []CustodyEntry
	prev := ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e CustodyEntry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return all, fmt.Errorf("line %d is not one of a custody log", len(all)+1)
		}
		if e.Seq != len(all)+1 || e.Prev != prev {
			return all, fmt.Errorf("the chain is broken at line %d", len(all)+1)
		}
		prev = hashOf(lines.Bytes())
		all = append(all, e)
	}
	return all, lines.Err()
}
