-- Several transactions may stand on one nonce: a replacement has its own fees, a cancel no calls.
-- `final` is set once no reorg is expected to take the settlement back.

ALTER TABLE transactions ADD COLUMN max_fee TEXT;
ALTER TABLE transactions ADD COLUMN priority_fee TEXT;
ALTER TABLE transactions ADD COLUMN cancels INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transactions ADD COLUMN final INTEGER NOT NULL DEFAULT 0;
UPDATE transactions SET final = 1 WHERE settled IS NOT NULL;
CREATE INDEX transactions_unfinal ON transactions (chain, sender, nonce) WHERE final = 0;
