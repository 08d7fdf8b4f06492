-- The mirror: what the provider's mailboxes hold, and what their messages say once opened.
CREATE TABLE mailbox (
  id         INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again
  account    TEXT    NOT NULL,
  name       TEXT    NOT NULL,             -- UTF-8, as go-imap decodes it
  delim      TEXT    NOT NULL DEFAULT '',
  attrs      TEXT    NOT NULL DEFAULT '',  -- separated by spaces
  subscribed INTEGER NOT NULL DEFAULT 1,
  validity   INTEGER NOT NULL DEFAULT 0,   -- UIDVALIDITY
  uidnext    INTEGER NOT NULL DEFAULT 0,
  modseq     INTEGER NOT NULL DEFAULT 0,   -- HIGHESTMODSEQ that the flags below are of
  permanent  TEXT    NOT NULL DEFAULT '',  -- PERMANENTFLAGS, separated by spaces
  baseline   INTEGER NOT NULL DEFAULT 0,   -- UIDNEXT when first seen: what came later is sealed
  synced     INTEGER NOT NULL DEFAULT 0,   -- 1: every message of the provider's has a row
  UNIQUE (account, name)
);

-- The state of one message at the provider.
CREATE TABLE message (
  mailbox  INTEGER NOT NULL REFERENCES mailbox (id),
  uid      INTEGER NOT NULL,
  flags    TEXT    NOT NULL,            -- separated by spaces, without the mirror's own keywords
  date     INTEGER NOT NULL,            -- INTERNALDATE, Unix seconds
  zone     INTEGER NOT NULL,            -- its zone, seconds east of UTC
  size     INTEGER NOT NULL,            -- bytes as stored at the provider
  content  INTEGER,                     -- NULL: not opened
  held     INTEGER NOT NULL DEFAULT 0,  -- Unix nanoseconds when held back first; 0: shown
  tries    INTEGER NOT NULL DEFAULT 0,  -- failed attempts to open it or, once open, to seal it
  retry    INTEGER NOT NULL DEFAULT 0,  -- Unix nanoseconds before which not to try again
  PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE INDEX message_unopened ON message (mailbox, uid) WHERE content IS NULL;
CREATE INDEX message_unopened_date ON message (date) WHERE content IS NULL;
CREATE INDEX message_held ON message (held) WHERE held > 0;
CREATE INDEX message_content ON message (content) WHERE content IS NOT NULL;

-- What a message says, opened. Copies of a message share it.
-- Small columns come first: what follows large ones is slow to reach.
CREATE TABLE content (
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  account   TEXT    NOT NULL,
  kind      TEXT    NOT NULL,             -- '' while its chunks are written
  keywords  TEXT    NOT NULL DEFAULT '',
  size      INTEGER NOT NULL DEFAULT 0,   -- bytes as the client sees it
  sent      INTEGER NOT NULL DEFAULT 0,   -- its Date as yyyymmdd, 0 if it has none
  cached    INTEGER NOT NULL DEFAULT 0,   -- bytes held in chunk
  used      INTEGER NOT NULL DEFAULT 0,   -- Unix seconds of the last use
  partial   INTEGER NOT NULL DEFAULT 0,   -- 1: the text is longer than what body holds
  header    BLOB    NOT NULL DEFAULT x'',
  structure BLOB    NOT NULL DEFAULT x'', -- JSON of mimescan.Part
  fields    TEXT    NOT NULL DEFAULT '',  -- decoded and folded header, a line per field
  body      TEXT    NOT NULL DEFAULT ''   -- decoded and folded text for search
);
CREATE INDEX content_used ON content (used) WHERE cached > 0;

-- The opened message in pieces of 256 KiB: a cache with a limit.
CREATE TABLE chunk (
  content INTEGER NOT NULL,
  n       INTEGER NOT NULL,
  data    BLOB    NOT NULL,
  PRIMARY KEY (content, n)
);
