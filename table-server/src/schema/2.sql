-- Format 2: what pruning needs. Stores that were mounted before have no key until they are mounted again with a code.

-- The keys of the stores that a user has mounted. A store id keeps its key for as long as it is mounted anywhere.
CREATE TABLE store_keys (
    user  INTEGER NOT NULL REFERENCES users (id),
    store BLOB    NOT NULL,
    key   BLOB    NOT NULL,           -- Ed25519, 32 bytes
    PRIMARY KEY (user, store)
) STRICT, WITHOUT ROWID;

-- Whether the store has agreed to take no more writes for the channel.
ALTER TABLE mounts ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;

-- Each log's committed checkpoint.
CREATE TABLE registers (
    user        INTEGER NOT NULL,
    channel     TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    sha         BLOB    NOT NULL,
    certificate TEXT    NOT NULL,     -- as it was signed when the register moved here
    committed   INTEGER NOT NULL,     -- when that was
    PRIMARY KEY (user, channel, type, path),
    FOREIGN KEY (user, channel) REFERENCES channels (user, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
