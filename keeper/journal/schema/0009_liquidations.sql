-- Every liquidation seen on the chain. `state` is included, or orphaned by a reorg; `reason` is ours, or why
-- it was not: late, unseen, or what refused the position at the head before. `tip` is wei above the base
-- fee for the whole transaction; dollars are NULL where a price was not read.

CREATE TABLE liquidations (
    chain TEXT NOT NULL,
    block_hash TEXT NOT NULL,
    log_index INTEGER NOT NULL,
    block_number INTEGER NOT NULL,
    block_time INTEGER NOT NULL,
    seen REAL NOT NULL,
    hash TEXT NOT NULL,
    transaction_index INTEGER NOT NULL,
    market TEXT NOT NULL,
    protocol TEXT NOT NULL,
    borrower TEXT NOT NULL,
    debt TEXT NOT NULL,
    collateral TEXT NOT NULL,
    repaid TEXT NOT NULL,
    seized TEXT NOT NULL,
    repaid_usd TEXT,
    seized_usd TEXT,
    liquidator TEXT NOT NULL,
    sender TEXT NOT NULL,
    called TEXT NOT NULL,
    winner TEXT NOT NULL,
    gas_used INTEGER NOT NULL,
    gas_price TEXT NOT NULL,
    tip TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (chain, block_hash, log_index)
) WITHOUT ROWID;
CREATE INDEX liquidations_time ON liquidations (block_time);
