-- The SHA-256 of the stored bytes that a message was opened from: what opens from others is another message.
ALTER TABLE content ADD COLUMN stored_hash BLOB NOT NULL DEFAULT x'';

-- The mirror is a copy: what was opened before is opened again.
UPDATE message SET content = NULL;
DELETE FROM chunk;
DELETE FROM content;
