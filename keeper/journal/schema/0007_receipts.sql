-- What a rollup charged beside the gas, in wei, and the relays that held what was included, joined by
-- commas: of several nobody can tell which had it included.

ALTER TABLE receipts ADD COLUMN data_fee TEXT NOT NULL DEFAULT '0';
ALTER TABLE receipts ADD COLUMN relays TEXT NOT NULL DEFAULT '';
