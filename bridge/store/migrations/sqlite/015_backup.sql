-- The last backup, and the last drill that passed: when, and with which own keys (fingerprints, separated by spaces).
CREATE TABLE backup (
  one     INTEGER PRIMARY KEY CHECK (one = 1),
  created INTEGER NOT NULL DEFAULT 0, -- Unix nanoseconds, as is the other; 0: never
  drilled INTEGER NOT NULL DEFAULT 0,
  keys    TEXT    NOT NULL DEFAULT ''
);
