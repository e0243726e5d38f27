"""One price read at every head beside a token that is worth a dollar; nothing is kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from keeper.chain.words import WORD, uint
from keeper.errors import InvariantError
from keeper.ports import Pages, Reader
from keeper.types import Call, CallResult, Drift, Head, Log, Prices, Undo, Watch
from keeper.units import WAD, Address


class LoneFeed:
    """Dollars with 18 decimals of one asset, and of a token that stands for one of them.

    `worth` turns the word that the call answers with into them; 0 is no price, and leaves it out.
    """

    def __init__(
        self, market: str, call: Call, worth: Callable[[int], int], asset: Address, dollar: Address
    ) -> None:
        self._market = market
        self._call = call
        self._worth = worth
        self._asset = asset
        self._dollar = dollar

    def calls(self) -> Sequence[Call]:
        """Return the read of the price."""
        return (self._call,)

    def prices(self, results: Sequence[CallResult], head: Head) -> Prices:
        """Return both prices, the asset's left out when it was not read."""
        values = {self._dollar: WAD}
        (answer,) = results
        if answer.ok and len(answer.data) == WORD and (price := self._worth(uint(answer.data))):
            values[self._asset] = price
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
            yield self._call.target

        return pages

    def restore(self, pages: Iterable[bytes]) -> None:
        """Raise `InvariantError` when a snapshot was of another feed."""
        if b"".join(pages) != self._call.target:
            raise InvariantError(self._market, "the snapshot is of another price feed")
