-- What the user has decided about a contact: compared the pinned certificate over another channel, when; wants no
-- mail to go there.
ALTER TABLE contact ADD COLUMN verified INTEGER NOT NULL DEFAULT 0; -- Unix nanoseconds; 0: never, or not this certificate
ALTER TABLE contact ADD COLUMN blocked  INTEGER NOT NULL DEFAULT 0;
