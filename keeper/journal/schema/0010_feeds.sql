-- What was learned of each feed, as JSON; `looked` is the chain's time when it was looked at last.

CREATE TABLE feeds (
    chain TEXT NOT NULL,
    market TEXT NOT NULL,
    asset TEXT NOT NULL,
    looked INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (chain, market, asset)
) WITHOUT ROWID;
