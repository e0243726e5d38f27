"""The collateral's price at an aggregator, read at every head; the stablecoin is worth a dollar."""

from collections.abc import Iterable, Iterator, Sequence

from keeper.errors import InvariantError
from keeper.ports import Pages, Reader
from keeper.protocols.maker_clip.words import read, uint
from keeper.types import Call, CallResult, Drift, Head, Log, Prices, Undo, Watch
from keeper.units import WAD, Address

_TO_WAD = 10**10


class ClipFeed:
    """One price of 8 decimals, told in dollars of 18."""

    def __init__(self, market: str, feed: Address, collateral: Address, debt: Address) -> None:
        self._market = market
        self._feed = feed
        self._collateral = collateral
        self._debt = debt

    def calls(self) -> Sequence[Call]:
        """Return the read of the price."""
        return (read(self._feed, "latestAnswer()"),)

    def prices(self, results: Sequence[CallResult], head: Head) -> Prices:
        """Return both prices, the collateral's left out when it was not read."""
        values = {self._debt: WAD}
        (answer,) = results
        if answer.ok and len(answer.data) == 32 and 0 < (price := uint(answer.data)) < 1 << 255:
            values[self._collateral] = price * _TO_WAD
        return Prices(self._market, WAD, values, head.hash)

    def watch(self) -> Watch:
        """Return nothing: the price is read at every head."""
        return Watch(frozenset(), frozenset())

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Do nothing: there is no state."""

    def fold(self, _log: Log) -> Undo | None:
        """Return None: no log changes anything."""
        return None

    async def audit(self, _reader: Reader, _head: Head, _sample: int, _seed: int) -> list[Drift]:
        """Return nothing: there is nothing to drift."""
        return []

    def snapshot(self) -> Pages:
        """Freeze whose price it is."""

        def pages() -> Iterator[bytes]:
            yield self._feed

        return pages

    def restore(self, pages: Iterable[bytes]) -> None:
        """Raise `InvariantError` when a snapshot was of another feed."""
        if b"".join(pages) != self._feed:
            raise InvariantError(self._market, "the snapshot is of another price feed")
