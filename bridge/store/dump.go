package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Row is a row of a table by column. Octets are Blob, so that JSON keeps them apart from text.
type Row map[string]any

// Blob is a column's octets; in JSON {"base64": "…"}.
type Blob struct {
	Base64 []byte `json:"base64"`
}

// Dump is all rows of a table.
func (d *DB) Dump(ctx context.Context, table string) ([]Row, error) {
	rows, err := d.Read().QueryContext(ctx, `SELECT * FROM `+quoted(table))
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", table, Explain(err))
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	dumped := []Row{}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("table %s: %w", table, err)
		}
		row := Row{}
		for i, column := range columns {
			if octets, ok := values[i].([]byte); ok {
				values[i] = Blob{slices.Clone(octets)}
			}
			row[column] = values[i]
		}
		dumped = append(dumped, row)
	}
	return dumped, rows.Err()
}

// ParseRows reads rows that were written as JSON.
func ParseRows(data []byte) ([]Row, error) {
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.UseNumber()
	var rows []Row
	if err := decoder.Decode(&rows); err != nil {
		return nil, err
	}
	for _, row := range rows {
		for column, value := range row {
			parsed, err := parseValue(value)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", column, err)
			}
			row[column] = parsed
		}
	}
	return rows, nil
}

func parseValue(value any) (any, error) {
	switch v := value.(type) {
	case json.Number:
		return v.Int64()
	case map[string]any:
		data, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		var b Blob
		err = json.Unmarshal(data, &b)
		return b.Base64, err
	}
	return value, nil
}

// Load adds rows to a table within a Write. Columns that the table does not have (any more) are left out, those that the
// rows do not have get their defaults.
func Load(ctx context.Context, tx *sql.Tx, table string, rows []Row) error {
	known, err := columnsOf(ctx, tx, table)
	if err != nil {
		return fmt.Errorf("table %s: %w", table, err)
	}
	for i, row := range rows {
		var names, marks []string
		var values []any
		for column, value := range row {
			if slices.Contains(known, column) {
				names, marks, values = append(names, quoted(column)), append(marks, "?"), append(values, value)
			}
		}
		query := `INSERT INTO ` + quoted(table) + ` (` + strings.Join(names, ", ") + `) VALUES (` + strings.Join(marks, ", ") + `)`
		if _, err := tx.ExecContext(ctx, query, values...); err != nil {
			return fmt.Errorf("table %s, row %d: %w", table, i+1, err)
		}
	}
	return nil
}

func columnsOf(ctx context.Context, tx *sql.Tx, table string) ([]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT * FROM `+quoted(table)+` LIMIT 0`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return rows.Columns()
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
