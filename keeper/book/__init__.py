"""Every position of one chain: exact ledgers folded from logs, screened in columns."""
