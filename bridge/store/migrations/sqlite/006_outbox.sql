-- Messages that still have to reach somebody (package outbox). The queue's own tables
-- (river_*) are made by the queue library.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account    TEXT    NOT NULL,
    message_id TEXT    NOT NULL,
    sender     TEXT    NOT NULL,
    recipients TEXT    NOT NULL,            -- a JSON array
    size       INTEGER NOT NULL,            -- of the body, in bytes
    queued     INTEGER NOT NULL,            -- times are unix nanoseconds
    next_try   INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    last_error TEXT    NOT NULL DEFAULT '',
    given_up   INTEGER NOT NULL DEFAULT 0,  -- 1: only the bounce is left to do
    delivered  INTEGER NOT NULL DEFAULT 0,  -- 1: the provider has it, only the row is left to remove
    job        INTEGER NOT NULL DEFAULT 0   -- the queue's job that may work on it; others are stale
);

CREATE TABLE outbox_body (
    message INTEGER NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    chunk   INTEGER NOT NULL,               -- all but the last have 256 KiB
    data    BLOB    NOT NULL,
    PRIMARY KEY (message, chunk)
) WITHOUT ROWID;
