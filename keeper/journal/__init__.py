"""The durable record of decisions and money, in SQLite under the keeper's home."""
