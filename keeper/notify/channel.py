"""The seam to whatever carries messages."""

from collections.abc import Sequence
from typing import Protocol

from keeper.notify.note import Note


class Channel(Protocol):
    """One way to reach somebody."""

    name: str
    most: int
    """Messages it takes at once."""

    async def send(self, notes: Sequence[Note]) -> None:
        """Hand messages over, all or none; raise `TransientError` when they did not arrive.

        What the error says names no secret. Messages whose fate is not known are sent again: each
        carries its key, by which a receiver knows it.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
