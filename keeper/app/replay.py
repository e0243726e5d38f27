"""Go through a tape with any strategies and settings: the line itself, only its ends replaced.

Engine, book, strategist, planner and risk are those that run live. Heads and reads come from the
tape, the clock is the tape's, and plans end in `LocalSettlement`. A decision at a head is made before
the record behind it was looked at.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from keeper.app.breakers import make_feeds, make_limits, watching
from keeper.app.inventory import make_inventory
from keeper.app.lenders import allowed_by
from keeper.app.line import lists_of, make_planner, seats, watched_tokens
from keeper.app.oracles import believing, following, make_oracles
from keeper.app.outcome import Outcome
from keeper.app.settling import LocalSettlement
from keeper.app.shown import ShownBook
from keeper.app.taped import Taped
from keeper.book.book import Reads as Wanted
from keeper.chain.fee_history import FeeHistories
from keeper.chain.listener import Tick
from keeper.conditions import Conditions
from keeper.config import Chain, Settings
from keeper.engine import Engine, Report
from keeper.errors import ConfigError, KeeperError, PluginError, TransientError
from keeper.isolation import close_strategies, open_strategies
from keeper.planning.contest import Contest
from keeper.ports import Venue
from keeper.risk import Risk
from keeper.strategist import Strategist
from keeper.tape.records import Block, Liquidation, Reads, Record, State, Taken
from keeper.types import CallResult, Head
from keeper.units import ZERO_ADDRESS

log = structlog.get_logger(__name__)

PATIENCE_MS = 10_000
"""Milliseconds strategies have for one head here: the machine's load must not change a result."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A name for one set of settings, the settings, and where a wrong one came from."""

    name: str
    settings: Settings
    blame: Callable[[str], str] = lambda _: "settings"


class TapeClock:
    """Tells the time of the head the tape has come to; it stands still within a head."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        """Return the head's seconds since the epoch."""
        return self.now

    def monotonic(self) -> float:
        """Return the same: a chain's time never falls along one branch."""
        return self.now


class NoHeads:
    """Offers nothing: the tape hands each head to the engine itself."""

    async def next(self) -> Tick[tuple[Wanted, list[CallResult]]]:
        """Wait for ever."""
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")


class Playing:
    """One variant on a tape: its line, and what came of it."""

    def __init__(self, variant: Variant, taped: Taped, shown: ShownBook, clock: TapeClock) -> None:
        self.outcome = Outcome(variant.name)
        self._variant = variant
        self._taped = taped
        self._shown = shown
        self._clock = clock
        self._liquidations: list[Sequence[Liquidation]] = []

    async def open(self, stack: AsyncExitStack) -> None:
        """Put the line together; raise `ConfigError` for a strategy that cannot be used."""
        taped, name = self._taped, self._taped.name
        settings, table, book = self._variant.settings, taped.table, taped.book
        strategies = await asyncio.to_thread(open_strategies, settings, self._variant.blame)
        stack.callback(close_strategies, strategies)
        strategist = Strategist(seats(strategies, name, taped.watched.markets), self._on_fault)
        stack.callback(strategist.close)
        lists, allowed = lists_of(name, table, taped.watched), allowed_by(taped.lenders)
        feeds = make_feeds(settings, table, partial(_running, taped))
        oracles = make_oracles(
            name, settings, table, taped.watched.markets, partial(_running, taped)
        )
        # the operator's kill file is about what runs now
        limits = replace(make_limits(settings, table.block_time), kill_file=Path("/dev/null/none"))
        risk = Risk(name, limits, self._clock, lists=lists, seen=lambda: book.head, feeds=feeds)
        self._settlement = LocalSettlement(table.contract or ZERO_ADDRESS, book, risk)
        self._observe: list[Callable[[Report], None]] = [
            self.outcome.decide,
            following(oracles, self._on_watch_fault),
        ]
        if feeds is not None:
            self._observe.append(watching(feeds, risk))
        self._histories = None
        if table.inclusion_model.orders_by_fee:
            self._histories = FeeHistories(taped.rpc, lambda _: None)
            stack.push_async_callback(self._histories.close)
        self._inventory = make_inventory(settings.chains.get(name, table))
        self._conditions = Conditions(
            table.inclusion_model, self._histories, Contest(table.relays), self._inventory
        )
        self._engine = Engine(
            NoHeads(),
            taped.reader,
            self._shown,
            strategist,
            make_planner(
                name, table, taped.watched, settings, lambda: book.stopped, lists, allowed
            ),
            self._settlement,
            self._settlement,
            self._clock,
            table.block_time,
            PATIENCE_MS,
            self._tell,
            self._on_undecided,
            self._conditions,
            believing(oracles, self._on_watch_fault),
        )

    def coming(self, head: Head) -> None:
        """Learn that a block comes, before it is folded."""
        self._settlement.coming(head)

    def learn(self, liquidations: Sequence[Liquidation]) -> None:
        """Learn who was liquidated in the last block."""
        self._settlement.learn(liquidations)
        self._liquidations.append(liquidations)

    async def decide(self) -> None:
        """Decide on the head the book stands at."""
        head = self._taped.head
        if self._inventory is not None:
            tokens = watched_tokens(self._taped.watched.markets.values())
            self._inventory.follow(self._inventory.known(tokens, self._taped.held))
        self._conditions.begin(head)
        if self._histories is not None:
            await self._histories.settled()
        try:
            await self._engine.tick(Tick(head, self._fetched(), self._clock.now))
        except KeeperError as error:
            self._on_undecided(head, error)
        self.outcome.taken = self._settlement.taken
        for liquidations in self._liquidations:
            self.outcome.compare(liquidations, self._settlement.contract)
        self._liquidations = []

    def end(self) -> Outcome:
        """Return what came of it."""
        self.outcome.open = len(self._settlement.waiting)
        self.outcome.by_record = self._settlement.by_record
        return self.outcome

    def _fetched(self) -> tuple[Wanted, list[CallResult]] | Exception:
        try:
            return self._taped.answers(self._conditions.calls())
        except TransientError as error:
            return error

    def _tell(self, report: Report) -> None:
        for observe in self._observe:
            observe(report)

    def _on_undecided(self, head: Head, error: Exception) -> None:
        self.outcome.miss_head(head.number, str(error) or type(error).__name__)

    def _on_fault(self, error: PluginError) -> None:
        self.outcome.faults.append(str(error))

    def _on_watch_fault(self, error: Exception) -> None:
        log.error("observer.failed", variant=self._variant.name, exc_info=error)


