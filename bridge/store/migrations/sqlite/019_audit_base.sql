-- Where the chain begins after old entries were removed: the last of those, which the next one refers to.
CREATE TABLE audit_base (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  seq  INTEGER NOT NULL,
  hash TEXT NOT NULL
);
