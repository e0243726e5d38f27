"""The line, run once per head: each statement takes a noun to the next."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from keeper.book.book import Book, Reads
from keeper.chain.listener import Tick
from keeper.conditions import Conditions
from keeper.errors import InvariantError, TransientError
from keeper.planning.planner import Planner
from keeper.ports import Clock, Reader
from keeper.strategist import Choice, Strategist, next_round
from keeper.types import (
    Bid,
    Call,
    CallResult,
    Head,
    NextBlock,
    Plan,
    Quote,
    Reason,
    Receipt,
    Skip,
    View,
)
from keeper.units import Address

Fetched = tuple[Reads, list[CallResult]]
"""A head's reads and their answers, those of its conditions last; fetched beside its logs."""
Key = tuple[str, Address]
"""A position on its chain."""

OVERTAKEN = 8
"""Heads in a row that came too early before it is told."""
MOST_ROUNDS = 3
"""Times a head's choices are decided on before whoever still gives way does so for good."""

HELD_BACK = {
    Reason.IN_FLIGHT: "a transaction on its way liquidates it",
    Reason.COOLDOWN: "told of a few heads ago (dry mode), or failed again and again on the chain",
}


Doubts = Mapping[Key, tuple[Reason, str]]
"""Positions that rest on what is not to be believed, and why."""


def _believe(_view: View) -> Doubts:
    return {}


class Judging(Protocol):
    """Tells what to read at a head and who is at risk at the next block; `Book` does."""

    @property
    def head(self) -> Head | None:
        """Return the last folded head."""
        ...

    def reads(self) -> Reads:
        """Return the reads of this head."""
        ...

    def observe(
        self,
        reads: Reads,
        results: Sequence[CallResult],
        head: Head,
        at: NextBlock | None = None,
    ) -> None:
        """Take the answers to `reads`, all of them at this head."""
        ...

    async def view(self, next_block: NextBlock, deadline_ms: int) -> tuple[View, list[Skip]] | None:
        """Return the positions at risk; None when the book went on before all were judged."""
        ...

    async def let_go(self) -> None:
        """Free what the views before the last one held, a piece at a time."""
        ...


