-- What a rollup charged beside the gas, in wei. The relay that held what was included or given up,
-- several joined by '+', as nobody can tell which of them had it included; empty is the public pool.
-- `lost` is a plan that lost its purpose while relays held it, NULL of every other.

ALTER TABLE receipts ADD COLUMN data_fee TEXT NOT NULL DEFAULT '0';
ALTER TABLE receipts ADD COLUMN relay TEXT NOT NULL DEFAULT '';
ALTER TABLE plans ADD COLUMN lost TEXT;
