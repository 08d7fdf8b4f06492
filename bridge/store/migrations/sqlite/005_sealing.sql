-- What is being replaced at the provider right now: one row per message, written before
-- the first step and deleted after the last.
CREATE TABLE seal_journal (
  id       INTEGER PRIMARY KEY,
  account  TEXT    NOT NULL,
  mailbox  TEXT    NOT NULL,
  validity INTEGER NOT NULL,
  uid      INTEGER NOT NULL,
  verb     TEXT    NOT NULL,
  seal_id  TEXT    NOT NULL,
  copy_uid INTEGER NOT NULL DEFAULT 0,
  UNIQUE (account, mailbox, validity, uid)
);

-- The status field each stored message got at its first opening, by the SHA-256 of its bytes:
-- IMAP messages are immutable.
CREATE TABLE first_status (
  account TEXT NOT NULL,
  digest  BLOB NOT NULL,
  status  TEXT NOT NULL,
  PRIMARY KEY (account, digest)
) WITHOUT ROWID;

-- The Message-IDs of mail that reached us end-to-end encrypted: an answer to it stays encrypted,
-- also after the message itself is gone.
CREATE TABLE encrypted_message (
  account    TEXT NOT NULL,
  message_id TEXT NOT NULL,
  PRIMARY KEY (account, message_id)
) WITHOUT ROWID;
