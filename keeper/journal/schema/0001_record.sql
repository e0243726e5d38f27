-- Amounts (wei, token units, dollars with 8 decimals) are decimal TEXT: INTEGER ends at 9.22 ether.
-- Times are seconds since the epoch. Addresses and hashes are lower-case 0x text.

CREATE TABLE opportunities (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    chain TEXT NOT NULL,
    head INTEGER NOT NULL,
    market TEXT NOT NULL,
    protocol TEXT NOT NULL,
    borrower TEXT NOT NULL,
    strategy TEXT NOT NULL,
    cause TEXT NOT NULL,
    health TEXT NOT NULL,
    collateral_value TEXT NOT NULL,
    debt_value TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX opportunities_borrower ON opportunities (borrower, id);
CREATE INDEX opportunities_time ON opportunities (time);

CREATE TABLE skips (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    chain TEXT NOT NULL,
    head INTEGER NOT NULL,
    market TEXT NOT NULL,
    protocol TEXT NOT NULL,
    borrower TEXT NOT NULL,
    strategy TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX skips_borrower ON skips (borrower, id);
CREATE INDEX skips_time ON skips (time);

CREATE TABLE plans (
    id TEXT PRIMARY KEY,
    time REAL NOT NULL,
    chain TEXT NOT NULL,
    head INTEGER NOT NULL,
    contract TEXT NOT NULL,
    gas_limit INTEGER NOT NULL,
    gas INTEGER NOT NULL,
    gas_cost TEXT NOT NULL,
    gross_usd TEXT NOT NULL,
    net_usd TEXT NOT NULL,
    repaid_usd TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX plans_time ON plans (time);

CREATE TABLE items (
    plan TEXT NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    market TEXT NOT NULL,
    protocol TEXT NOT NULL,
    borrower TEXT NOT NULL,
    strategy TEXT NOT NULL,
    debt TEXT NOT NULL,
    repaid TEXT NOT NULL,
    proceeds TEXT NOT NULL,
    premium TEXT NOT NULL,
    net TEXT NOT NULL,
    net_usd TEXT NOT NULL,
    outcome TEXT NOT NULL DEFAULT 'planned',
    gain TEXT,
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (plan, position)
) WITHOUT ROWID;
CREATE INDEX items_borrower ON items (borrower);

CREATE TABLE transactions (
    hash TEXT PRIMARY KEY,
    plan TEXT NOT NULL REFERENCES plans (id),
    chain TEXT NOT NULL,
    sender TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    raw BLOB NOT NULL,
    state TEXT NOT NULL,
    error TEXT NOT NULL DEFAULT '',
    signed REAL NOT NULL,
    sent REAL,
    settled REAL
);
CREATE INDEX transactions_plan ON transactions (plan);
CREATE INDEX transactions_open ON transactions (chain, nonce) WHERE settled IS NULL;

CREATE TABLE receipts (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    plan TEXT NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    hash TEXT,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    replaced_by TEXT,
    block_number INTEGER,
    block_hash TEXT,
    block_time INTEGER,
    gas_used INTEGER,
    gas_price TEXT,
    gas_cost_usd TEXT,
    revenue_usd TEXT,
    tip_usd TEXT,
    net_usd TEXT,
    gains TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX receipts_plan ON receipts (plan);
CREATE INDEX receipts_time ON receipts (time);
