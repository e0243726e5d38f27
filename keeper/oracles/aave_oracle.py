"""Prices as an Aave market reads them: AaveOracle.getAssetPrice of every reserve, at every head.

A source need not emit anything: a ratio, a cap, a decaying or a fixed price is read like any other.
Events only tell which contracts to ask next.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from keeper.chain.tokens import name_tokens
from keeper.chain.words import read, topic
from keeper.errors import ConfigError, InvariantError, TransientError
from keeper.ports import Pages, PriceSource, Reader
from keeper.types import Call, CallResult, Drift, Head, Log, Prices, Undo, Watch
from keeper.units import ZERO_ADDRESS, Address, Hash

PROBE_EVERY = 256
"""Heads after which every proxy is asked again for its aggregator."""


def _word(result: CallResult) -> int | None:
    return int.from_bytes(result.data, "big") if result.ok and len(result.data) == 32 else None


def _address(result: CallResult) -> Address | None:
    return Address(result.data[12:32]) if result.ok and len(result.data) == 32 else None


ASSET_SOURCE_UPDATED = topic("AssetSourceUpdated(address,address)")
FALLBACK_ORACLE_UPDATED = topic("FallbackOracleUpdated(address)")
PRICE_ORACLE_UPDATED = topic("PriceOracleUpdated(address,address)")
ADDRESS_SET = topic("AddressSet(bytes32,address,address)")
RESERVE_INITIALIZED = topic("ReserveInitialized(address,address,address,address,address)")
RESERVE_DROPPED = topic("ReserveDropped(address)")
ANSWER_UPDATED = topic("AnswerUpdated(int256,uint256,uint256)")
TOPICS = frozenset(
    {
        ASSET_SOURCE_UPDATED,
        FALLBACK_ORACLE_UPDATED,
        PRICE_ORACLE_UPDATED,
        ADDRESS_SET,
        RESERVE_INITIALIZED,
        RESERVE_DROPPED,
        ANSWER_UPDATED,
    }
)
_FORMAT = 1
_HEADER = struct.Struct(">I20s")
_FEED = struct.Struct(">20s?20s?20s")
PRICE_ORACLE_ID = b"PRICE_ORACLE".ljust(32, b"\0")


@dataclass(frozen=True, slots=True)
class Feed:
    """Where one asset's price comes from; None is not known yet, zero is none.

    `aggregator` is the contract behind a proxy that emits AnswerUpdated; it changes by phase.
    """

    source: Address | None = None
    aggregator: Address | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What the last `calls` asked, in order."""

    oracle: Address
    assets: tuple[Address, ...]
    sources: tuple[Address, ...]
    aggregators: tuple[tuple[Address, Address], ...]


