"""Strategies off the loop: deadlines, faults, and two that want one position."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import BaseModel

from keeper.errors import PluginError, TransientError
from keeper.strategist import STUCK_ROUNDS, Seat, Strategist
from keeper.types import (
    AtRisk,
    Bid,
    Cause,
    FlashKind,
    FlashSource,
    Head,
    Limits,
    Opportunity,
    Position,
    Quote,
    Reason,
    Skip,
    Token,
    View,
)
from keeper.units import Address, Hash, Usd, Wad, Wei

TOKEN = Token(Address(b"\x01" * 20), "TKN", 18)
HEAD = Head(1, Hash(b"\x11" * 32), Hash(b"\x10" * 32), 12, Wei(10**9), 0, 30_000_000)


def position(number: int) -> Position:
    borrower = Address(number.to_bytes(20, "big"))
    return Position("aave", "aave-v3", borrower, (), (), 0, 0, Wad(9 * 10**17))


def view(count: int) -> View:
    risks = tuple(AtRisk(position(i), (), (), Cause.PRICE) for i in range(count))
    return View("test", HEAD, HEAD.next_block(12), risks, {}, {}, TOKEN, deadline_ms=500)


def quote(strategy: str, number: int, net: int) -> Quote:
    flash = FlashSource(FlashKind.AAVE, TOKEN.address, TOKEN.address, 10**30, 500)
    opportunity = Opportunity(position(number), (), Cause.PRICE, strategy)
    return Quote(opportunity, (), (), flash, TOKEN, 0, 0, 0, 0, 0, net, Usd(net), 1, Usd(net))


def no_fault(error: PluginError) -> None:
    pytest.fail(str(error))


class Everything:
    class Config(BaseModel):
        pass

    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        for risk in view.at_risk:
            yield Opportunity(risk.position, risk.pairs, risk.cause)

    def limits(self, opportunity: Opportunity, view: View) -> Limits:
        return Limits(Usd(1))

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        return Bid(Wei(1), Wei(2), 3)


class Broken(Everything):
    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        raise ZeroDivisionError("one by none")


class Halting(Everything):
    """Bids until it is asked about the third position, and stops there."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.asked = 0

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        self.asked += 1
        if self.asked == 3:
            self.halt()
        return Bid(Wei(1), Wei(2), 3)

    def halt(self) -> None:
        self.release.wait(5)


class Missing(Halting):
    def halt(self) -> None:
        raise TransientError("no answer within 5 ms")


class Lying(Halting):
    def halt(self) -> None:
        raise ZeroDivisionError("one by none")


class Stuck(Everything):
    def __init__(self) -> None:
        self.release = threading.Event()

    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        self.release.wait()
        return iter(())


async def test_a_choice_carries_its_strategy_and_limits() -> None:
    strategist = Strategist([Seat("all", Everything())], no_fault)
    choices, skips = await strategist.select(view(3))
    assert [choice.opportunity.strategy for choice in choices] == ["all"] * 3
    assert {choice.limits.minimum_profit for choice in choices} == {1}
    assert skips == []
    strategist.close()


async def test_a_seat_sees_only_its_markets() -> None:
    seat = Seat("other", Everything(), markets=frozenset({"elsewhere"}))
    strategist = Strategist([seat], no_fault)
    assert await strategist.select(view(3)) == ([], [])
    strategist.close()


async def test_a_fault_disables_one_strategy_and_leaves_the_other() -> None:
    faults: list[PluginError] = []
    strategist = Strategist([Seat("bad", Broken()), Seat("good", Everything())], faults.append)
    choices, _ = await strategist.select(view(2))
    assert {choice.opportunity.strategy for choice in choices} == {"good"}
    assert strategist.enabled == ("good",)
    assert "one by none" in str(faults[0])
    strategist.close()


async def test_an_overrun_skips_and_a_strategy_that_never_returns_is_disabled() -> None:
    faults: list[PluginError] = []
    stuck = Stuck()
    strategist = Strategist([Seat("slow", stuck), Seat("good", Everything())], faults.append)
    choices, skips = await strategist.select(view(2))
    assert {skip.reason for skip in skips} == {Reason.TIMEOUT}
    assert len(choices) == 2
    for _ in range(STUCK_ROUNDS):
        choices, _ = await strategist.select(view(2))
        assert len(choices) == 2
    assert strategist.enabled == ("good",)
    assert faults[0].plugin == "slow"
    stuck.release.set()
    strategist.close()


@pytest.mark.parametrize("kind", [Halting, Missing])
async def test_bids_made_before_the_deadline_count(kind: type[Halting]) -> None:
    halting = kind()
    strategist = Strategist([Seat("a", halting)], no_fault)
    quotes = [quote("a", number, 100 - number) for number in range(6)]
    bids, skips = await strategist.bid(quotes, replace(view(6), deadline_ms=50))
    assert [each for each, _ in bids] == quotes[:2]
    assert [skip.borrower for skip in skips] == [
        each.opportunity.position.borrower for each in quotes[2:]
    ]
    assert {(skip.reason, skip.strategy) for skip in skips} == {(Reason.TIMEOUT, "a")}
    halting.release.set()
    strategist._threads["a"].shutdown(wait=True)
    assert halting.asked == 3, "what nobody waits for any more is not asked"
    assert strategist.enabled == ("a",)


async def test_no_bid_of_who_is_switched_off_counts() -> None:
    faults: list[PluginError] = []
    strategist = Strategist([Seat("a", Lying())], faults.append)
    quotes = [quote("a", number, 1) for number in range(4)]
    bids, skips = await strategist.bid(quotes, view(4))
    assert bids == []
    assert len(skips) == 4
    assert [fault.plugin for fault in faults] == ["a"]
    strategist.close()
