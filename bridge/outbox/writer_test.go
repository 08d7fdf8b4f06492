package outbox

import (
	"database/sql"
	"log/slog"
)

var quietLog = slog.New(slog.DiscardHandler)

// keepWriting commits one small transaction after the other until stop is closed.
func keepWriting(db *sql.DB, stop <-chan struct{}) error {
	if _, err := db.Exec(`CREATE TABLE other (n INTEGER)`); err != nil {
		return err
	}
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := db.Exec(`INSERT INTO other VALUES (?)`, n); err != nil {
			return err
		}
	}
}
