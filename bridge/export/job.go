package export

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
)

// What becomes of a matching message.
const (
	Exported  Outcome = "exported"
	Duplicate Outcome = "duplicate" // of one that is exported
	Withheld  Outcome = "withheld"  // as a mark asks
)

// row is one message that was looked at.
type row struct {
	Custodian, Mailbox string
	Validity, UID      uint32
	Outcome            Outcome
	Reason             string
	Identity, Original string
	Hits               []int
	First              int
	Kept               string // how and when it left its mailbox, of what a hold kept
	Records            []Record
	n                  int
}

// job is an export as the database knows it.
type job struct {
	db      *store.DB
	id      int64
	started time.Time
	rows    int // looked at
	last    int // number of the last document
	batch   []row
}

// batchSize is how many messages are written to the database at once: what a crash has between is done again.
const batchSize = 64

// openJob finds the unfinished export of a folder, or begins one in an empty one. It is refused if it was of another request.
func openJob(ctx context.Context, db *store.DB, dir, request string, now time.Time, empty bool) (*job, error) {
	j := &job{db: db, started: now}
	var started, finished int64
	var known string
	err := db.Read().QueryRowContext(ctx, `SELECT id, request, started, finished FROM export_job WHERE directory = ?`, dir).Scan(&j.id, &known, &started, &finished)
	switch {
	case errors.Is(err, sql.ErrNoRows) && !empty:
		return nil, fmt.Errorf("%w: %s is not empty; name another folder", ErrRequest, dir)
	case errors.Is(err, sql.ErrNoRows):
		return j, j.begin(ctx, dir, request)
	case err != nil:
		return nil, fmt.Errorf("the exports: %w", store.Explain(err))
	case finished != 0:
		return nil, fmt.Errorf("%w: %s holds a finished export; name another folder", ErrRequest, dir)
	case known != request:
		return nil, fmt.Errorf("%w: %s holds an unfinished export of another request; repeat that, or name another folder", ErrRequest, dir)
	}
	j.started = time.Unix(0, started).UTC()
	err = db.Read().QueryRowContext(ctx, `SELECT count(*), coalesce(max(n), 0), coalesce(max(first + json_array_length(records) - 1), 0)
		FROM export_message WHERE job = ?`, j.id).Scan(new(int), &j.rows, &j.last)
	return j, err
}

func (j *job) begin(ctx context.Context, dir, request string) error {
	return j.db.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `INSERT INTO export_job (directory, request, started) VALUES (?, ?, ?)`, dir, request, j.started.UnixNano())
		if err == nil {
			j.id, err = done.LastInsertId()
		}
		return err
	})
}

// known says whether the message has been dealt with, in an earlier run.
func (j *job) known(ctx context.Context, r row) (bool, error) {
	var one int
	err := j.db.Read().QueryRowContext(ctx, `SELECT 1 FROM export_message WHERE job = ? AND custodian = ? AND mailbox = ? AND validity = ? AND uid = ?`,
		j.id, r.Custodian, r.Mailbox, r.Validity, r.UID).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// original is the DOCID of the exported message of that identity, "" if there is none yet.
func (j *job) original(ctx context.Context, identity string) (string, error) {
	for _, r := range j.batch {
		if r.Identity == identity && r.Outcome == Exported {
			return r.Records[0].DocID, nil
		}
	}
	var id string
	err := j.db.Read().QueryRowContext(ctx, `SELECT json_extract(records, '$[0].DocID') FROM export_message WHERE job = ? AND identity = ? AND identity <> '' AND outcome = ?`,
		j.id, identity, Exported).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// add notes a message; its files are written.
func (j *job) add(ctx context.Context, r row) error {
	j.rows++
	r.n = j.rows
	j.last += len(r.Records)
	j.batch = append(j.batch, r)
	if len(j.batch) < batchSize {
		return nil
	}
	return j.flush(ctx)
}

func (j *job) flush(ctx context.Context) error {
	err := j.db.Write(ctx, func(tx *sql.Tx) error {
		for _, r := range j.batch {
			if err := j.insert(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		j.batch = j.batch[:0]
	}
	return err
}

func (j *job) insert(ctx context.Context, tx *sql.Tx, r row) error {
	hits, err := json.Marshal(append([]int{}, r.Hits...))
	if err != nil {
		return err
	}
	records, err := json.Marshal(append([]Record{}, r.Records...))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO export_message (job, custodian, mailbox, validity, uid, n, outcome, reason, identity, original, hits, first, records, kept)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		j.id, r.Custodian, r.Mailbox, r.Validity, r.UID, r.n, r.Outcome, r.Reason, r.Identity, r.Original, string(hits), r.First, string(records), r.Kept)
	return err
}

// each calls f for every message that was looked at, in order.
func (j *job) each(ctx context.Context, f func(row) error) error {
	rows, err := j.db.Read().QueryContext(ctx, `SELECT n, custodian, mailbox, validity, uid, outcome, reason, identity, original, hits, first, records, kept
		FROM export_message WHERE job = ? ORDER BY n`, j.id)
	if err != nil {
		return store.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		var hits, records string
		err := rows.Scan(&r.n, &r.Custodian, &r.Mailbox, &r.Validity, &r.UID, &r.Outcome, &r.Reason, &r.Identity, &r.Original, &hits, &r.First, &records, &r.Kept)
		if err == nil {
			err = json.Unmarshal([]byte(hits), &r.Hits)
		}
		if err == nil {
			err = json.Unmarshal([]byte(records), &r.Records)
		}
		if err == nil {
			err = f(r)
		}
		if err != nil {
			return err
		}
	}
	return store.Explain(rows.Err())
}

// eachRecord calls f for every exported document, in order, with all custodians who hold a copy.
func (j *job) eachRecord(ctx context.Context, f func(*Record) error) error {
	copies, err := j.copies(ctx)
	if err != nil {
		return err
	}
	return j.each(ctx, func(r row) error {
		for i := range r.Records {
			for _, custodian := range copies[r.Records[0].DocID] {
				r.Records[i].addCustodian(custodian)
			}
			if err := f(&r.Records[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// copies are the custodians of suppressed copies, by the DOCID of the message that is exported.
func (j *job) copies(ctx context.Context) (map[string][]string, error) {
	rows, err := j.db.Read().QueryContext(ctx, `SELECT DISTINCT original, custodian FROM export_message WHERE job = ? AND outcome = ?`, j.id, Duplicate)
	if err != nil {
		return nil, store.Explain(err)
	}
	defer rows.Close()
	found := map[string][]string{}
	for rows.Next() {
		var original, custodian string
		if err := rows.Scan(&original, &custodian); err != nil {
			return nil, err
		}
		found[original] = append(found[original], custodian)
	}
	return found, rows.Err()
}

// finish says that the export is complete.
func (j *job) finish(ctx context.Context, at time.Time) error {
	return j.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE export_job SET finished = ? WHERE id = ?`, at.UnixNano(), j.id)
		return err
	})
}
