-- What signatures by the contact were last judged by: a digest; '' is not known. Trust may change with the lists
-- below and with time, without any change of the contact itself.
ALTER TABLE contact ADD COLUMN standing TEXT NOT NULL DEFAULT '';

-- The signed lists in which organisations vouch for certificates, as last taken in.
CREATE TABLE vouching_list (
  url       TEXT NOT NULL,
  authority TEXT NOT NULL,              -- fingerprint of the certificate that signs it
  signed    INTEGER NOT NULL DEFAULT 0, -- Unix nanoseconds, as are the others: when; never goes back; 0: none was taken in yet
  attempted INTEGER NOT NULL DEFAULT 0, -- last look
  checked   INTEGER NOT NULL DEFAULT 0, -- last look that found it good
  problem   TEXT NOT NULL DEFAULT '',   -- what the last look came to grief of
  in_force  INTEGER NOT NULL DEFAULT 0, -- whether it vouched when its contacts were last judged
  news      BLOB,                       -- the authority's certificate with what is known of it by now; NULL: nothing new
  PRIMARY KEY (url, authority)
) WITHOUT ROWID;

-- What they say.
CREATE TABLE vouch (
  address     TEXT NOT NULL,
  url         TEXT NOT NULL,
  authority   TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  certificate BLOB,                     -- NULL: the list only names it, and it was not found yet
  stale       INTEGER NOT NULL DEFAULT 0, -- within a transaction: the new list does not say it any more
  PRIMARY KEY (address, url, authority, fingerprint)
) WITHOUT ROWID;

-- When something that is done now and then was done last.
CREATE TABLE contact_chore (
  name TEXT PRIMARY KEY,
  done INTEGER NOT NULL                 -- Unix nanoseconds
) WITHOUT ROWID;
