"""Prices of a Morpho deployment: each market's own oracle, and tokens in dollars.

A market's oracle says what its collateral is worth in its loan token, scaled by 1e36; that alone
decides who is liquidatable. What a loan token is worth in dollars decides what a liquidation earns:
it is read from an oracle with Aave's interface, or from a feed with Chainlink's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keeper.chain.tokens import name_tokens
from keeper.chain.words import WORD, address, answered, read, uint
from keeper.errors import ConfigError, InvariantError
from keeper.ports import Pages, PriceSource, Reader
from keeper.protocols.morpho_blue.early import Early
from keeper.protocols.morpho_blue.fixed import PRICE_SCALE
from keeper.protocols.morpho_blue.ledger import Pool
from keeper.protocols.morpho_blue.pauses import Pauses
from keeper.protocols.morpho_blue.valuation import oracle_key
from keeper.types import Call, CallResult, Drift, Head, Log, Prices, Undo, Watch
from keeper.units import USD, ZERO_ADDRESS, Address, Hash

_SIGN = 1 << 255


@dataclass(frozen=True, slots=True)
class Dollars:
    """Where dollars come from: `oracle` answers `getAssetPrice`, a feed `latestAnswer`, scaled."""

    oracle: Address | None = None
    feeds: Mapping[Address, Address] | None = None
    unit: int = 0
    scales: Mapping[Address, int] | None = None

    def call(self, token: Address) -> Call | None:
        """Return the read of a token's price, None when nothing tells it."""
        feed = (self.feeds or {}).get(token)
        if feed is not None:
            return read(feed, "latestAnswer()")
        return None if self.oracle is None else read(self.oracle, "getAssetPrice(address)", token)

    def unit_of(self, token: Address) -> int:
        """Return the answer that is a dollar."""
        return (self.scales or {}).get(token) or self.unit or USD

    def price_down(self, token: Address, data: bytes) -> int:
        """Return a price in dollars of 8 decimals, 0 for one that is none."""
        value = uint(data)
        if value >= _SIGN:
            return 0
        return value * USD // self.unit_of(token)


