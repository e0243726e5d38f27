"""Strategies off the loop: deadlines, faults, and two that want one position."""

import threading
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from keeper.errors import PluginError
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
