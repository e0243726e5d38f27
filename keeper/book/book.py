"""The book of one chain: sources folded block by block, and the view a decision is made on."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from keeper.book.market import MarketBook
from keeper.errors import InvariantError
from keeper.ports import LendingProtocol, Reader, Source, Venue
from keeper.types import (
    AtRisk,
    Call,
    CallResult,
    Drift,
    Head,
    Log,
    NextBlock,
    Position,
    Skip,
    Token,
    Undo,
    View,
    Watch,
)
from keeper.units import Address

UNDO_DEPTH = 256
"""Blocks that can be taken back; a deeper reorg needs a rebuild."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The reads of one head for all markets, in one multicall.

    `spans` says, by market, which answers are its prices and which its protocol's own.
    """

    calls: tuple[Call, ...]
    spans: tuple[tuple[str, slice, slice], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One folded block and what takes it back, oldest first."""

    head: Head
    undos: tuple[Undo, ...]


class Book:
    """Follow every source of one chain and answer which positions are at risk at the next block."""

    def __init__(
        self,
        chain: str,
        markets: Sequence[LendingProtocol],
        venues: Sequence[Venue],
        native: Token,
    ) -> None:
        self._chain = chain
        self._markets = {market.market: MarketBook(market) for market in markets}
        self._sources: Mapping[str, Source] = {
            **{f"market/{market.market}": market for market in markets},
            **{f"oracle/{market.market}": market.oracle for market in markets},
            **{f"venue/{venue.name}": venue for venue in venues},
        }
        self._native = native
        self._blocks: deque[Block] = deque(maxlen=UNDO_DEPTH)
        self._watches: tuple[Watch, ...] = ()
        self._watch = Watch(frozenset(), frozenset())
        self._by_address: dict[Address, tuple[Source, ...]] = {}

    @property
    def head(self) -> Head | None:
        """Return the last folded head, None before `stand_at`."""
        return self._blocks[-1].head if self._blocks else None

    @property
    def markets(self) -> Mapping[str, MarketBook]:
        """Return the markets by name."""
        return self._markets

    @property
    def sources(self) -> Mapping[str, Source]:
        """Return every source by kind and name: `market/NAME`, `oracle/NAME`, `venue/NAME`."""
        return self._sources

    def stand_at(self, head: Head) -> None:
        """Start from sources that were loaded as of exactly this head."""
        self._blocks.clear()
        self._blocks.append(Block(head, ()))

    def holds(self, head: Head) -> bool:
        """Say whether a head is among the folded blocks, so not reorged out as far as is known."""
        return any(block.head.hash == head.hash for block in reversed(self._blocks))

    def watch(self) -> Watch:
        """Return the union of what all sources watch now."""
        watches = tuple(source.watch() for source in self._sources.values())
        if watches != self._watches:
            self._watches = watches
            self._watch = Watch(
                frozenset().union(*(watch.addresses for watch in watches)),
                frozenset().union(*(watch.topics for watch in watches)),
            )
            by_address: dict[Address, list[Source]] = {}
            for source, watch in zip(self._sources.values(), watches, strict=True):
                for address in watch.addresses:
                    by_address.setdefault(address, []).append(source)
            self._by_address = {key: tuple(found) for key, found in by_address.items()}
        return self._watch

    def fold(self, head: Head, logs: Sequence[Log]) -> None:
        """Apply one block's logs in order; raise `InvariantError` when it does not follow."""
        last = self.head
        if last is not None and head.parent != last.hash:
            raise InvariantError(self._chain, f"block {head.number} does not follow {last.number}")
        self.watch()
        undos: list[Undo] = []
        try:
            for bare in logs:
                log = bare if bare.timestamp else replace(bare, timestamp=head.timestamp)
                if log.address not in self._by_address:
                    self.watch()  # an earlier log of this block made it known
                for source in self._by_address.get(log.address, ()):
                    undo = source.fold(log)
                    if undo is not None:
                        undos.append(undo)
        except BaseException:
            _take_back(undos)
            raise
        self._blocks.append(Block(head, tuple(undos)))

    def undo(self) -> None:
        """Take the last folded block back; raise `InvariantError` when none before it is held."""
        if len(self._blocks) < 2:
            raise InvariantError(self._chain, "the reorg is deeper than the blocks held")
        _take_back(self._blocks.pop().undos)

    def reads(self) -> Reads:
        """Return the reads every head needs: prices and what protocols add."""
        calls: list[Call] = []
        spans = []
        for name, market in self._markets.items():
            prices, others = market.protocol.oracle.calls(), market.protocol.calls()
            start, middle = len(calls), len(calls) + len(prices)
            calls += [*prices, *others]
            spans.append((name, slice(start, middle), slice(middle, len(calls))))
        return Reads(tuple(calls), tuple(spans))

    def observe(self, reads: Reads, results: Sequence[CallResult], head: Head) -> None:
        """Take the answers to `reads`, all of them at this head."""
        for name, prices, others in reads.spans:
            self._markets[name].observe(results[prices], results[others], head)

    def view(self, next_block: NextBlock, deadline_ms: int) -> tuple[View, list[Skip]]:
        """Return the positions at risk at the next block, and those that could not be judged."""
        head = self.head
        if head is None:
            raise InvariantError(self._chain, "the book has no head yet")
        at_risk: list[AtRisk] = []
        skips: list[Skip] = []
        for market in self._markets.values():
            found, unjudged = market.at_risk(next_block)
            at_risk.extend(found)
            skips.extend(unjudged)
        view = View(
            chain=self._chain,
            head=head,
            next_block=next_block,
            at_risk=tuple(at_risk),
            prices={name: market.prices for name, market in self._markets.items()},
            tokens=self.tokens(),
            native=self._native,
            deadline_ms=deadline_ms,
        )
        return view, skips

    def tokens(self) -> dict[Address, Token]:
        """Return every market's tokens by address."""
        tokens: dict[Address, Token] = {}
        for market in self._markets.values():
            tokens.update(market.protocol.tokens())
        return tokens

    def positions(self, next_block: NextBlock, below: float, limit: int) -> list[Position]:
        """Return the riskiest positions under a health factor, worst first."""
        found: list[Position] = []
        for market in self._markets.values():
            found.extend(market.positions(next_block, below, limit))
        return sorted(found, key=lambda position: position.health)[:limit]

    async def audit(self, reader: Reader, sample: int, seed: int) -> list[Drift]:
        """Compare samples of every source with the chain at the book's head."""
        head = self.head
        if head is None:
            raise InvariantError(self._chain, "the book has no head yet")
        return [
            drift
            for source in self._sources.values()
            for drift in await source.audit(reader, head, sample, seed)
        ]


def _take_back(undos: Sequence[Undo]) -> None:
    for undo in reversed(undos):
        undo()
