-- What is known of how a device behaves: no content, no recipients.
CREATE TABLE device (
  name     TEXT PRIMARY KEY,
  first    INTEGER NOT NULL,            -- Unix nanoseconds, as are the others
  last     INTEGER NOT NULL,
  messages INTEGER NOT NULL DEFAULT 0,
  pause    INTEGER NOT NULL DEFAULT 0,  -- usual time between messages, in nanoseconds
  size     INTEGER NOT NULL DEFAULT 0,  -- usual size, in bytes
  ip       TEXT    NOT NULL DEFAULT '',
  hello    TEXT    NOT NULL DEFAULT '',
  silent   INTEGER NOT NULL DEFAULT 0   -- 1: its silence has been told
) WITHOUT ROWID;
