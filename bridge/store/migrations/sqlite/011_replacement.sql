-- What proves that a message is the copy: it is no older than the attempt. And whether the original has been marked
-- for removal by us, not by its owner.
ALTER TABLE seal_journal ADD COLUMN next_uid INTEGER NOT NULL DEFAULT 0; -- UIDNEXT before the copy was appended
ALTER TABLE seal_journal ADD COLUMN removing INTEGER NOT NULL DEFAULT 0;
