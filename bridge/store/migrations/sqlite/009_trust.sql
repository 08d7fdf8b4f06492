-- Contacts whose standing has changed since the mail of theirs was judged.
CREATE TABLE contact_change (
  address TEXT PRIMARY KEY,
  serial  INTEGER NOT NULL DEFAULT 1  -- grows when it changes again meanwhile
) WITHOUT ROWID;
