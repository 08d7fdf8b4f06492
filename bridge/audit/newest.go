package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
)

// Newest walks the entries before seq (0: all), the newest first, until f returns false. f must not use the log.
func (l *Log) Newest(ctx context.Context, before int64, f func(Entry) bool) error {
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := l.db.Read().QueryContext(ctx, `SELECT entry, hash FROM audit WHERE seq < ? ORDER BY seq DESC`, before)
	if err != nil {
		return fmt.Errorf("decision log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var text, hash string
		if err := rows.Scan(&text, &hash); err != nil {
			return fmt.Errorf("decision log: %w", err)
		}
		var e Entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return fmt.Errorf("decision log: an entry cannot be read; see sealpost log verify: %w", err)
		}
		e.Hash = hash
		if !f(e) {
			return nil
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("decision log: %w", err)
	}
	return nil
}
