-- Format 1, which `bases.sql` takes further. The order of every key is that of its bytes.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE channels (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    channel TEXT NOT NULL,
    position INTEGER NOT NULL, -- of the newest arrival
    UNIQUE (user, channel)
) STRICT;

CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL REFERENCES channels (id),
    type TEXT NOT NULL,
    path TEXT NOT NULL,
    last_index INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    count INTEGER NOT NULL, -- the digest
    xor BLOB NOT NULL,
    max_date INTEGER NOT NULL, -- microseconds
    stamped INTEGER NOT NULL,
    heads BLOB NOT NULL, -- shas, one after the other, newest last
    UNIQUE (channel, type, path)
) STRICT;

CREATE TABLE ops (
    id INTEGER PRIMARY KEY,
    log INTEGER NOT NULL REFERENCES logs (id),
    idx INTEGER NOT NULL, -- 1, 2, 3... in order of arrival
    channel INTEGER NOT NULL,
    position INTEGER NOT NULL, -- in the channel's feed
    sha BLOB NOT NULL,
    record BLOB NOT NULL,
    UNIQUE (log, idx),
    UNIQUE (log, sha),
    UNIQUE (channel, position)
) STRICT;

CREATE TABLE users (
    user TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL -- of records
) WITHOUT ROWID, STRICT;

CREATE TABLE notes (
    key BLOB PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID, STRICT;
