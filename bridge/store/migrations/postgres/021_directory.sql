-- As in SQLite, where it is explained.
CREATE TABLE hosted_address (
  domain   TEXT NOT NULL,
  wkd_hash TEXT NOT NULL,
  address  TEXT NOT NULL UNIQUE,
  PRIMARY KEY (domain, wkd_hash)
);

CREATE TABLE submission (
  address     TEXT   NOT NULL,
  fingerprint TEXT   NOT NULL,
  certificate BYTEA  NOT NULL,
  nonce       TEXT   NOT NULL UNIQUE,
  asked       BIGINT NOT NULL,
  PRIMARY KEY (address, fingerprint)
);

CREATE TABLE submitted_certificate (
  address     TEXT   PRIMARY KEY,
  certificate BYTEA  NOT NULL,
  confirmed   BIGINT NOT NULL
);
