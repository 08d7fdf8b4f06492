-- What gateways share. The tables are those of SQLite, where they are explained; the mirror's are not among them.

-- The vault's file, wrapped under its passphrase: every gateway has the same.
CREATE TABLE vault (
  one  BIGINT PRIMARY KEY CHECK (one = 1),
  file BYTEA NOT NULL
);

CREATE TABLE secret (
  name  TEXT PRIMARY KEY,
  value BYTEA NOT NULL
);

CREATE TABLE own_key (
  account     TEXT    NOT NULL,
  fingerprint TEXT    NOT NULL,
  profile     TEXT    NOT NULL,
  is_primary  BOOLEAN NOT NULL,
  sealed      BYTEA   NOT NULL,
  PRIMARY KEY (account, fingerprint)
);

CREATE TABLE contact (
  address        TEXT PRIMARY KEY,
  certificate    BYTEA,
  source         TEXT NOT NULL,
  pending        BYTEA,
  pending_source TEXT NOT NULL,
  dismissed      TEXT NOT NULL,
  first_seen     BIGINT NOT NULL,
  last_used      BIGINT NOT NULL DEFAULT 0,
  heard          BIGINT NOT NULL,
  verified       BIGINT NOT NULL DEFAULT 0,
  blocked        BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE contact_lookup (
  address   TEXT PRIMARY KEY,
  attempted BIGINT NOT NULL,
  concluded BIGINT NOT NULL
);

CREATE TABLE contact_change (
  address TEXT PRIMARY KEY,
  serial  BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE audit (
  seq   BIGINT PRIMARY KEY,
  entry TEXT NOT NULL,
  hash  TEXT NOT NULL
);

CREATE TABLE audit_head (
  one  BIGINT PRIMARY KEY CHECK (one = 1),
  seq  BIGINT NOT NULL,
  hash TEXT NOT NULL
);

CREATE TABLE first_status (
  account TEXT  NOT NULL,
  digest  BYTEA NOT NULL,
  status  TEXT  NOT NULL,
  PRIMARY KEY (account, digest)
);

CREATE TABLE encrypted_message (
  account    TEXT NOT NULL,
  message_id TEXT NOT NULL,
  PRIMARY KEY (account, message_id)
);
CREATE INDEX encrypted_message_id ON encrypted_message (message_id);

CREATE TABLE outbox (
  id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account    TEXT    NOT NULL,
  message_id TEXT    NOT NULL,
  sender     TEXT    NOT NULL,
  recipients TEXT    NOT NULL,
  size       BIGINT  NOT NULL,
  queued     BIGINT  NOT NULL,
  next_try   BIGINT  NOT NULL,
  attempts   BIGINT  NOT NULL DEFAULT 0,
  last_error TEXT    NOT NULL DEFAULT '',
  given_up   BOOLEAN NOT NULL DEFAULT FALSE,
  delivered  BOOLEAN NOT NULL DEFAULT FALSE,
  job        BIGINT  NOT NULL DEFAULT 0,
  utf8       BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE outbox_body (
  message BIGINT NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
  chunk   BIGINT NOT NULL,
  data    BYTEA  NOT NULL,
  PRIMARY KEY (message, chunk)
);
