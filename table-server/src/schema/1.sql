-- Format 1 of a table's database. Times are seconds since 1970 unless a name says milliseconds.

-- What the table is, made once.
CREATE TABLE identity (
    one               INTEGER PRIMARY KEY CHECK (one = 1),
    table_id          TEXT    NOT NULL, -- the `iss` of its tokens
    signing_key       BLOB    NOT NULL, -- Ed25519, PKCS#8
    decoy_secret      BLOB    NOT NULL, -- what unknown users' salts are made from
    token_seconds_max INTEGER NOT NULL  -- the longest life that was ever set for store tokens
) STRICT;

CREATE TABLE users (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    salt       BLOB    NOT NULL,
    memory_kib INTEGER NOT NULL,
    passes     INTEGER NOT NULL,
    verifier   BLOB    NOT NULL,          -- SHA-256 of the master
    epoch      INTEGER NOT NULL DEFAULT 0 -- grows by one with each change of the mount table
) STRICT;

CREATE TABLE sessions (
    number      INTEGER PRIMARY KEY,  -- order of creation
    id          BLOB    NOT NULL UNIQUE,
    user        INTEGER NOT NULL REFERENCES users (id),
    verifier    BLOB    NOT NULL,     -- SHA-256 of the secret half of the token
    description TEXT    NOT NULL,
    created     INTEGER NOT NULL,
    expires     INTEGER NOT NULL,
    revoked     INTEGER               -- when, if it was
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user, expires);

CREATE TABLE channels (
    user  INTEGER NOT NULL REFERENCES users (id),
    name  TEXT    NOT NULL,
    epoch INTEGER NOT NULL,           -- the user's epoch when the set of stores last changed
    PRIMARY KEY (user, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE mounts (
    user    INTEGER NOT NULL,
    channel TEXT    NOT NULL,
    store   BLOB    NOT NULL,
    url     TEXT    NOT NULL,
    PRIMARY KEY (user, channel, store),
    FOREIGN KEY (user, channel) REFERENCES channels (user, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Calls that stores are owed: this session of this user has ended.
CREATE TABLE revocations (
    id               INTEGER PRIMARY KEY,
    user             INTEGER NOT NULL REFERENCES users (id),
    store            BLOB    NOT NULL,
    url              TEXT    NOT NULL,
    session          BLOB    NOT NULL,
    until            INTEGER NOT NULL,           -- no token of the session lives longer at the store
    attempts         INTEGER NOT NULL DEFAULT 0,
    next_at_millis   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user, store, url, session)
) STRICT;
CREATE INDEX revocations_by_store ON revocations (store, next_at_millis);
