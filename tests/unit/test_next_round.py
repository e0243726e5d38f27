"""A strategy that wins a position and then pays nothing for it keeps it from no other."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from keeper.engine import MOST_ROUNDS, Engine, Report
from keeper.errors import TransientError
from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.strategist import Choice, Seat, Strategist, next_round
from keeper.types import AtRisk, Bid, Cause, Limits, Opportunity, Plan, Quote, Reason, Skip, View
from keeper.units import USD, Usd, Wei
from tests.fake_market import (
    CONTRACT,
    GWEI,
    MARKET,
    USDC,
    WETH,
    FakeLender,
    FakeTerms,
    pool,
    position,
    venue,
    view,
)
from tests.fake_node import FakeClock
from tests.plans import make_quote
from tests.unit.test_engine import Heads, Sender, Shelf, tick

PAIR = FakeTerms(WETH, USDC, 10_000 * 10**6)
RULES = PlanRules("test", CONTRACT, Wei(GWEI))
PRICE = (Wei(GWEI), Wei(300 * GWEI), 1_300)


class Bold:
    """Wants everything, and pays what it costs."""

    minimum = USD

    def __init__(self) -> None:
        self.asked = 0

    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        """Choose every pair."""
        for risk in view.at_risk:
            yield Opportunity(risk.position, risk.pairs, risk.cause)

    def limits(self, opportunity: Opportunity, view: View) -> Limits:
        """Allow all that brings the minimum."""
        return Limits(Usd(self.minimum))

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Pay the price."""
        self.asked += 1
        return Bid(*PRICE)


class Shy(Bold):
    """Wants everything, and bids for nothing."""

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Decline."""
        self.asked += 1
        held = quote.opportunity.position
        return Skip(held.market, held.protocol, held.borrower, Reason.GAS_CAP, "too dear")


class Liar(Bold):
    """Wants everything, and bids more for it than it brings."""

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Offer a tip of ten thousand ether."""
        return Bid(*PRICE, tip=Wei(10**22))


class Late(Bold):
    """Wants everything, and does not answer when it is to bid."""

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Take too long."""
        self.asked += 1
        raise TransientError("no answer within the deadline")


class Fickle(Bold):
    """Wants everything, and declines one position more whenever all are bid for anew."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0
        self._heard: set[bytes] = set()

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Decline the first of each round."""
        held = quote.opportunity.position
        if self._heard and held.borrower not in self._heard:
            self._heard.add(held.borrower)
            return Bid(*PRICE)
        self.rounds += 1
        self._heard = {held.borrower}
        return Skip(held.market, held.protocol, held.borrower, Reason.GAS_CAP, "not now")


class Picky(Bold):
    """Wants what leaves much before it shares any cost, and refuses it when it has to."""

    minimum = 480 * USD


class Through(Sender):
    """An executor that lets every plan pass."""

    async def screen(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Refuse nothing."""
        return list(plans), []


