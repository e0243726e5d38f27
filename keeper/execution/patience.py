"""How long a node that tells less than before may merely lag behind another."""

from dataclasses import dataclass

HEADS = 2
"""Heads on which it may: nodes index receipts after the state, and pools of nodes differ by a block."""

SECONDS = 4
"""Seconds of block time it may at least, where heads follow each other faster than nodes do."""


@dataclass(slots=True)
class Patience:
    """Heads in a row on which something was missing, and when the first of them was made."""

    heads: int = 0
    since: int = 0

    def wait(self, timestamp: int) -> None:
        """Count one more head, of this time."""
        self.since = self.since if self.heads else timestamp
        self.heads += 1

    def is_over(self, timestamp: int) -> bool:
        """Whether it was missing for longer than a lag explains."""
        return self.heads > HEADS and timestamp - self.since >= SECONDS

    def reset(self) -> None:
        """Start over: it was there."""
        self.heads = 0
