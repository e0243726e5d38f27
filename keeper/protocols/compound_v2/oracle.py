"""Prices as the comptroller reads them: getUnderlyingPrice of every cToken, at every head."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from keeper.chain.words import address, answers, read, topic, uint
from keeper.errors import InvariantError
from keeper.ports import Pages, Reader
from keeper.protocols.compound_v2.ctoken import CToken
from keeper.protocols.compound_v2.valuation import PRICE_UNIT
from keeper.protocols.compound_v2.words import account, values
from keeper.types import Call, CallResult, Drift, Head, Log, Prices, Undo, Watch
from keeper.units import Address

NEW_PRICE_ORACLE = topic("NewPriceOracle(address,address)")


class CompoundOracle:
    """Read every price of one market each head; `listed` gives its cTokens as they stand."""

    def __init__(
        self,
        market: str,
        comptroller: Address,
        oracle: Address,
        listed: Callable[[], Sequence[CToken]],
    ) -> None:
        self._market = market
        self._comptroller = comptroller
        self._oracle = oracle
        self._listed = listed
        self._asked: tuple[CToken, ...] = ()

    def watch(self) -> Watch:
        """Return the comptroller, which names its oracle."""
        return Watch(frozenset({self._comptroller}), frozenset({NEW_PRICE_ORACLE}))

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Ask for the oracle as of exactly this head."""
        call = read(self._comptroller, "oracle()")
        (found,) = answers(await reader.multicall([call], head.hash), f"oracle of {self._market}")
        self._oracle = address(found)

    def fold(self, log: Log) -> Undo | None:
        """Follow the comptroller to another oracle."""
        if log.address != self._comptroller or log.topics[:1] != (NEW_PRICE_ORACLE,):
            return None
        before, self._oracle = self._oracle, account(values(log, 2)[1])

        def undo() -> None:
            self._oracle = before

        return undo

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare the oracle with the one the comptroller names."""
        del sample, seed
        held = self._oracle
        call = read(self._comptroller, "oracle()")
        (found,) = answers(await reader.multicall([call], head.hash), f"oracle of {self._market}")
        if address(found) == held:
            return []
        name = f"{self._market} price oracle"
        return [Drift(name, int.from_bytes(held, "big"), uint(found))]

    def snapshot(self) -> Pages:
        """Freeze whose prices are read."""
        page = self._comptroller + self._oracle

        def pages() -> Iterator[bytes]:
            yield page

        return pages

    def restore(self, pages: Iterable[bytes]) -> None:
        """Replace the oracle by a snapshot's; raise `InvariantError` when it is of another market."""
        page = b"".join(pages)
        if len(page) != 40 or page[:20] != self._comptroller:
            raise InvariantError(self._market, "the oracle's snapshot is of another comptroller")
        self._oracle = Address(page[20:])

    def calls(self) -> Sequence[Call]:
        """Return the reads of every price."""
        self._asked = tuple(self._listed())
        signature = "getUnderlyingPrice(address)"
        return [read(self._oracle, signature, ctoken.address) for ctoken in self._asked]

    def prices(self, results: Sequence[CallResult], head: Head) -> Prices:
        """Turn the answers to the last `calls` into prices; what failed or is zero is left out.

        Two cTokens of one token have one price, or none where the oracle gives them different ones.
        """
        found: dict[Address, int] = {}
        torn: set[Address] = set()
        for ctoken, result in zip(self._asked, results, strict=True):
            asset = ctoken.underlying.address
            price = uint(result.data) if result.ok and len(result.data) == 32 else 0
            whole = price * int(10**ctoken.underlying.decimals)
            if not price or found.setdefault(asset, whole) != whole:
                torn.add(asset)
        values = {asset: price for asset, price in found.items() if asset not in torn}
        return Prices(self._market, PRICE_UNIT, values, head.hash)