async def decide(*strategies: Bold, count: int = 1) -> tuple[Report, list[Plan]]:
    """Return what a head with some positions at risk comes to, the strategies asked in order."""
    positions = [position(number, PAIR) for number in range(count)]
    seen = view(*(AtRisk(each, (PAIR,), (), Cause.PRICE) for each in positions))
    heads, shelf, sender, reports = Heads([tick(100)]), Shelf(), Through(), list[Report]()

    async def look(next_block: object, deadline_ms: int) -> tuple[View, list[Skip]]:
        return replace(seen, deadline_ms=1_000), []

    async def prove(plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        return list(plans), []

    shelf.view = look  # type: ignore[method-assign]
    sender.prove = prove  # type: ignore[attr-defined]
    strategist = Strategist(
        [Seat(f"{place}-{type(each).__name__}", each) for place, each in enumerate(strategies)],
        lambda error: pytest.fail(str(error)),
    )
    pools = venue(pool(1, WETH, USDC, 500, 50_000_000))
    planner = Planner(RULES, {"uniswap": pools}, {MARKET: FakeLender()}, lambda: "plan")  # type: ignore[dict-item]
    parts: dict[str, Any] = {"listener": heads, "reader": None, "book": shelf, "prover": sender}
    engine = Engine(
        **parts,
        strategist=strategist,
        planner=planner,
        executor=sender,
        clock=FakeClock(),
        block_time=12,
        deadline_ms=1_000,
        tell=reports.append,
        on_undecided=lambda head, error: pytest.fail(f"{head.number}: {error!r}"),
    )
    await engine.tick(await heads.next())
    strategist.close()
    (report,) = reports
    return report, sender.sent


def by(plans: Sequence[Plan]) -> set[str]:
    """Return whose positions were planned."""
    return {quote.opportunity.strategy for plan in plans for quote in plan.quotes}


@pytest.mark.parametrize("first", [Shy, Liar, Late])
async def test_who_does_not_pay_gives_way_to_whom_it_outbid(first: type[Bold]) -> None:
    report, sent = await decide(first(), Bold(), count=2)
    assert by(sent) == {"1-Bold"}
    assert sum(len(plan.quotes) for plan in sent) == 2
    names = {skip.strategy for skip in report.skips}
    assert names == {f"0-{first.__name__}"}, "and nobody is told to be outbid"
    assert len(report.skips) == 2


async def test_who_is_short_once_costs_are_shared_gives_way() -> None:
    alone, _ = await decide(Bold())
    net = alone.plans[0].quotes[0].net_usd
    picky = Picky()
    picky.minimum = net + USD
    report, sent = await decide(picky, Bold())
    assert by(sent) == {"1-Bold"}
    assert [(skip.strategy, skip.reason) for skip in report.skips] == [
        ("0-Picky", Reason.UNPROFITABLE)
    ]


async def test_who_did_not_answer_is_not_asked_again_for_the_head() -> None:
    late = Late()
    _, sent = await decide(late, Bold(), count=3)
    assert by(sent) == {"1-Bold"}
    assert late.asked == 1, "what it raised at ended its turn"


async def test_one_after_the_other_gives_way() -> None:
    report, sent = await decide(Shy(), Liar(), Bold())
    assert by(sent) == {"2-Bold"}
    assert {skip.strategy for skip in report.skips} == {"0-Shy", "1-Liar"}


async def test_without_another_that_wants_it_nobody_is_asked_twice() -> None:
    shy = Shy()
    report, sent = await decide(shy)
    assert sent == []
    assert shy.asked == 1
    assert [skip.reason for skip in report.skips] == [Reason.GAS_CAP]


def test_a_torn_sequence_is_decided_on_once_more_as_one_call() -> None:
    held = position(1, PAIR)
    made = Choice(Opportunity(held, (PAIR,), Cause.PRICE, "all"), Limits(Usd(1), calls=2))
    whole = make_quote(held.borrower)
    parts = [
        replace(whole, opportunity=replace(made.opportunity), part=part, parts=2)
        for part in range(2)
    ]
    lost = Skip(held.market, held.protocol, held.borrower, Reason.UNPROFITABLE, "", "all")
    found = next_round([made], parts, [lost, lost], set())
    assert found is not None
    (left,), stand = found
    assert left.limits.calls == 1
    assert stand == []
    single = replace(parts[0], parts=1)
    assert next_round([left], [single], [lost], set()) is None


async def test_who_declines_one_after_the_other_does_not_hold_up_the_head() -> None:
    fickle, bold = Fickle(), Bold()
    report, sent = await decide(fickle, bold, count=12)
    assert by(sent) == {"1-Bold"}
    assert sum(len(plan.quotes) for plan in sent) == 12, "and nothing of it is lost"
    assert fickle.rounds == MOST_ROUNDS
    assert Counter((skip.strategy, skip.reason) for skip in report.skips) == {
        ("0-Fickle", Reason.GAS_CAP): MOST_ROUNDS,
        ("0-Fickle", Reason.OUTBID): 12 - MOST_ROUNDS,
    }


async def test_two_that_decline_one_after_the_other_are_asked_a_few_times_more() -> None:
    fickle, other = Fickle(), Fickle()
    report, sent = await decide(fickle, other, count=12)
    assert fickle.rounds <= MOST_ROUNDS
    assert other.rounds <= MOST_ROUNDS + 2
    assert by(sent) == {"1-Fickle"}
    assert sum(len(plan.quotes) for plan in sent) >= 12 - MOST_ROUNDS - other.rounds
    assert len(report.skips) <= 24


def test_who_gives_way_for_the_last_time_keeps_what_nobody_else_wants() -> None:
    def chosen(number: int, name: str, calls: int = 1) -> Choice:
        found = Opportunity(position(number, PAIR), (PAIR,), Cause.PRICE, name)
        return Choice(found, Limits(Usd(1), calls=calls))

    def skipped(choice: Choice, reason: Reason) -> Skip:
        held = choice.opportunity.position
        name = choice.opportunity.strategy
        return Skip(held.market, held.protocol, held.borrower, reason, "", name)

    declined, contested, alone = chosen(1, "a"), chosen(2, "a"), chosen(3, "a", calls=3)
    first, second = chosen(1, "b"), chosen(2, "b")
    choices = [declined, contested, alone, first, second]
    skips = [
        skipped(declined, Reason.GAS_CAP),
        skipped(first, Reason.OUTBID),
        skipped(second, Reason.OUTBID),
    ]
    planned = {contested.opportunity.key, alone.opportunity.key}
    found = next_round(choices, [], skips, planned)
    assert found == ([contested, alone, first, second], [skips[0]])
    found = next_round(choices, [], skips, planned, last=True)
    assert found is not None
    left, stand = found
    assert left == [replace(alone, limits=Limits(Usd(1))), first, second]
    assert [(skip.borrower, skip.reason) for skip in stand] == [
        (declined.opportunity.key[1], Reason.GAS_CAP),
        (contested.opportunity.key[1], Reason.OUTBID),
    ]


def test_who_outbids_only_itself_gives_way_to_nobody() -> None:
    held = position(1, PAIR)
    one, other = (
        Choice(Opportunity(held, (pair,), Cause.PRICE, "a"), Limits(Usd(1)))
        for pair in (PAIR, replace(PAIR, maximum=1))
    )
    skips = [
        Skip(held.market, held.protocol, held.borrower, reason, "", "a")
        for reason in (Reason.GAS_CAP, Reason.OUTBID)
    ]
    assert next_round([one, other], [], skips, set()) is None