class Prove(Protocol):
    """Takes plans to proven plans, simulated byte for byte, and skips for what failed."""

    async def prove(self, plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        """Return the plans that hold and why the rest does not."""
        ...


class Heads(Protocol):
    """Offers the latest folded head to decide on."""

    async def next(self) -> Tick[Fetched]:
        """Wait for a head; one that was overtaken is never returned."""
        ...


class Send(Protocol):
    """Takes proven plans to receipts."""

    async def screen(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Return the plans that may be sent as they stand, nothing reserved, and why not the rest."""
        ...

    async def send(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Send plans in order; return those handed over, and why not the rest."""
        ...

    async def follow(self, head: Head) -> list[Receipt]:
        """Return how transactions ended by this head."""
        ...

    def in_flight(self) -> frozenset[Key]:
        """Return the positions a transaction on its way liquidates."""
        ...

    def cooling(self, head: Head) -> frozenset[Key]:
        """Return the positions held back because they were told of."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What one head came to, for the observers: journal, metrics, logs, status."""

    view: View
    choices: Sequence[Choice] = ()
    quotes: Sequence[Quote] = ()
    bids: Sequence[tuple[Quote, Bid]] = ()
    plans: Sequence[Plan] = ()
    sent: Sequence[Plan] = ()
    skips: Sequence[Skip] = ()
    receipts: Sequence[Receipt] = ()
    stages: dict[str, float] = field(default_factory=dict)
    head_to_send: float | None = None


class Engine:
    """Drive one chain: take the latest folded head, decide, send, and tell the observers.

    A head that is decided on is `undisturbed`: what may wait waits until it is told of.
    """

    def __init__(
        self,
        listener: Heads,
        reader: Reader,
        book: Judging,
        strategist: Strategist,
        planner: Planner,
        prover: Prove,
        executor: Send,
        clock: Clock,
        block_time: int,
        deadline_ms: int,
        tell: Callable[[Report], None],
        on_undecided: Callable[[Head, Exception], None],
        conditions: Conditions | None = None,
        doubtful: Callable[[View], Doubts] = _believe,
        undisturbed: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._undisturbed = undisturbed
        self._doubtful = doubtful
        self._listener = listener
        self._reader = reader
        self._book = book
        self._strategist = strategist
        self._planner = planner
        self._prover = prover
        self._executor = executor
        self._clock = clock
        self._block_time = block_time
        self._deadline_ms = deadline_ms
        self._tell = tell
        self._on_undecided = on_undecided
        self._conditions = Conditions() if conditions is None else conditions
        self._overtaken = 0

    async def run(self) -> None:
        """Decide on every latest head until cancelled; heads may be skipped, folding may not."""
        while True:
            tick = await self._listener.next()
            try:
                with self._undisturbed():
                    await self.tick(tick)
            except InvariantError:
                raise
            except Exception as error:  # noqa: BLE001 - a bug costs one head, what is sent is followed
                self._on_undecided(tick.head, error)
            await self._book.let_go()

    async def tick(self, tick: Tick[Fetched]) -> None:
        """Take one head from view to receipt; what was sent is followed even when it is not judged."""
        stages = Stopwatch(self._clock)
        # it waits for the node, which need not hold up the judging; that begins at once, while the
        # book stands at the tick's head
        following = asyncio.ensure_future(self._executor.follow(tick.head))
        seen: tuple[View, list[Skip]] | Exception | None
        try:
            seen = await self._look(tick)
        except Exception as error:  # noqa: BLE001 - raised again below
            seen = error
        except BaseException:
            following.cancel()
            await asyncio.wait([following])
            raise
        receipts = await following
        self._conditions.learn(receipts)
        if isinstance(seen, Exception):
            raise seen
        if seen is None:
            return
        whole, unjudged = seen
        view, held = hold_back(
            whole,
            {
                **dict.fromkeys(self._executor.cooling(tick.head), Reason.COOLDOWN),
                **dict.fromkeys(self._executor.in_flight(), Reason.IN_FLIGHT),
            },
        )
        view, doubted = leave_out(view, self._doubtful(view))
        stages.lap("view")
        choices, unchosen = await self._strategist.select(view)
        stages.lap("select")
        decided = await decide(view, choices, self._strategist, self._planner, stages.lap)
        self._conditions.bid(decided.bids)
        passed, refused = await self._executor.screen(decided.plans)
        proven, unproven = await self._prover.prove(passed, view)
        stages.lap("simulate")
        sent, unsent = await self._executor.send(proven)
        self._conditions.sent(sent)
        stages.lap("send")
        self._tell(
            Report(
                view=whole,
                choices=choices,
                quotes=decided.quotes,
                bids=decided.bids,
                plans=decided.plans,
                sent=sent,
                skips=[
                    *unjudged,
                    *held,
                    *doubted,
                    *unchosen,
                    *decided.skips,
                    *refused,
                    *unproven,
                    *unsent,
                ],
                receipts=receipts,
                stages=stages.laps,
                head_to_send=self._clock.monotonic() - tick.received_at if sent else None,
            )
        )

    async def _look(self, tick: Tick[Fetched]) -> tuple[View, list[Skip]] | None:
        """Judge the book at the tick's head; None when the reads failed or the head was overtaken.

        The book may go on to the next head whenever this waits, so it is asked again after that.
        """
        if isinstance(tick.prefetched, Exception):
            self._on_undecided(tick.head, tick.prefetched)
            return None
        reads, results = tick.prefetched
        wanted = self._book.reads()
        if wanted != reads:
            try:
                calls = [*wanted.calls, *self._conditions.calls()]
                results = await self._reader.multicall(calls, tick.head.hash)
            except TransientError as error:
                self._on_undecided(tick.head, error)
                return None
            if self._book.head != tick.head:
                return None
        next_block = tick.head.next_block(self._block_time, self._conditions.inclusion)
        self._book.observe(wanted, results, tick.head, next_block)
        judged = await self._book.view(next_block, self._deadline_ms)
        if judged is None:
            self._overtaken += 1
            if self._overtaken % OVERTAKEN == 0:
                why = f"{self._overtaken} heads in a row came before the one before was judged"
                self._on_undecided(tick.head, TransientError(why))
            return None
        self._overtaken = 0
        try:
            view = self._conditions.complete(judged[0], results[len(wanted.calls) :])
        except TransientError as error:
            self._on_undecided(tick.head, error)
            return None
        return view, judged[1]


@dataclass(frozen=True, slots=True)
class Decision:
    """What strategies and planner made of choices, and why it is not more."""

    quotes: Sequence[Quote]
    bids: Sequence[tuple[Quote, Bid]]
    plans: Sequence[Plan]
    skips: Sequence[Skip]


async def decide(
    view: View,
    choices: Sequence[Choice],
    strategist: Strategist,
    planner: Planner,
    lap: Callable[[str], None] = lambda _: None,
) -> Decision:
    """Take choices to plans; whose quote comes to nothing gives way to whom it outbid.

    That is in at most one round for each strategy more than `MOST_ROUNDS`.
    """
    stood: list[Skip] = []
    rounds = 0
    while True:
        rounds += 1
        quotes, unquoted = planner.quote(view, choices)
        lap("quote")
        bids, unbid = await strategist.bid(quotes, view)
        lap("bid")
        plans, unpacked = planner.pack(view, bids)
        lap("plan")
        skips = [*unquoted, *unbid, *unpacked]
        planned = {quote.opportunity.key for plan in plans for quote in plan.quotes}
        undecided = next_round(choices, quotes, skips, planned, last=rounds >= MOST_ROUNDS)
        if undecided is None:
            return Decision(quotes, bids, plans, [*stood, *skips])
        choices, stand = undecided
        stood += stand


async def read_prices(
    book: Book, reader: Reader, head: Head, conditions: Conditions | None = None
) -> Fetched:
    """Read all prices at a head's hash in one multicall; run beside the fetch of its logs."""
    reads = book.reads()
    more: Sequence[Call] = ()
    if conditions is not None:
        conditions.begin(head)
        more = conditions.calls()
    return reads, await reader.multicall([*reads.calls, *more], head.hash)


def hold_back(view: View, held: Mapping[tuple[str, Address], Reason]) -> tuple[View, list[Skip]]:
    """Take positions out of the view that are being liquidated, or were told of already."""
    return leave_out(view, {key: (reason, HELD_BACK[reason]) for key, reason in held.items()})


def leave_out(view: View, why: Doubts) -> tuple[View, list[Skip]]:
    """Take positions out of the view, each with its reason and what to say of it."""
    if not why:
        return view, []
    free = tuple(risk for risk in view.at_risk if risk.position.key not in why)
    left = [risk.position for risk in view.at_risk if risk.position.key in why]
    skips = [Skip(each.market, each.protocol, each.borrower, *why[each.key]) for each in left]
    return replace(view, at_risk=free), skips


class Stopwatch:
    """Seconds per stage of one head."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage; one that is gone through again takes longer."""
        now = self._clock.monotonic()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now
