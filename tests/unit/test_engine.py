"""The engine when something breaks: the head is lost, what is in flight is not."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keeper.book.book import Reads
from keeper.chain.listener import Tick
from keeper.engine import OVERTAKEN, Engine, Fetched, Report
from keeper.errors import InvariantError, TransientError
from keeper.risk import Limits, Risk
from keeper.strategist import Choice, Seat, Strategist
from keeper.types import (
    Bid,
    CallResult,
    Head,
    NextBlock,
    Opportunity,
    Plan,
    Quote,
    Reason,
    Receipt,
    Skip,
    View,
)
from keeper.units import USD, Usd, Wei
from tests.fake_node import FakeClock
from tests.plans import Plans, address, make_head, make_opportunity, make_quote, make_view

NOTHING = Reads((), ())


class Heads:
    """Offer prepared ticks, then nothing more."""

    def __init__(self, ticks: Sequence[Tick[Fetched]]) -> None:
        self._ticks = list(ticks)
        self.over = asyncio.Event()

    async def next(self) -> Tick[Fetched]:
        """Return the next tick."""
        if self._ticks:
            return self._ticks.pop(0)
        self.over.set()
        return await asyncio.Future()


class Shelf:
    """A book with one borrower at risk; `fault` is raised, and `early` heads come, instead of a view."""

    fault: Exception | None = None
    early = 0
    freed = 0

    def reads(self) -> Reads:
        """Read nothing."""
        return NOTHING

    def observe(
        self, reads: Reads, results: Sequence[CallResult], head: Head, at: NextBlock
    ) -> None:
        """Take nothing."""
        self.head = head

    async def view(self, next_block: object, deadline_ms: int) -> tuple[View, list[Skip]] | None:
        """Judge."""
        if self.fault is not None:
            raise self.fault
        if self.early:
            self.early -= 1
            return None
        return make_view(self.head, (address("one"),)), []

    async def let_go(self) -> None:
        """Count the heads after which views may go."""
        self.freed += 1


class Drawer:
    """A strategist, a planner and a prover that pass everything on; they note what was proven."""

    def __init__(self) -> None:
        self.proven: list[Plan] = []
        self.plans = [Plans().make(address("one")), Plans(1).make(address("two"))]

    async def select(self, view: View) -> tuple[list[Choice], list[Skip]]:
        """Choose nothing."""
        return [], []

    async def bid(self, quotes: object, view: View) -> tuple[list[tuple[Quote, Bid]], list[Skip]]:
        """Bid nothing."""
        return [], []

    def quote(self, view: View, choices: object) -> tuple[list[Quote], list[Skip]]:
        """Quote nothing."""
        return [], []

    def pack(self, view: View, bids: object) -> tuple[list[Plan], list[Skip]]:
        """Return the prepared plans."""
        return self.plans, []

    async def prove(self, plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        """Let everything pass."""
        self.proven = list(plans)
        return self.proven, []


class Sender:
    """An executor that refuses the first plan before its proof."""

    def __init__(self) -> None:
        self.followed: list[int] = []
        self.sent: list[Plan] = []

    async def follow(self, head: Head) -> list[Receipt]:
        """Note the head."""
        self.followed.append(head.number)
        return []

    def cooling(self, head: Head) -> frozenset[Any]:
        """Hold nothing."""
        return frozenset()

    def in_flight(self) -> frozenset[Any]:
        """Hold nothing."""
        return frozenset()

    async def screen(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Refuse the first."""
        skip = Skip("aave-v3", "aave-v3", address("one"), Reason.BREAKER)
        return list(plans[1:]), [skip]

    async def send(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Send everything."""
        self.sent = list(plans)
        return self.sent, []


class Rig:
    """An engine on fakes."""

    def __init__(self, *ticks: Tick[Fetched]) -> None:
        self.heads, self.shelf, self.drawer, self.sender = Heads(ticks), Shelf(), Drawer(), Sender()
        self.reports: list[Report] = []
        self.undecided: list[tuple[int, Exception]] = []
        parts: dict[str, Any] = {
            "listener": self.heads,
            "reader": None,
            "book": self.shelf,
            "strategist": self.drawer,
            "planner": self.drawer,
            "prover": self.drawer,
            "executor": self.sender,
        }
        self.engine = Engine(
            **parts,
            clock=FakeClock(),
            block_time=12,
            deadline_ms=100,
            tell=self.tell,
            on_undecided=lambda head, error: self.undecided.append((head.number, error)),
            undisturbed=self.undisturbed,
        )
        self.is_disturbed = True

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Note that a head is decided on."""
        self.is_disturbed = False
        yield
        self.is_disturbed = True

    def tell(self, report: Report) -> None:
        """Keep what is told, which is the last of an undisturbed head."""
        assert not self.is_disturbed
        self.reports.append(report)

    async def run(self) -> None:
        """Run until the ticks are used up."""
        running = asyncio.ensure_future(self.engine.run())
        over = asyncio.ensure_future(self.heads.over.wait())
        await asyncio.wait({running, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if running.done():
            await running
        running.cancel()


def tick(number: int, prefetched: Fetched | Exception = (NOTHING, [])) -> Tick[Fetched]:
    """Return a tick."""
    return Tick(make_head(number), prefetched, 0.0)


async def test_heads_that_are_overtaken_again_and_again_are_told_of() -> None:
    rig = Rig(*(tick(number) for number in range(100, 104 + 2 * OVERTAKEN)))
    rig.shelf.early = 2 * OVERTAKEN + 1
    await rig.run()
    assert [number for number, _ in rig.undecided] == [99 + OVERTAKEN, 99 + 2 * OVERTAKEN]
    assert "8 heads in a row" in str(rig.undecided[0][1])
    rig = Rig(*(tick(number) for number in range(100, 120)))
    rig.shelf.early = OVERTAKEN - 1
    await rig.run()
    assert not rig.undecided
    assert rig.reports


async def test_a_bug_costs_its_head_and_following_goes_on() -> None:
    rig = Rig(tick(100), tick(101))
    rig.shelf.fault = ZeroDivisionError("one by none")
    await rig.run()
    assert rig.sender.followed == [100, 101]
    assert [number for number, _ in rig.undecided] == [100, 101]
    assert not rig.sender.sent
    assert rig.shelf.freed == 2


async def test_what_is_in_flight_is_followed_where_prices_were_not_read() -> None:
    rig = Rig(tick(100, TransientError("timed out")), tick(101))
    await rig.run()
    assert rig.sender.followed == [100, 101]
    assert [number for number, _ in rig.undecided] == [100]
    assert len(rig.reports) == 1
    assert rig.is_disturbed


async def test_a_broken_invariant_stops_the_chain() -> None:
    rig = Rig(tick(100), tick(101))
    rig.shelf.fault = InvariantError("test", "drift")
    with pytest.raises(InvariantError):
        await rig.run()
    assert rig.sender.followed == [100]


async def test_a_refused_plan_is_not_in_front_of_the_proof_of_another() -> None:
    rig = Rig(tick(100))
    await rig.run()
    assert rig.drawer.proven == rig.sender.sent == rig.drawer.plans[1:]
    (report,) = rig.reports
    assert [skip.reason for skip in report.skips] == [Reason.BREAKER]


class Gate(Sender):
    """An executor whose plans the chain's own breakers judge."""

    def __init__(self, risk: Risk) -> None:
        super().__init__()
        self._risk = risk

    async def screen(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Ask the breakers."""
        refusals = {plan.id: self._risk.admit(plan) for plan in plans}
        skips = [skip for skip in refusals.values() if skip is not None]
        return [plan for plan in plans if refusals[plan.id] is None], skips


async def test_after_a_stale_sequencer_the_first_plans_are_simulated_anew(tmp_path: Path) -> None:
    clock = FakeClock()
    limits = Limits(
        Wei(10**18), Wei(10**18), Usd(1), Usd(10**6 * USD), tmp_path / "K", stale_seconds=36.0
    )
    fresh = replace(make_head(101), timestamp=int(clock.time()) - 36)
    stale = replace(make_head(100), timestamp=int(clock.time()) - 37)
    rig = Rig(Tick(stale, (NOTHING, []), 0.0), Tick(fresh, (NOTHING, []), 0.0))
    gate = rig.engine._executor = Gate(Risk("test", limits, clock))
    proven: list[tuple[int, int]] = []
    made = Plans()

    def pack(view: View, bids: object) -> tuple[list[Plan], list[Skip]]:
        """Plan at the head of the view."""
        return [made.make(head=view.head)], []

    async def prove(plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        """Note what is simulated at which head."""
        proven.append((view.head.number, len(plans)))
        return list(plans), []

    rig.drawer.pack = pack  # type: ignore[method-assign]
    rig.drawer.prove = prove  # type: ignore[method-assign]
    await rig.run()
    assert proven == [(100, 0), (101, 1)]
    assert [skip.reason for skip in rig.reports[0].skips] == [Reason.BREAKER]
    assert "stale_head" in rig.reports[0].skips[0].detail
    assert [plan.head.number for plan in gate.sent] == [101]


class Nonsense:
    """A strategy whose bid is no bid."""

    def select(self, view: View) -> list[Opportunity | Skip]:
        """Choose nothing."""
        return []

    def limits(self, opportunity: Opportunity, view: View) -> Any:
        """Allow nothing."""
        raise NotImplementedError

    def bid(self, quote: Quote, view: View) -> Any:
        """Return what no planner understands."""
        return 7


async def test_a_bid_that_is_none_disables_its_strategy_and_breaks_nothing() -> None:
    faults: list[Exception] = []
    strategist = Strategist([Seat("nonsense", Nonsense())], faults.append)
    quote = make_quote(address("one"))
    opportunity = make_opportunity(address("one"))
    assert opportunity.strategy == "profitability"
    mine = replace(quote, opportunity=replace(opportunity, strategy="nonsense"))
    bids, skips = await strategist.bid([mine], make_view(make_head()))
    strategist.close()
    assert not bids
    assert [skip.reason for skip in skips] == [Reason.TIMEOUT]
    assert len(faults) == 1
    assert strategist.enabled == ()
