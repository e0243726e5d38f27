"""The coin's price as the system reads it: PriceFeed.fetchPrice at every head.

The feed refuses an answer that is more than a minute old: then the price is absent.
"""

from collections.abc import Iterable, Iterator, Sequence

from keeper.errors import InvariantError
from keeper.ports import Pages, Reader
from keeper.protocols.liquity_v1.words import read, uint
from keeper.types import Call, CallResult, Drift, Head, Log, Prices, Undo, Watch
from keeper.units import WAD, Address


class LiquityFeed:
    """One price, in dollars with 18 decimals; the system's own token is worth one."""

    def __init__(self, market: str, feed: Address, coin: Address, debt: Address) -> None:
        self._market = market
        self._feed = feed
        self._coin = coin
        self._debt = debt

    def calls(self) -> Sequence[Call]:
        """Return the read of the price."""
        return (read(self._feed, "fetchPrice()"),)

    def prices(self, results: Sequence[CallResult], head: Head) -> Prices:
        """Return both prices, the coin's left out when the feed gives none."""
        values = {self._debt: WAD}
        (answer,) = results
        if answer.ok and len(answer.data) == 32 and (price := uint(answer.data)):
            values[self._coin] = price
        return Prices(self._market, WAD, values, head.hash)

    def watch(self) -> Watch:
        """Return nothing: the price is read at every head, whatever it comes from."""
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