class MorphoOracle:
    """Read every price of one deployment at each head.

    `last` is what each market's oracle said when it was last readable: good for telling who is far
    from the threshold, and for nothing else.
    """

    def __init__(
        self,
        market: str,
        places: Callable[[], Sequence[tuple[Pool, Early | None]]],
        sources: Dollars,
    ) -> None:
        self._market = market
        self._places = places
        self._sources = sources
        self._asked: tuple[tuple[Address, ...], tuple[Address, ...]] = ((), ())
        self._pauses = Pauses()
        self.last: dict[Address, int] = {}

    def watch(self) -> Watch:
        """Watch nothing: prices are read."""
        return Watch(frozenset(), frozenset())

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Read what prices are scaled by; raise `ConfigError` for what is no oracle or feed."""
        oracle, feeds = self._sources.oracle, dict(self._sources.feeds or {})
        unit = 0
        if oracle is not None:
            (found,) = await reader.multicall([read(oracle, "BASE_CURRENCY_UNIT()")], head.hash)
            unit = uint(found.data) if answered(found) else 0
            if not unit:
                raise ConfigError(
                    f"market {self._market}: prices 0x{oracle.hex()} has no BASE_CURRENCY_UNIT",
                    "name an oracle with Aave's interface, or feeds",
                )
        results = await reader.multicall(
            [read(feed, "decimals()") for feed in feeds.values()], head.hash
        )
        scales: dict[Address, int] = {}
        for (token, feed), result in zip(feeds.items(), results, strict=True):
            if not answered(result) or uint(result.data) > 77:
                raise ConfigError(
                    f"market {self._market}: feed 0x{feed.hex()} has no decimals",
                    "name a feed with Chainlink's interface",
                )
            scales[token] = 10 ** uint(result.data)
        self._sources = Dollars(oracle, feeds, unit, scales)
        self._pauses = Pauses()

    async def sources(
        self, reader: Reader, head: Head, morpho: Address, ids: Sequence[Hash]
    ) -> list[PriceSource]:
        """Return where dollars come from, and the oracles of some markets."""
        await self.bootstrap(reader, head)
        calls = [read(morpho, "idToMarketParams(bytes32)", each) for each in ids]
        results = await reader.multicall(calls, head.hash)
        places = [
            [address(result.data, at) for at in range(3)]
            for result in results
            if answered(result, 5)
        ]
        named = dict.fromkeys([*(self._sources.feeds or {}), *(t for p in places for t in p[:2])])
        tokens = await name_tokens(reader, named, head)
        found = [
            PriceSource(token, call, self._sources.unit_of(asset), call.target)
            for asset, token in tokens.items()
            if (call := self._sources.call(asset)) is not None
        ]
        for loan, collateral, oracle in places:
            held, owed = tokens.get(collateral), tokens.get(loan)
            if oracle != ZERO_ADDRESS and held is not None and owed is not None:
                unit = PRICE_SCALE * 10**owed.decimals // 10**held.decimals
                found.append(PriceSource(held, read(oracle, "price()"), unit, oracle, owed))
        return found

    def fold(self, log: Log) -> Undo | None:
        """Apply nothing."""
        del log
        return None

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare nothing: no price outlives its head."""
        del reader, head, sample, seed
        return []

    def snapshot(self) -> Pages:
        """Return what scales dollars."""
        scales = self._sources.scales or {}
        entries = [(b"\0" * 20, self._sources.unit), *scales.items()]
        page = b"".join(token + scale.to_bytes(WORD, "big") for token, scale in entries)

        def pages() -> Iterator[bytes]:
            yield page

        return pages

    def restore(self, pages: Iterable[bytes]) -> None:
        """Take up what scales dollars; raise `InvariantError` for another page."""
        page, size = b"".join(pages), 20 + WORD
        entries = [page[at : at + size] for at in range(0, len(page), size)]
        feeds = self._sources.feeds or {}
        found = {Address(each[:20]): uint(each[20:]) for each in entries}
        unit = found.pop(Address(bytes(20)), None)
        if unit is None or len(page) % size or found.keys() != feeds.keys():
            raise InvariantError(self._market, "the snapshot's prices cannot be read")
        self._sources = Dollars(self._sources.oracle, feeds, unit, found)
        self._pauses = Pauses()

    def calls(self) -> Sequence[Call]:
        """Return the dollars of every market's tokens, then the oracles of markets with debt.

        An oracle that burns all gas takes those behind it along: what fails is asked less and less.
        """
        found = [each for each in self._places() if each[0].debtors]
        tokens = {pool.terms.loan: None for pool, _ in found}
        tokens |= {pool.terms.collateral: None for pool, _ in found}
        asked = [
            (token, call)
            for token in tokens
            if self._pauses.is_due(token) and (call := self._sources.call(token)) is not None
        ]
        oracles = [
            (key, read(place.terms.oracle, "price()"))
            for pool, early in found
            if self._pauses.is_due(key := oracle_key(place := early or pool))
        ]
        self._asked = tuple(token for token, _ in asked), tuple(key for key, _ in oracles)
        return [call for _, call in (*asked, *oracles)]

    def prices(self, results: Sequence[CallResult], head: Head) -> Prices:
        """Turn the answers to the last `calls` into prices; what failed or is zero is left out."""
        tokens, keys = self._asked
        values: dict[Address, int] = {}
        for token, result in zip(tokens, results[: len(tokens)], strict=True):
            price = self._sources.price_down(token, result.data) if answered(result) else 0
            if self._pauses.noted(token, is_told=bool(price)):
                values[token] = price
        for key, result in zip(keys, results[len(tokens) :], strict=True):
            price = uint(result.data) if answered(result) else 0
            if self._pauses.noted(key, is_told=bool(price)):
                values[key] = self.last[key] = price
        self._pauses.pass_head()
        return Prices(self._market, USD, values, head.hash)
