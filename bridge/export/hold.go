package export

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/bridge/store"
)

// Holds are the legal holds of this device, and the archive of what was deleted while they stood. They are the mirrors'
// Keeper. Safe for concurrent use.
type Holds struct {
	db    *store.DB
	audit *audit.Log
	now   func() time.Time
	mu    sync.Mutex // one writer of the archive
}

// NewHolds opens the holds on the database.
func NewHolds(db *store.DB, log *audit.Log, now func() time.Time) *Holds {
	return &Holds{db: db, audit: log, now: now}
}

// Hold is one hold, with what was deleted under it.
type Hold struct {
	Name     string    `json:"name"`
	Reason   string    `json:"reason,omitempty"`
	Request  Request   `json:"request"` // custodians: none means all accounts, later ones too
	Opened   time.Time `json:"opened"`
	Released time.Time `json:"released,omitzero"`
	Messages int       `json:"messages"` // in the archive
	Lost     int       `json:"lost"`     // of them: removed elsewhere before all that they said was kept
	Bytes    int64     `json:"bytes"`    // that the provider had stored of them, as far as that was kept

	id int64
}

// Errors of holds.
var (
	ErrNoHold      = errors.New("there is no hold of that name; see sealpost hold list")
	ErrHoldExists  = errors.New("there is, or was, a hold of that name; take another")
	ErrReleased    = errors.New("the hold was released already; --purge removes what its archive has")
	ErrNotExported = errors.New("nothing was released or removed")
)

var holdName = regexp.MustCompile(`^[\pL\pN][\pL\pN ._-]{0,63}$`)

// AddHold opens a hold: from now on what matches the request and is deleted is kept before. Formats and all that is about
// delivery is left out. Errors of the request wrap ErrRequest.
func (d *Desk) AddHold(ctx context.Context, name, reason string, r Request) (Hold, error) {
	if !holdName.MatchString(name) {
		return Hold{}, fmt.Errorf("%w: the name of a hold is at most 64 letters, digits, spaces, points, dashes and underscores", ErrRequest)
	}
	if _, err := r.parse(); err != nil {
		return Hold{}, err
	}
	if len(r.Custodians) > 0 {
		if _, err := d.custodians(&r); err != nil {
			return Hold{}, err
		}
	}
	r = Request{Query: r.Query, Since: r.Since, Until: r.Until, Timezone: r.Timezone, Custodians: r.Custodians}
	return d.o.Holds.add(ctx, Hold{Name: name, Reason: reason, Request: r})
}

// Holds are those of this device.
func (d *Desk) Holds() *Holds { return d.o.Holds }

