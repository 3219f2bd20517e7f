-- Format 4: sharing a channel with other users of the table.

-- Who each user is to others, as the user's devices say.
CREATE TABLE identities (
    user   INTEGER PRIMARY KEY REFERENCES users (id),
    record BLOB    NOT NULL
) STRICT;

-- Who else is let into a channel. A guest goes with the channel.
CREATE TABLE guests (
    owner      INTEGER NOT NULL,
    channel    TEXT    NOT NULL,
    guest      INTEGER NOT NULL REFERENCES users (id),
    permission INTEGER NOT NULL,      -- 0 read, 1 write
    admin      INTEGER NOT NULL,      -- whether the guest may let others in
    share      INTEGER NOT NULL,      -- the owner's epoch in which it began, or was last narrowed
    keys       BLOB    NOT NULL,      -- the channel's keys, sealed for the guest; empty for a plain channel
    PRIMARY KEY (owner, channel, guest),
    FOREIGN KEY (owner, channel) REFERENCES channels (user, name) ON DELETE CASCADE
) STRICT;
CREATE INDEX guests_by_guest ON guests (guest);

-- Calls that stores are owed: this session has ended for this user's data, or for one channel of it.
CREATE TABLE owed (
    id               INTEGER PRIMARY KEY,
    user             INTEGER NOT NULL REFERENCES users (id),
    store            BLOB    NOT NULL,
    url              TEXT    NOT NULL,
    session          BLOB    NOT NULL,
    channel          TEXT    NOT NULL,           -- empty for all of them
    before           INTEGER NOT NULL,           -- in a channel, what was shared before this epoch of the user
    until            INTEGER NOT NULL,           -- no token of the session lives longer at the store
    attempts         INTEGER NOT NULL DEFAULT 0,
    next_at_millis   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user, store, url, session, channel)
) STRICT;
INSERT INTO owed SELECT id, user, store, url, session, '', 0, until, attempts, next_at_millis FROM revocations;
DROP TABLE revocations;
ALTER TABLE owed RENAME TO revocations;
CREATE INDEX revocations_by_store ON revocations (store, next_at_millis);
