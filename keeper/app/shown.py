"""A tape's book as the engines of all variants see it: one view of each head, whoever looks first."""

from collections.abc import Sequence

from keeper.app.taped import Taped
from keeper.book.book import Reads
from keeper.types import CallResult, Head, NextBlock, Skip, View


class ShownBook:
    """Show what the tape's book has come to; nothing an engine does here changes it."""

    def __init__(self, taped: Taped) -> None:
        self._taped = taped
        self._view: tuple[View, list[Skip]] | None = None
        self._is_judged = False

    @property
    def head(self) -> Head | None:
        """Return the head the tape has come to."""
        return self._taped.book.head

    def turn(self) -> None:
        """Go on to the next answers on the tape."""
        self._view, self._is_judged = None, False

    def reads(self) -> Reads:
        """Return what the book wanted to read at this head."""
        return self._taped.wanted

    def observe(
        self,
        reads: Reads,
        results: Sequence[CallResult],
        head: Head,
        at: NextBlock | None = None,
    ) -> None:
        """Do nothing: the book heard the tape's answers once already."""

    async def view(self, next_block: NextBlock, deadline_ms: int) -> tuple[View, list[Skip]] | None:
        """Return the same view of a head to all; the same as `Book.view` to the first who asks."""
        if not self._is_judged:
            self._view = await self._taped.book.view(next_block, deadline_ms)
            self._is_judged = True
        return self._view

    async def let_go(self) -> None:
        """Do nothing: a replay's loop has nothing else to answer."""
