-- A message that was removed because its sealed (or unsealed) copy has taken its place was not deleted: no hold keeps it.
ALTER TABLE message ADD COLUMN replaced INTEGER NOT NULL DEFAULT 0;
