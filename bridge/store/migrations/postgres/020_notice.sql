-- What the sender of a relayed message wants to hear of its fate (RFC 3461): JSON.
ALTER TABLE outbox ADD COLUMN notice TEXT NOT NULL DEFAULT '{}';
