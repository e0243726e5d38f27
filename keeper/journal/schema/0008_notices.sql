-- What people are told. `notices` is the outbox: a row for each channel, until `delivered` or `given_up`
-- is set; `key` is the same however often one change is told of, so that it is told once. `due` is when
-- it is to be sent, or tried again.

CREATE TABLE notices (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    key TEXT NOT NULL,
    time REAL NOT NULL,
    due REAL NOT NULL,
    record TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    delivered REAL,
    given_up REAL
);
CREATE UNIQUE INDEX notices_key ON notices (channel, key);
CREATE INDEX notices_open ON notices (id) WHERE delivered IS NULL AND given_up IS NULL;

-- How each watched position stands: the level told last, how often it changed, since when it is better
-- than that, who acknowledged until when, and what was told of it last as JSON.

CREATE TABLE margin_standings (
    chain TEXT NOT NULL,
    watch TEXT NOT NULL,
    market TEXT NOT NULL,
    borrower TEXT NOT NULL,
    level TEXT NOT NULL,
    changes INTEGER NOT NULL,
    since REAL NOT NULL,
    better_since REAL,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    reminded INTEGER NOT NULL DEFAULT 0,
    record TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (chain, watch, market, borrower)
);

-- Prices as the keeper saw them, for volatilities that outlive a restart: JSON of asset to price.

CREATE TABLE price_samples (
    chain TEXT NOT NULL,
    market TEXT NOT NULL,
    time REAL NOT NULL,
    prices TEXT NOT NULL,
    PRIMARY KEY (chain, market, time)
);

-- Up to which block liquidations of watched positions were looked for.

CREATE TABLE margin_heads (
    chain TEXT NOT NULL,
    market TEXT NOT NULL,
    block_number INTEGER NOT NULL,
    PRIMARY KEY (chain, market)
);
