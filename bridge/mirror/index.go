package mirror

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The index holds the trigrams of what messages say: which messages have all trigrams of a string
// may have the string. It lags behind, so that it never holds up opening; what it does not have
// yet is searched as if it might match.
const (
	indexBatch    = 100  // messages per transaction: the database has one writer, and others wait for it
	maxTerms      = 24   // trigrams of a string that are asked for
	maxBeginnings = 1000 // trigrams that begin with two characters
	fewMessages   = 64   // up to so many are searched without the index
)

// fromIndex are the messages that may have a string. One statement sees one state of the database:
// between two of them a message could be indexed and be in neither.
// Parameter 4 is the query of the index.
const fromIndex = `
	FROM (SELECT rowid AS id FROM text_index WHERE text_index MATCH ?4
		UNION SELECT content FROM digest WHERE indexed = 0
		UNION SELECT id FROM content WHERE partial = 1) f
	CROSS JOIN content c ON c.id = f.id CROSS JOIN message m INDEXED BY message_content ON m.content = c.id
	WHERE m.mailbox = ?1 AND m.uid BETWEEN ?2 AND ?3`

// terms is the query of the index for a folded string, "" if the index is of no help.
func (m *Mirror) terms(ctx context.Context, needle string) (string, error) {
	switch runes := []rune(needle); len(runes) {
	case 0, 1:
		return "", nil
	case 2: // a word of Chinese, say
		return m.beginningWith(ctx, needle)
	default:
		return trigrams(runes), nil
	}
}

// trigrams is the query for all trigrams of a string.
func trigrams(runes []rune) string {
	var terms []string
	for i := 0; i+3 <= len(runes) && len(terms) < maxTerms; i++ {
		terms = append(terms, quoteTerm(string(runes[i:i+3])))
	}
	return strings.Join(terms, " AND ")
}

func quoteTerm(term string) string { return `"` + strings.ReplaceAll(term, `"`, `""`) + `"` }

// beginningWith is the query for any trigram that begins with two characters: whatever has these has
// one, as every text in the index ends in two more.
func (m *Mirror) beginningWith(ctx context.Context, pair string) (string, error) {
	rows, err := m.o.DB.Read().QueryContext(ctx,
		`SELECT term FROM text_vocabulary WHERE term >= ?1 AND term <= ?1 || char(1114111) LIMIT ?2`, pair, maxBeginnings+1)
	if err != nil {
		return "", err
	}
	found, err := scanStrings(rows)
	if err != nil || len(found) > maxBeginnings {
		return "", err
	}
	terms := []string{quoteTerm(pair + "\x01")} // a query for nothing would be none
	for _, term := range found {
		terms = append(terms, quoteTerm(term))
	}
	return strings.Join(terms, " OR "), nil
}

// indexSome indexes a few messages that have been opened, when nobody waits for one and there
// is nothing to open: messages are read before they are searched.
func (m *Mirror) indexSome(ctx context.Context) (time.Duration, error) {
	if m.demand.Load() > 0 || m.filling.Load() {
		return time.Second, nil
	}
	var n int64
	err := m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		due, err := scanIDs(tx.QueryContext(ctx, `SELECT content FROM digest INDEXED BY digest_unindexed WHERE indexed = 0 LIMIT ?`, indexBatch))
		if n = int64(len(due)); err != nil || n == 0 {
			return err
		}
		list, err := json.Marshal(due)
		if err != nil {
			return err
		}
		// One statement: FTS5 writes its index at the end of each.
		_, err = tx.ExecContext(ctx, `INSERT INTO text_index (rowid, text)
			SELECT c.id, c.fields || char(10) || c.body || char(10, 10) FROM json_each(?) j CROSS JOIN content c ON c.id = j.value`, string(list))
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE digest SET indexed = 1 WHERE content IN (SELECT value FROM json_each(?))`, string(list))
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("index messages: %w", err)
	}
	if n == indexBatch {
		return 0, nil
	}
	return time.Minute, nil
}

func scanIDs(rows *sql.Rows, err error) ([]int64, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
