-- Ranges of settled blocks whose logs a long scan has read, and the keys they named, joined in one
-- blob. Deleted once the state they were read for is loaded.

CREATE TABLE scans (
    id INTEGER PRIMARY KEY,
    chain_id INTEGER NOT NULL,
    stage TEXT NOT NULL,
    identity BLOB NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    anchor INTEGER NOT NULL,
    anchor_hash BLOB NOT NULL,
    keys BLOB NOT NULL,
    width INTEGER NOT NULL
);
CREATE INDEX scans_stage ON scans (chain_id, stage);
