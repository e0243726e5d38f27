"""The seam to whatever carries messages."""

from collections.abc import Sequence
from typing import Protocol

from keeper.errors import KeeperError, TransientError
from keeper.notify.note import Note


class RefusedError(KeeperError):
    """Report that a channel answers and does not take these messages, for what or how long they are.

    `is_final` says that it never will; otherwise the channel itself may be wrong.
    """

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class LaterError(TransientError):
    """Report that a channel wants nothing for some seconds; `is_tried` says whether it was asked."""

    def __init__(self, message: str, seconds: float, *, is_tried: bool = True) -> None:
        super().__init__(message)
        self.seconds = seconds
        self.is_tried = is_tried


class Channel(Protocol):
    """One way to reach somebody."""

    name: str
    most: int
    """Messages it takes at once."""

    def fitting(self, notes: Sequence[Note]) -> int:
        """Return how many of these, from the first on, it takes at once; one at least."""
        ...

    async def send(self, notes: Sequence[Note]) -> None:
        """Hand messages over, all or none; raise `TransientError` when they did not arrive.

        Raises `RefusedError` when they were not taken and others may be. What an error says names no
        secret. Messages whose fate is not known are sent again: each
        carries its key, by which a receiver knows it.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