func (h *Holds) add(ctx context.Context, hold Hold) (Hold, error) {
	request, err := json.Marshal(hold.Request)
	if err != nil {
		return hold, err
	}
	hold.Opened = h.now().UTC()
	sum := sha256.Sum256(request)
	err = h.db.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `INSERT INTO hold (name, request, reason, opened) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			hold.Name, string(request), hold.Reason, hold.Opened.UnixNano())
		if err != nil {
			return err
		}
		if n, _ := done.RowsAffected(); n == 0 {
			return ErrHoldExists
		}
		if hold.id, err = done.LastInsertId(); err != nil {
			return err
		}
		return holdCustody.add(ctx, tx, hold.id, hold.Opened, "opened", strings.TrimSpace(string(request)+" "+hold.Reason))
	})
	if err != nil {
		return hold, fmt.Errorf("hold %s: %w", hold.Name, err)
	}
	return hold, h.note(ctx, hold.Name, "opened", hold.Request.Custodians, "request SHA-256 "+hex.EncodeToString(sum[:]))
}

// note writes to the decision log, which does not get the query.
func (h *Holds) note(ctx context.Context, name, what string, custodians []string, detail string) error {
	return h.audit.Append(ctx, audit.Entry{Account: strings.Join(custodians, ","), Event: "hold", Decision: what, Rule: name, Detail: detail})
}

// List are all holds, the oldest first, released ones too.
func (h *Holds) List(ctx context.Context) ([]Hold, error) {
	rows, err := h.db.Read().QueryContext(ctx, `SELECT h.id, h.name, h.reason, h.request, h.opened, h.released, count(m.id),
		coalesce(sum(m.id IS NOT NULL AND (m.stored IS NULL OR m.opened IS NULL)), 0), coalesce(sum(s.size), 0)
		FROM hold h LEFT JOIN held_by b ON b.hold = h.id LEFT JOIN held_message m ON m.id = b.message LEFT JOIN held_body s ON s.hash = m.stored
		GROUP BY h.id ORDER BY h.id`)
	if err != nil {
		return nil, fmt.Errorf("holds: %w", store.Explain(err))
	}
	defer rows.Close()
	list := []Hold{}
	for rows.Next() {
		var hold Hold
		var request string
		var opened, released int64
		err := rows.Scan(&hold.id, &hold.Name, &hold.Reason, &request, &opened, &released, &hold.Messages, &hold.Lost, &hold.Bytes)
		if err == nil {
			err = json.Unmarshal([]byte(request), &hold.Request)
		}
		if err != nil {
			return nil, fmt.Errorf("holds: %w", err)
		}
		hold.Opened = time.Unix(0, opened).UTC()
		if released != 0 {
			hold.Released = time.Unix(0, released).UTC()
		}
		list = append(list, hold)
	}
	return list, store.Explain(rows.Err())
}

func (h *Holds) find(ctx context.Context, name string) (Hold, error) {
	all, err := h.List(ctx)
	if err != nil {
		return Hold{}, err
	}
	for _, hold := range all {
		if hold.Name == name {
			return hold, nil
		}
	}
	return Hold{}, fmt.Errorf("hold %s: %w", name, ErrNoHold)
}

// Custody is the custody log of a hold; an error if its chain is broken.
func (h *Holds) Custody(ctx context.Context, name string) ([]CustodyEntry, error) {
	hold, err := h.find(ctx, name)
	if err != nil {
		return nil, err
	}
	lines, err := textsOf(h.db.Read().QueryContext(ctx, `SELECT entry FROM hold_custody WHERE hold = ? ORDER BY seq`, hold.id))
	if err != nil {
		return nil, err
	}
	entries, err := readCustody(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return entries, fmt.Errorf("custody log of hold %s: %w", name, err)
	}
	return entries, nil
}

// Check reads all of the archive back and follows the custody logs. problems are in words; nil: all is as it was kept.
func (h *Holds) Check(ctx context.Context) (problems []string, err error) {
	all, err := h.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, hold := range all {
		if _, err := h.Custody(ctx, hold.Name); err != nil {
			problems = append(problems, err.Error())
		}
	}
	hashes, err := textsOf(h.db.Read().QueryContext(ctx, `SELECT stored FROM held_message WHERE stored IS NOT NULL UNION SELECT opened FROM held_message WHERE opened IS NOT NULL`))
	if err != nil {
		return nil, err
	}
	for _, hash := range hashes {
		if err := checkBody(ctx, h.db, hash); err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", hash, err))
		}
	}
	return problems, ctx.Err()
}

// textsOf are the values of a query's one column.
func textsOf(rows *sql.Rows, err error) ([]string, error) {
	if err != nil {
		return nil, store.Explain(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, store.Explain(rows.Err())
}

// standing are the holds over an account that stand now.
func (h *Holds) standing(ctx context.Context, account string) ([]Hold, error) {
	rows, err := h.db.Read().QueryContext(ctx, `SELECT id, name, request FROM hold WHERE released = 0 ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("holds: %w", store.Explain(err))
	}
	defer rows.Close()
	var found []Hold
	for rows.Next() {
		var hold Hold
		var request string
		err := rows.Scan(&hold.id, &hold.Name, &request)
		if err == nil {
			err = json.Unmarshal([]byte(request), &hold.Request)
		}
		if err != nil {
			return nil, fmt.Errorf("holds: %w", err)
		}
		if hold.covers(account) {
			found = append(found, hold)
		}
	}
	return found, store.Explain(rows.Err())
}

func (h Hold) covers(account string) bool {
	for _, c := range h.Request.Custodians {
		if mirror.Fold(c) == mirror.Fold(account) {
			return true
		}
	}
	return len(h.Request.Custodians) == 0
}

// Stands implements mirror.Keeper.
func (h *Holds) Stands(ctx context.Context, account string) (bool, error) {
	found, err := h.standing(ctx, account)
	return len(found) > 0, err
}
