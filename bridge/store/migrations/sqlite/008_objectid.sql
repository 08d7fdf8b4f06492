-- What the provider knows mailboxes, messages and threads by (RFC 8474), where it tells.
ALTER TABLE mailbox ADD COLUMN object_id TEXT NOT NULL DEFAULT '';
ALTER TABLE message ADD COLUMN email_id TEXT;  -- NULL: not asked yet
ALTER TABLE message ADD COLUMN thread_id TEXT; -- '': it knows no threads
