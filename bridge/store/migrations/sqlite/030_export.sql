-- Legal discovery: one row an export, named by the folder it is written to, and one for every message that was looked at: what
-- became of it, and if it was exported the records of its family. An export that was cut off goes on from here; everything that is
-- counted is counted from here.
CREATE TABLE export_job (
	id        INTEGER PRIMARY KEY,
	directory TEXT NOT NULL UNIQUE,
	request   TEXT NOT NULL,           -- JSON, without what is only about how it is delivered
	started   INTEGER NOT NULL,        -- Unix nanoseconds
	finished  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE export_message (
	job       INTEGER NOT NULL REFERENCES export_job ON DELETE CASCADE,
	custodian TEXT NOT NULL,
	mailbox   TEXT NOT NULL,
	validity  INTEGER NOT NULL,
	uid       INTEGER NOT NULL,
	n         INTEGER NOT NULL,        -- in the order in which they were looked at
	outcome   TEXT NOT NULL,
	reason    TEXT NOT NULL,
	identity  TEXT NOT NULL,           -- of what it says, for de-duplication; '' if it does not match
	original  TEXT NOT NULL,           -- of a duplicate: the DOCID of the message it is a copy of
	hits      TEXT NOT NULL,           -- JSON: the numbers of the terms that are true of it
	first     INTEGER NOT NULL,        -- number of its first document; 0: not exported
	records   TEXT NOT NULL,           -- JSON
	PRIMARY KEY (job, custodian, mailbox, validity, uid)
) STRICT;
CREATE INDEX export_message_order ON export_message (job, n);
CREATE INDEX export_message_identity ON export_message (job, identity) WHERE identity <> '';

-- The custody log of each export, chained by hash.
CREATE TABLE export_custody (
	job   INTEGER NOT NULL REFERENCES export_job ON DELETE CASCADE,
	seq   INTEGER NOT NULL,
	entry TEXT NOT NULL,               -- JSON
	hash  TEXT NOT NULL,               -- hex SHA-256 of entry
	PRIMARY KEY (job, seq)
) STRICT;
