-- What is known of each address. A row stays once the address had a certificate.
CREATE TABLE contact (
  address          TEXT    PRIMARY KEY,          -- normalised
  certificate      BLOB,                         -- the pinned one
  fingerprint      TEXT    NOT NULL DEFAULT '',
  source           TEXT    NOT NULL DEFAULT '',
  trust            TEXT    NOT NULL DEFAULT 'unknown',
  first_seen       INTEGER NOT NULL DEFAULT 0,   -- times are Unix seconds, 0: never
  last_used        INTEGER NOT NULL DEFAULT 0,
  pending          BLOB,                         -- a conflicting certificate that waits for the user
  pending_source   TEXT    NOT NULL DEFAULT '',
  autocrypt_seen   INTEGER NOT NULL DEFAULT 0,   -- effective date of the newest Autocrypt field taken
  asked            INTEGER NOT NULL DEFAULT 0,   -- when the network last gave a definite answer
  tried            INTEGER NOT NULL DEFAULT 0    -- when the network was last asked for verification
) WITHOUT ROWID;
