-- Format 3: keyrings, sealed on their users' devices.

-- The newest revision of each user's keyring. It is replaced by the next revision and by nothing else.
CREATE TABLE keyrings (
    user     INTEGER PRIMARY KEY REFERENCES users (id),
    revision INTEGER NOT NULL,          -- as it stands in the record
    record   BLOB    NOT NULL
) STRICT;
