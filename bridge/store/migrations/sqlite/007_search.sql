-- What sorting, threading and previews need of every opened message, apart from its large columns.
CREATE TABLE digest (
  content    INTEGER PRIMARY KEY,
  indexed    INTEGER NOT NULL DEFAULT 0, -- 1: text_index has it
  date       INTEGER,                    -- its Date, Unix seconds; NULL if it has none that can be read
  subject    TEXT NOT NULL,              -- base subject, folded (RFC 5256 section 2.1)
  answer     INTEGER NOT NULL,           -- 1: the subject says that it is a reply or a forward
  sender     TEXT NOT NULL,              -- local part of the first address of From, folded
  recipient  TEXT NOT NULL,              -- of To
  copy       TEXT NOT NULL,              -- of Cc
  sender_name    TEXT NOT NULL,          -- as displayed, folded (RFC 5957)
  recipient_name TEXT NOT NULL,
  message_id TEXT NOT NULL,
  refs       TEXT NOT NULL,              -- the Message-IDs it refers to, the oldest first, separated by spaces
  preview    TEXT NOT NULL               -- the beginning of its text (RFC 8970)
);
CREATE INDEX digest_unindexed ON digest (content) WHERE indexed = 0;

-- Trigrams of the folded header and text. The text itself is in content.
CREATE VIRTUAL TABLE text_index USING fts5 (text, content = '', contentless_delete = 1, detail = none, tokenize = 'trigram case_sensitive 1');

CREATE VIRTUAL TABLE text_vocabulary USING fts5vocab (text_index, row);

-- What is known of all messages at once, apart from the large columns.
CREATE INDEX content_state ON content (id, kind, keywords, size);
CREATE INDEX content_partial ON content (id) WHERE partial = 1;

CREATE TRIGGER content_gone AFTER DELETE ON content BEGIN
  DELETE FROM digest WHERE content = old.id;
  DELETE FROM text_index WHERE rowid = old.id;
END;

-- The UID from which on no client has been told of messages (RFC 3501 section 2.3.2, \Recent); 0: baseline.
ALTER TABLE mailbox ADD COLUMN recent INTEGER NOT NULL DEFAULT 0;

-- The mirror is a copy: what was opened before is opened again.
UPDATE message SET content = NULL;
DELETE FROM chunk;
DELETE FROM content;