async def replay(
    name: str,
    table: Chain,
    records: Iterable[Record],
    variants: Sequence[Variant],
    told: Callable[[Head], None] = lambda _: None,
    where: str = "tape",
) -> list[Outcome]:
    """Return what each variant makes of a tape, all of them on the same views.

    `told` hears of every head decided on. Raises `ConfigError` for a tape or a strategy that cannot
    be used.
    """
    async with AsyncExitStack() as stack:
        taped = await Taped.open(name, table, records, where)
        clock, shown = TapeClock(), ShownBook(taped)
        playing = [Playing(variant, taped, shown, clock) for variant in variants]
        for each in playing:
            await each.open(stack)
        async for moment in taped.moments():
            match moment:
                case Block():
                    for each in playing:
                        each.coming(moment.head)
                case Taken():
                    for each in playing:
                        each.learn(moment.liquidations)
                case Reads():
                    clock.now = float(taped.head.timestamp)
                    shown.turn()
                    for each in playing:
                        await each.decide()
                    told(taped.head)
        return [each.end() for each in playing]


@dataclass(frozen=True, slots=True)
class Audited:
    """How many decisions, up to which head, were the same with everything later taken away."""

    head: int
    decisions: int


async def audit(
    name: str,
    table: Chain,
    records: Iterable[Record],
    variants: Sequence[Variant],
    outcomes: Sequence[Outcome],
    where: str = "tape",
) -> Audited:
    """Go through a tape up to a head in its middle and compare every decision with the whole one's.

    Raises `ConfigError` naming the first decision that differs: it rested on what came later, or
    the strategy is not deterministic.
    """
    cut = _middle(outcomes)
    again = await replay(name, table, until(records, cut), variants, where=where)
    decisions = 0
    for whole, part in zip(outcomes, again, strict=True):
        for (number, decided), (other, repeated) in zip(whole.digests, part.digests, strict=False):
            if (number, decided) != (other, repeated):
                raise ConfigError(
                    f"{whole.name}: the decision at head {number} differs when everything after "
                    f"head {cut} is taken away",
                    "the strategy uses chance, time or files; its figures mean nothing",
                )
            decisions += 1
    return Audited(cut, decisions)


def until(records: Iterable[Record], number: int) -> Iterator[Record]:
    """Yield the records up to the decision on the first head of at least this number."""
    head = -1
    for record in records:
        yield record
        if isinstance(record, State | Block):
            head = record.head.number
        if isinstance(record, Reads) and head >= number:
            return


def _middle(outcomes: Sequence[Outcome]) -> int:
    """Return the middle one of the heads at which something was sent, or else decided."""
    sent = sorted({number for each in outcomes for number in each.planned_at})
    found = sent or sorted({number for each in outcomes for number, _ in each.digests}) or [0]
    return found[len(found) // 2]


def _running(taped: Taped) -> list[Venue]:
    stopped = taped.book.stopped
    return [venue for key, venue in taped.watched.venues.items() if f"venue/{key}" not in stopped]
