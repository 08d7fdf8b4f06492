-- Answers are looked up whichever account they are sent from.
CREATE INDEX encrypted_message_id ON encrypted_message (message_id);

-- The client asked for SMTPUTF8 (RFC 6531).
ALTER TABLE outbox ADD COLUMN utf8 INTEGER NOT NULL DEFAULT 0;
