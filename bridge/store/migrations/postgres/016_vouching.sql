-- As in SQLite, where it is explained.
ALTER TABLE contact ADD COLUMN standing TEXT NOT NULL DEFAULT '';

CREATE TABLE vouching_list (
  url       TEXT    NOT NULL,
  authority TEXT    NOT NULL,
  signed    BIGINT  NOT NULL DEFAULT 0,
  attempted BIGINT  NOT NULL DEFAULT 0,
  checked   BIGINT  NOT NULL DEFAULT 0,
  problem   TEXT    NOT NULL DEFAULT '',
  in_force  BOOLEAN NOT NULL DEFAULT FALSE,
  news      BYTEA,
  PRIMARY KEY (url, authority)
);

CREATE TABLE vouch (
  address     TEXT    NOT NULL,
  url         TEXT    NOT NULL,
  authority   TEXT    NOT NULL,
  fingerprint TEXT    NOT NULL,
  certificate BYTEA,
  stale       BOOLEAN NOT NULL DEFAULT FALSE,
  PRIMARY KEY (address, url, authority, fingerprint)
);

CREATE TABLE contact_chore (
  name TEXT   PRIMARY KEY,
  done BIGINT NOT NULL
);