class AaveOracle:
    """Read every price of one market each head, and follow what they are read from."""

    def __init__(
        self,
        market: str,
        pool: Address,
        provider: Address,
        configurator: Address,
        oracle: Address,
    ) -> None:
        self._market = market
        self._pool = pool
        self._provider = provider
        self._configurator = configurator
        self._oracle = oracle
        self._feeds: dict[Address, Feed] = {}
        self._last: Mapping[Address, int] = {}
        self._announced: set[Address] = set()
        self._rounds: Counter[Address] = Counter()
        self._suspected: set[Address] = set()
        self._heads = 0
        self._question = Question(oracle, (), (), ())
        self._head = Hash(b"")
        self._folds: Mapping[tuple[Address | None, bytes], Callable[[Log], Undo | None]] = {
            (provider, PRICE_ORACLE_UPDATED): lambda log: self._swap(Address(log.topics[2][12:])),
            (provider, ADDRESS_SET): self._address_set,
            (configurator, RESERVE_INITIALIZED): self._listed,
            (configurator, RESERVE_DROPPED): self._dropped,
        }

    @property
    def address(self) -> Address:
        """Return the oracle contract the market reads now."""
        return self._oracle

    @property
    def feeds(self) -> Mapping[Address, Feed]:
        """Return what each asset's price is read from."""
        return self._feeds

    def rounds(self) -> Mapping[Address, int]:
        """Return how many answers each asset's aggregator gave since the start, undone ones too."""
        return {
            asset: self._rounds[feed.aggregator]
            for asset, feed in self._feeds.items()
            if feed.aggregator is not None and feed.aggregator in self._rounds
        }

    def watch(self) -> Watch:
        """Return the contracts that say where prices come from, and those that announce them."""
        aggregators = {feed.aggregator for feed in self._feeds.values() if feed.aggregator}
        contracts = {self._oracle, self._provider, self._configurator}
        return Watch(frozenset(contracts | aggregators - {ZERO_ADDRESS}), TOPICS)

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load the oracle, the reserves and their sources as of this head.

        Raises `ConfigError` when it does not price in dollars.
        """
        oracle, reserves = await reader.multicall(
            [read(self._provider, "getPriceOracle()"), read(self._pool, "getReservesList()")],
            head.hash,
        )
        found = _address(oracle)
        if found is None or not reserves.ok or len(reserves.data) < 64:
            raise TransientError(f"the oracle of market {self._market} was not read")
        words = [reserves.data[at : at + 32] for at in range(64, len(reserves.data), 32)]
        self._oracle = found
        (base,) = await reader.multicall([read(found, "BASE_CURRENCY()")], head.hash)
        if _word(base) != 0:
            raise ConfigError(
                f"market {self._market} is not priced in dollars", "leave it out of the markets"
            )
        self._feeds = {Address(word[12:]): Feed() for word in words}
        for _ in ("sources and prices", "aggregators"):
            self.prices(await reader.multicall(self.calls(), head.hash), head)

    async def sources(self, reader: Reader, head: Head) -> list[PriceSource]:
        """Return the source of every reserve's price as of this head."""
        await self.bootstrap(reader, head)
        (unit,) = await reader.multicall([read(self._oracle, "BASE_CURRENCY_UNIT()")], head.hash)
        tokens = await name_tokens(reader, self._feeds, head)
        return [
            PriceSource(
                tokens[asset],
                read(self._oracle, "getAssetPrice(address)", asset),
                _word(unit) or 0,
                feed.source or ZERO_ADDRESS,
            )
            for asset, feed in self._feeds.items()
            if asset in tokens
        ]

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; an answer changes nothing, for prices are read at every head."""
        if not log.topics:
            return None
        kind = log.topics[0]
        if kind == ANSWER_UPDATED:
            self._announced.add(log.address)
            self._rounds[log.address] += 1
            return None
        if log.address == self._oracle and kind == ASSET_SOURCE_UPDATED:
            asset, source = Address(log.topics[1][12:]), Address(log.topics[2][12:])
            return self._set(asset, Feed(source)) if asset in self._feeds else None
        handler = self._folds.get((log.address, kind))
        return None if handler is None else handler(log)

    def snapshot(self) -> Pages:
        """Freeze where each price comes from; prices themselves are read at every head."""
        return partial(_encode, self._oracle, dict(self._feeds))

    def restore(self, pages: Iterable[bytes]) -> None:
        """Take up a snapshot's sources; every proxy is asked anew at the next head."""
        try:
            oracle, feeds = _decode(b"".join(pages))
        except (struct.error, ValueError) as error:
            raise InvariantError(self._market, f"a page cannot be read ({error})") from error
        self._oracle, self._feeds = oracle, feeds
        self._last, self._announced, self._suspected, self._heads = {}, set(), set(), 0

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare the oracle and every known source with the chain; nothing is left to sample."""
        del sample, seed
        known = [(asset, feed.source) for asset, feed in self._feeds.items() if feed.source]
        subjects = [("price oracle", self._oracle)]
        subjects += [(f"price source of 0x{asset.hex()}", source) for asset, source in known]
        results = await reader.multicall(
            [
                read(self._provider, "getPriceOracle()"),
                *(read(self._oracle, "getSourceOfAsset(address)", asset) for asset, _ in known),
            ],
            head.hash,
        )
        return [
            Drift(f"{self._market} {subject}", int.from_bytes(held, "big"), actual or 0)
            for (subject, held), actual in zip(subjects, map(_word, results), strict=True)
            if actual != int.from_bytes(held, "big")
        ]

    def calls(self) -> Sequence[Call]:
        """Return base currency, unit, every price, and the sources and aggregators to be learnt."""
        routine = self._heads % PROBE_EVERY == 0
        question = Question(
            self._oracle,
            tuple(self._feeds),
            tuple(asset for asset, feed in self._feeds.items() if feed.source is None),
            tuple(
                (asset, feed.source)
                for asset, feed in self._feeds.items()
                if feed.source and (routine or feed.aggregator is None or asset in self._suspected)
            ),
        )
        self._question = question
        return [
            read(self._oracle, "BASE_CURRENCY()"),
            read(self._oracle, "BASE_CURRENCY_UNIT()"),
            *(read(self._oracle, "getAssetPrice(address)", asset) for asset in question.assets),
            *(read(self._oracle, "getSourceOfAsset(address)", asset) for asset in question.sources),
            *(read(source, "aggregator()") for _, source in question.aggregators),
        ]

    def prices(self, results: Sequence[CallResult], head: Head) -> Prices:
        """Turn the answers to the last `calls` into prices; what failed or is zero is left out.

        Limits are in dollars, which Aave names by the zero address: prices in anything else are
        left out as well.
        """
        asked = self._question
        count = len(asked.assets)
        base, unit = (_word(result) for result in results[:2]) if results else (None, None)
        if asked.oracle != self._oracle or base != 0 or not unit:
            return Prices(self._market, 1, {}, head.hash)
        results = results[1:]
        values: dict[Address, int] = {}
        for asset, result in zip(asked.assets, results[1 : 1 + count], strict=True):
            price = _word(result)
            if price:
                values[asset] = price
        sources = results[1 + count : 1 + count + len(asked.sources)]
        for asset, result in zip(asked.sources, sources, strict=True):
            source = _address(result)
            if source is not None and asset in self._feeds:
                self._feeds[asset] = Feed(source)
        self._learn_aggregators(results[1 + count + len(asked.sources) :])
        self._suspect(values, head)
        return Prices(self._market, unit, values, head.hash)

    def _learn_aggregators(self, results: Sequence[CallResult]) -> None:
        for (asset, source), result in zip(self._question.aggregators, results, strict=True):
            feed = self._feeds.get(asset)
            if feed is not None and feed.source == source:
                self._feeds[asset] = replace(feed, aggregator=_address(result) or ZERO_ADDRESS)

    def _suspect(self, values: Mapping[Address, int], head: Head) -> None:
        """Ask a proxy for its aggregator again when its price moved without an answer."""
        self._suspected = {
            asset
            for asset, price in values.items()
            if price != self._last.get(asset, price)
            and (feed := self._feeds.get(asset)) is not None
            and feed.aggregator not in (None, ZERO_ADDRESS)
            and feed.aggregator not in self._announced
        }
        if head.hash != self._head:
            self._heads += 1
            self._head = head.hash
        self._last = values
        self._announced = set()

    def _set(self, asset: Address, feed: Feed) -> Undo:
        before = self._feeds.get(asset)
        self._feeds[asset] = feed
        return partial(self._restore, asset, before)

    def _restore(self, asset: Address, feed: Feed | None) -> None:
        if feed is None:
            self._feeds.pop(asset, None)
        else:
            self._feeds[asset] = feed

    def _swap(self, oracle: Address) -> Undo:
        before, feeds = self._oracle, self._feeds
        self._oracle = oracle
        self._feeds = dict.fromkeys(feeds, Feed())

        def undo() -> None:
            self._oracle, self._feeds = before, feeds

        return undo

    def _address_set(self, log: Log) -> Undo | None:
        if log.topics[1] != PRICE_ORACLE_ID:
            return None
        return self._swap(Address(log.topics[3][12:]))

    def _listed(self, log: Log) -> Undo:
        return self._set(Address(log.topics[1][12:]), Feed())

    def _dropped(self, log: Log) -> Undo | None:
        asset = Address(log.topics[1][12:])
        before = self._feeds.pop(asset, None)
        return None if before is None else partial(self._restore, asset, before)


def _encode(oracle: Address, feeds: Mapping[Address, Feed]) -> Iterator[bytes]:
    page = bytearray(_HEADER.pack(_FORMAT, oracle))
    for asset, feed in feeds.items():
        source, aggregator = feed.source, feed.aggregator
        page += _FEED.pack(
            asset,
            source is not None,
            source or ZERO_ADDRESS,
            aggregator is not None,
            aggregator or ZERO_ADDRESS,
        )
    yield bytes(page)


def _decode(page: bytes) -> tuple[Address, dict[Address, Feed]]:
    written, oracle = _HEADER.unpack_from(page)
    if written != _FORMAT:
        raise ValueError(f"format {written}")
    return Address(oracle), {
        Address(asset): Feed(
            Address(source) if has_source else None,
            Address(aggregator) if has_aggregator else None,
        )
        for asset, has_source, source, has_aggregator, aggregator in _FEED.iter_unpack(
            page[_HEADER.size :]
        )
    }
