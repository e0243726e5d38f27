"""The book of one chain: sources folded block by block, and the view a decision is made on."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from keeper.book.faults import Fault, FaultKind
from keeper.book.market import MarketBook
from keeper.book.pace import Pace
from keeper.book.parts import Parts, part_of
from keeper.errors import InvariantError, TransientError
from keeper.ports import LendingProtocol, Observing, Reader, Source, Venue
from keeper.types import (
    AtRisk,
    Call,
    CallResult,
    Drift,
    Head,
    Log,
    NextBlock,
    Position,
    Prices,
    Skip,
    Token,
    View,
    Watch,
)
from keeper.units import Address

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reads:
    """The reads of one head for all markets and venues, in one multicall.

    `spans` says, by market, which answers are its prices and which its protocol's own; `asked`, by
    venue, which are its.
    """

    calls: tuple[Call, ...]
    spans: tuple[tuple[str, slice, slice], ...]
    asked: tuple[tuple[str, slice], ...] = ()


MS_EACH = 1
"""What each position to be liquidated adds to the time strategies have: a crowd takes longer, and is
worth it."""
MOST_MS = 2_000
"""What all of them add at most: of an older head nothing is left to decide."""


class Book:
    """Follow every source of one chain and answer which positions are at risk at the next block."""

    def __init__(
        self,
        chain: str,
        markets: Sequence[LendingProtocol],
        venues: Sequence[Venue],
        native: Token,
        on_fault: Callable[[str, Fault], None] = lambda *_: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain = chain
        self._markets = {market.market: MarketBook(market) for market in markets}
        self._sources: Mapping[str, Source] = {
            **{f"market/{market.market}": market for market in markets},
            **{f"oracle/{market.market}": market.oracle for market in markets},
            **{f"venue/{venue.name}": venue for venue in venues},
        }
        # asking a venue for its protocol takes longer than its reads
        self._asked = {
            name: source
            for name, source in self._sources.items()
            if name.startswith("venue/") and isinstance(source, Observing)
        }
        self._native = native
        self._pace = Pace(monotonic)
        self._told: set[tuple[str, str]] = set()
        self._loads = dict.fromkeys(self._markets, 0)
        self.parts = Parts(
            chain, self._sources, {market.market: market for market in markets}, on_fault
        )

    @property
    def head(self) -> Head | None:
        """Return the last folded head, None before `stand_at`."""
        return self.parts.head

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
        self.parts.stand_at(head)

    def abandon(self) -> None:
        """Stand nowhere while every source is loaded anew; `stand_at` ends it."""
        self.parts.abandon()

    def holds(self, head: Head) -> bool:
        """Say whether a head is among the folded blocks, so not reorged out as far as is known."""
        return any(block.head.hash == head.hash for block in reversed(self.parts.blocks))

    @property
    def stopped(self) -> Mapping[str, str]:
        """Return why each part (`market/NAME`, `venue/NAME`) that is not acted on is not."""
        watched_only = {
            f"market/{name}": market.protocol.stopped
            for name, market in self._markets.items()
            if market.protocol.stopped
        }
        return watched_only | {part: fault.why for part, fault in self.parts.faults.items()}

    async def load_market(self, name: str) -> None:
        """Screen a market anew, from all its borrowers."""
        self._loads[name] += 1
        load = self._loads[name]
        market = self._markets[name]
        fresh = MarketBook(market.protocol, market.followed)
        await fresh.load()
        old = fresh
        if load == self._loads[name]:
            # One begun later froze a later state, also when it was done sooner.
            old, self._markets[name] = self._markets[name], fresh
        await old.close()

    def trust(self, part: str) -> bool:
        """Judge a rebuilt part again; False when it was stopped once more meanwhile."""
        if not self.parts.trust(part):
            return False
        kind, _, name = part.partition("/")
        if kind == "market":
            # What was read before it stopped is old: nothing is judged until the next reads.
            self._markets[name].prices = Prices(name, 1, {})
        return True

    def watch(self) -> Watch:
        """Return the union of what all folded sources watch now."""
        return self.parts.watch()

    def fold(self, head: Head, logs: Sequence[Log]) -> None:
        """Apply one block's logs in order; raise `ReorgTooDeepError` when it does not follow.

        A part of which a log cannot be right stops; the others go on.
        """
        self.parts.fold(head, logs)

    def undo(self) -> None:
        """Take the last folded block back; raise `ReorgTooDeepError` when none before it is held."""
        self.parts.undo()

    def reads(self) -> Reads:
        """Return the reads every head needs: prices and what protocols add."""
        calls: list[Call] = []
        spans = []
        for name, market in self._trusted():
            prices, others = market.protocol.oracle.calls(), market.protocol.calls()
            start, middle = len(calls), len(calls) + len(prices)
            calls += [*prices, *others]
            spans.append((name, slice(start, middle), slice(middle, len(calls))))
        asked = []
        for name, venue in self._observing():
            start = len(calls)
            calls += venue.calls()
            asked.append((name, slice(start, len(calls))))
        return Reads(tuple(calls), tuple(spans), tuple(asked))

    def observe(
        self,
        reads: Reads,
        results: Sequence[CallResult],
        head: Head,
        at: NextBlock | None = None,
    ) -> None:
        """Take the answers to `reads`, all of them at this head; venues quote for the block `at`.

        Without `at` they quote for a block with the head's own time.
        """
        for name, venue in self._observing():
            for span in (span for part, span in reads.asked if part == name):
                try:
                    venue.observe(results[span], head, at or head.next_block(0))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is of this venue
                    why = f"the reads of block {head.number} make no sense ({error})"
                    self.parts.stop(name, Fault(FaultKind.INVARIANT, why, head.number))
        trusted = dict(self._trusted())
        for name, prices, others in reads.spans:
            if name not in trusted:
                continue
            try:
                trusted[name].observe(results[prices], results[others], head)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of this market
                why = f"the reads of block {head.number} make no sense ({error})"
                self.parts.stop(f"market/{name}", Fault(FaultKind.INVARIANT, why, head.number))

    async def load(self) -> None:
        """Build the screens of all markets; run once every source was loaded."""
        for market in self._markets.values():
            await market.load()

    async def view(self, next_block: NextBlock, deadline_ms: int) -> tuple[View, list[Skip]] | None:
        """Return the positions at risk at the next block, and those that could not be judged.

        Strategies have `deadline_ms`, and a little more for each position with pairs, up to a limit.
        None when the book went on to another head before all were judged.
        """
        head = self.head
        if head is None:
            raise InvariantError(self._chain, "the book has no head yet")
        trusted = self._trusted()
        self._pace.begin()
        at_risk: list[AtRisk] = []
        skips: list[Skip] = []
        for name, market in trusted:
            try:
                judged = await market.at_risk(next_block, self._stands_at(head), self._pace.most)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is of this market
                if self.head != head:
                    return None  # what was looked at changed meanwhile: that proves nothing
                why = f"positions at block {head.number} cannot be judged ({error})"
                self.parts.stop(f"market/{name}", Fault(FaultKind.INVARIANT, why, head.number))
                return None
            if judged is None:
                self._pace.overtaken(self._most_candidates())
                return None
            at_risk.extend(judged[0])
            skips.extend(judged[1])
        if self._trusted() != trusted:
            return None
        self._tell(head)
        self._pace.done(self._most_candidates())
        crowd = sum(1 for risk in at_risk if risk.pairs)
        view = View(
            chain=self._chain,
            head=head,
            next_block=next_block,
            at_risk=tuple(at_risk),
            prices={name: market.prices for name, market in trusted},
            tokens=self.tokens(),
            native=self._native,
            deadline_ms=deadline_ms + min(crowd * MS_EACH, MOST_MS),
        )
        return view, skips

    async def let_go(self) -> None:
        """Free what the views before the last one held, letting the event loop go on meanwhile."""
        for market in tuple(self._markets.values()):
            await market.let_go()

    def tokens(self) -> dict[Address, Token]:
        """Return every market's tokens by address."""
        tokens: dict[Address, Token] = {}
        for market in self._markets.values():
            tokens.update(market.protocol.tokens())
        return tokens

    async def positions(self, next_block: NextBlock, below: float, limit: int) -> list[Position]:
        """Return the riskiest positions under a health factor, worst first.

        Raise `TransientError` when the book went on to another head before all were computed.
        """
        head = self.head
        found: list[Position] = []
        for _, market in self._trusted():
            judged = await market.positions(next_block, below, limit, self._stands_at(head))
            if judged is None:
                raise TransientError("another head came before all positions were computed")
            found.extend(judged)
        return sorted(found, key=lambda position: position.health)[:limit]

    async def audit(self, reader: Reader, sample: int, seed: int) -> list[Drift]:
        """Compare samples of every source with the chain at the book's head."""
        head = self.head
        if head is None:
            raise InvariantError(self._chain, "the book has no head yet")
        return [
            drift
            for name, source in self._sources.items()
            if self.parts.is_folded(part_of(name))
            for drift in await source.audit(reader, head, sample, seed)
        ]

    def _most_candidates(self) -> int:
        return max((market.candidates for _, market in self._trusted()), default=0)

    def _tell(self, head: Head) -> None:
        """Say when not everybody is judged, and when everybody is again."""
        for name, market in self._trusted():
            most = market.candidates if self._pace.most is None else self._pace.most
            for event, count in (
                ("book.too_many", max(market.candidates - most, 0)),
                ("book.unpriced", market.unread),
            ):
                if (count > 0) != ((name, event) in self._told):
                    self._told ^= {(name, event)}
                    log.warning(
                        event, chain=self._chain, market=name, head=head.number, not_judged=count
                    )

    def _stands_at(self, head: Head | None) -> Callable[[], bool]:
        return lambda: self.head == head

    def _observing(self) -> list[tuple[str, Observing]]:
        return [each for each in self._asked.items() if each[0] not in self.parts.faults]

    def _trusted(self) -> list[tuple[str, MarketBook]]:
        faults = self.parts.faults
        return [each for each in self._markets.items() if f"market/{each[0]}" not in faults]
