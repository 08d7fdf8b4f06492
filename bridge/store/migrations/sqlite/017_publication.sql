-- Where the user has asked to publish certificates, and how that stands (bridge/publication.go). Times are Unix
-- nanoseconds, 0 is never.
CREATE TABLE publication (
    account     TEXT    NOT NULL,
    address     TEXT    NOT NULL,            -- that the certificate is published for
    place       TEXT    NOT NULL,            -- wks, vks
    fingerprint TEXT    NOT NULL,
    state       TEXT    NOT NULL,            -- requested, confirmed, published, failed
    reason      TEXT    NOT NULL,
    changed     INTEGER NOT NULL,            -- when it came into this state
    next        INTEGER NOT NULL,            -- when to try or to look again
    attempts    INTEGER NOT NULL,            -- since then
    digest      BLOB    NOT NULL,            -- SHA-256 of the certificate as last handed over
    wanted      INTEGER NOT NULL,            -- the user asked and it was not handed over yet: a mail with a link may be caused
    service     TEXT    NOT NULL DEFAULT '', -- wks: the submission address that was asked
    certificate BLOB    NOT NULL DEFAULT x'', -- wks: its certificate then
    validity    INTEGER NOT NULL DEFAULT 0,  -- wks: the INBOX before it was asked
    next_uid    INTEGER NOT NULL DEFAULT 0,
    nonces      TEXT    NOT NULL DEFAULT '', -- wks: that were answered, separated by spaces
    PRIMARY KEY (account, address, place)
) WITHOUT ROWID;
