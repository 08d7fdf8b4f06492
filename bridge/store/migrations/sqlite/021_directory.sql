-- The gateway's users, as a Web Key Directory is asked for them; one address for each hash.
CREATE TABLE hosted_address (
  domain   TEXT NOT NULL,
  wkd_hash TEXT NOT NULL,               -- of the local part
  address  TEXT NOT NULL UNIQUE,
  PRIMARY KEY (domain, wkd_hash)
) WITHOUT ROWID;

-- Certificates that users have mailed to the gateway and that wait for their answer.
CREATE TABLE submission (
  address     TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  certificate BLOB NOT NULL,
  nonce       TEXT NOT NULL UNIQUE,
  asked       INTEGER NOT NULL,         -- Unix nanoseconds
  PRIMARY KEY (address, fingerprint)
) WITHOUT ROWID;

-- Those that were confirmed: these users keep their keys themselves.
CREATE TABLE submitted_certificate (
  address     TEXT PRIMARY KEY,
  certificate BLOB NOT NULL,
  confirmed   INTEGER NOT NULL          -- Unix nanoseconds
) WITHOUT ROWID;
