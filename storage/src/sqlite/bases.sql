-- Format 2: logs have bases. What format 1 holds stays as it is.
ALTER TABLE logs ADD COLUMN base_generation INTEGER; -- null where there is no base, as are the sha and the digest
ALTER TABLE logs ADD COLUMN base_sha BLOB;
ALTER TABLE logs ADD COLUMN base_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE logs ADD COLUMN covered_count INTEGER NOT NULL DEFAULT 0; -- the digest of what is known to be covered
ALTER TABLE logs ADD COLUMN covered_xor BLOB;
ALTER TABLE logs ADD COLUMN complete INTEGER NOT NULL DEFAULT 0; -- 1 where that is all that the base covers
ALTER TABLE logs ADD COLUMN disputed INTEGER NOT NULL DEFAULT 0; -- 1 where it is
ALTER TABLE logs ADD COLUMN retained_bytes INTEGER NOT NULL DEFAULT 0;

-- Those that logs stand on, and those that they stood on before and that are retained.
CREATE TABLE bases (
    id INTEGER PRIMARY KEY,
    log INTEGER NOT NULL REFERENCES logs (id),
    generation INTEGER NOT NULL,
    sha BLOB NOT NULL,
    since INTEGER, -- microseconds: when it was superseded; null in the log's own
    certificate TEXT NOT NULL,
    record BLOB NOT NULL,
    UNIQUE (log, generation, sha)
) STRICT;

CREATE INDEX bases_by_since ON bases (since, log, generation, sha) WHERE since IS NOT NULL;

CREATE TABLE covered (
    log INTEGER NOT NULL REFERENCES logs (id),
    sha BLOB NOT NULL,
    PRIMARY KEY (log, sha)
) WITHOUT ROWID, STRICT;

-- Covered operations that are kept for a while.
CREATE TABLE retained (
    id INTEGER PRIMARY KEY,
    log INTEGER NOT NULL REFERENCES logs (id),
    idx INTEGER NOT NULL,
    generation INTEGER NOT NULL, -- of the base that covered it first
    since INTEGER NOT NULL, -- microseconds: when that was
    sha BLOB NOT NULL,
    record BLOB NOT NULL,
    UNIQUE (log, idx)
) STRICT;

CREATE INDEX retained_by_since ON retained (since, log, idx);
