-- Legal holds, and the archive of what was deleted while they stood. The triggers are the last defence: while a hold stands
-- nothing that is under it can be removed or changed, whatever a program does that has the database open.
CREATE TABLE hold (
	id       INTEGER PRIMARY KEY,
	name     TEXT NOT NULL UNIQUE,
	request  TEXT NOT NULL,             -- JSON: query, dates, zone, custodians
	reason   TEXT NOT NULL,
	opened   INTEGER NOT NULL,          -- Unix nanoseconds
	released INTEGER NOT NULL DEFAULT 0 -- 0: it stands
) STRICT;

-- The custody log of each hold, chained by hash.
CREATE TABLE hold_custody (
	hold  INTEGER NOT NULL REFERENCES hold,
	seq   INTEGER NOT NULL,
	entry TEXT NOT NULL,                -- JSON
	hash  TEXT NOT NULL,                -- hex SHA-256 of entry
	PRIMARY KEY (hold, seq)
) STRICT;

-- Contents, each once, by the SHA-256 of their bytes; a chunk without its body is what a crash has left.
CREATE TABLE held_body (
	hash TEXT PRIMARY KEY,              -- hex
	size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE held_chunk (
	hash TEXT NOT NULL,
	n    INTEGER NOT NULL,
	data BLOB NOT NULL,
	PRIMARY KEY (hash, n)
) STRICT;

CREATE TABLE held_message (
	id          INTEGER PRIMARY KEY,
	custodian   TEXT NOT NULL,
	mailbox     TEXT NOT NULL,
	validity    INTEGER NOT NULL,
	uid         INTEGER NOT NULL,
	received    INTEGER NOT NULL,       -- Unix seconds
	zone        INTEGER NOT NULL,       -- of received, seconds east of UTC
	flags       TEXT NOT NULL,          -- as the provider had them
	how         TEXT NOT NULL,
	gone        INTEGER NOT NULL,       -- Unix nanoseconds: the last time that it was deleted, or found to be gone
	kind        TEXT NOT NULL,          -- '': never opened
	header      BLOB,
	structure   BLOB,
	stored_hash TEXT NOT NULL,          -- of what the provider stored, '' if it was never fetched
	stored      TEXT REFERENCES held_body, -- NULL: lost
	opened      TEXT REFERENCES held_body, -- NULL: lost
	UNIQUE (custodian, mailbox, validity, uid)
) STRICT;
CREATE INDEX held_message_stored ON held_message (stored);
CREATE INDEX held_message_opened ON held_message (opened);

-- Which holds want it. why is 'matching' or 'undecided'.
CREATE TABLE held_by (
	message INTEGER NOT NULL REFERENCES held_message,
	hold    INTEGER NOT NULL REFERENCES hold,
	why     TEXT NOT NULL,
	PRIMARY KEY (message, hold)
) STRICT, WITHOUT ROWID;
CREATE INDEX held_by_hold ON held_by (hold);

CREATE TRIGGER hold_stands BEFORE DELETE ON hold WHEN old.released = 0
	BEGIN SELECT RAISE(ABORT, 'the hold stands'); END;
CREATE TRIGGER hold_custody_stays BEFORE DELETE ON hold_custody
	BEGIN SELECT RAISE(ABORT, 'a custody log is never shortened'); END;
CREATE TRIGGER hold_custody_is_final BEFORE UPDATE ON hold_custody
	BEGIN SELECT RAISE(ABORT, 'a custody log is never changed'); END;
CREATE TRIGGER held_by_stays BEFORE DELETE ON held_by WHEN (SELECT released FROM hold WHERE id = old.hold) = 0
	BEGIN SELECT RAISE(ABORT, 'a hold stands over this message'); END;
CREATE TRIGGER held_message_stays BEFORE DELETE ON held_message
	WHEN EXISTS (SELECT 1 FROM held_by b JOIN hold h ON h.id = b.hold WHERE b.message = old.id AND h.released = 0)
	BEGIN SELECT RAISE(ABORT, 'a hold stands over this message'); END;
CREATE TRIGGER held_body_stays BEFORE DELETE ON held_body
	WHEN EXISTS (SELECT 1 FROM held_message WHERE stored = old.hash OR opened = old.hash)
	BEGIN SELECT RAISE(ABORT, 'a message in the archive has this content'); END;
CREATE TRIGGER held_chunk_stays BEFORE DELETE ON held_chunk WHEN EXISTS (SELECT 1 FROM held_body WHERE hash = old.hash)
	BEGIN SELECT RAISE(ABORT, 'a message in the archive has this content'); END;
CREATE TRIGGER held_chunk_is_final BEFORE UPDATE ON held_chunk
	BEGIN SELECT RAISE(ABORT, 'the archive is never changed'); END;

-- How a message that was looked at left its mailbox, and when; '' if it is there.
ALTER TABLE export_message ADD COLUMN kept TEXT NOT NULL DEFAULT '';
