-- Small secrets by name, each sealed by the vault.
CREATE TABLE secret (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) WITHOUT ROWID;

-- Own secret keys, each sealed by the vault.
CREATE TABLE own_key (
  account     TEXT    NOT NULL,
  fingerprint TEXT    NOT NULL,
  profile     TEXT    NOT NULL,
  is_primary  INTEGER NOT NULL,
  sealed      BLOB    NOT NULL,
  PRIMARY KEY (account, fingerprint)
) WITHOUT ROWID;
