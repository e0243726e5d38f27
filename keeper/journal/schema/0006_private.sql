-- A private transaction went to relays alone: after a restart too the node must not have it.

ALTER TABLE transactions ADD COLUMN private INTEGER NOT NULL DEFAULT 0;
