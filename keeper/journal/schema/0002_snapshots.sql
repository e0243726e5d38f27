-- A snapshot counts from the moment its checksum is set, in the last of its transactions: before
-- that it is torn. A page's checksum covers what it is of and the bytes as they are stored.

CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    chain TEXT NOT NULL,
    head INTEGER NOT NULL,
    head_record TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    pages INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    checksum BLOB
);
CREATE INDEX snapshots_chain ON snapshots (chain, head);

CREATE TABLE snapshot_pages (
    snapshot INTEGER NOT NULL REFERENCES snapshots (id),
    source TEXT NOT NULL,
    page INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    encoding TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX snapshot_pages_place ON snapshot_pages (snapshot, source, page);
