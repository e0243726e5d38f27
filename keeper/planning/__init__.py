"""From opportunities to transactions: routing, sizing, funding, batching, encoding; all pure."""
