-- The decision log. Rows are only ever added; hash covers the row and the hash before it.
CREATE TABLE audit (
  seq   INTEGER PRIMARY KEY,
  entry TEXT NOT NULL,  -- the entry as JSON, without its hash
  hash  TEXT NOT NULL
);

-- Where the chain ends, so that a cut-off tail is noticed.
CREATE TABLE audit_head (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  seq  INTEGER NOT NULL,
  hash TEXT NOT NULL
);
