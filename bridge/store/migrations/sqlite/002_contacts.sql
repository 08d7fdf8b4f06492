-- Addresses that have, or once had, a certificate. A row is never deleted by the program itself: its
-- existence forbids silent cleartext.
CREATE TABLE contact (
  address        TEXT PRIMARY KEY,           -- lower case
  certificate    BLOB,                       -- the pinned one; NULL: only unusable ones were ever found
  source         TEXT NOT NULL,
  pending        BLOB,                       -- a conflicting one that waits for the user
  pending_source TEXT NOT NULL,
  dismissed      TEXT NOT NULL,              -- fingerprints the user decided against, separated by spaces
  first_seen     INTEGER NOT NULL,           -- Unix nanoseconds, as are the others
  last_used      INTEGER NOT NULL DEFAULT 0, -- 0: never
  heard          INTEGER NOT NULL            -- effective date of the newest Autocrypt field; 0: none
) WITHOUT ROWID;

-- When the network was asked for an address. Old rows are swept.
CREATE TABLE contact_lookup (
  address   TEXT PRIMARY KEY,
  attempted INTEGER NOT NULL,                -- last time, whatever the answer
  concluded INTEGER NOT NULL                 -- last definite answer; 0: none
) WITHOUT ROWID;
