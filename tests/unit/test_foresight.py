"""What may be sold soon is asked for ahead, and refused offers are told of once."""

from collections import Counter
from dataclasses import replace
from typing import Any, cast

from structlog.testing import capture_logs

from keeper.app.foresight import Foresight, fallen
from keeper.book.book import Book
from keeper.planning.rules import PlanRules
from keeper.ports import LendingProtocol, Offering
from keeper.types import AtRisk, Cause, NextBlock, Position, Prices
from keeper.units import USD, WAD, Usd, Wad, Wei
from tests.fake_market import (
    CONTRACT,
    MARKET,
    USDC,
    VALUES,
    WETH,
    FakeTerms,
    position,
    view,
)

AT = NextBlock(2, 24, Wei(0))
TERMS = FakeTerms(WETH, USDC, 10**9)
RULES = PlanRules("chain", CONTRACT, Wei(1))
PRICES = Prices(MARKET, USD, {token.address: price for token, price in VALUES.items()})


class Desk:
    """A venue that notes what is wanted."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.wanted: list[tuple[bytes, bytes, int]] = []

    def want(self, sold: bytes, bought: bytes, amount: int, *, is_foreseen: bool = False) -> None:
        assert is_foreseen
        self.wanted.append((sold, bought, amount))


class Market:
    """A market in which health goes with the collateral's price, near one at present."""

    def __init__(self, health: int) -> None:
        self.health = health
        self.protocol = self
        self.prices = PRICES

    def position(self, borrower: bytes, prices: Prices, at: NextBlock) -> Position:
        del borrower, at
        price = prices.values[WETH.address]
        health = Wad(self.health * price // VALUES[WETH])
        return replace(position(1, TERMS), health=health)

    def pairs(self, of: Position, prices: Prices, at: NextBlock) -> tuple[list[Any], list[Any]]:
        del prices, at
        return ([TERMS] if of.health < WAD else []), []


class Near:
    """A book of one market's positions, the riskiest first."""

    def __init__(self, market: Market, *fallen: Position) -> None:
        self.markets = {MARKET: market}
        self.fallen = fallen

    async def positions(self, at: NextBlock, below: float, limit: int) -> list[Position]:
        del below
        near = self.markets[MARKET].position(b"", PRICES, at)
        return [*self.fallen, near][:limit]


def looking(desk: Desk, book: Near, rules: PlanRules = RULES) -> Foresight:
    offering = {"offers": cast("Offering", desk)}
    return Foresight("chain", cast("Book", book), offering, lambda: rules)


def test_the_price_that_takes_a_position_is_just_below_one() -> None:
    market = Market(WAD * 102 // 100)
    protocol = cast("LendingProtocol", market)
    near = market.position(b"", PRICES, AT)
    found = fallen(protocol, near, PRICES, AT)
    assert found is not None
    assert found.pairs == (TERMS,)
    assert WAD * 999 // 1000 < found.position.health < WAD


async def test_what_has_fallen_is_left_to_planning_and_hides_nothing_behind_it() -> None:
    under = position(2, TERMS)
    assert under.health < WAD
    desk, market = Desk(), Market(WAD * 101 // 100)
    many = [under] * 20
    at_risk = [AtRisk(each, (TERMS,), (), Cause.PRICE) for each in many]
    await looking(desk, Near(Market(WAD * 99 // 100))).look(view())
    assert desk.wanted == []
    await looking(desk, Near(market, *many)).look(view(*at_risk))
    assert len(desk.wanted) == 1


async def test_no_more_is_wanted_than_the_rules_let_planning_sell() -> None:
    desk, book = Desk(), Near(Market(WAD * 101 // 100))
    half = replace(RULES, largest_repay=Usd(500 * USD))
    await looking(desk, book, half).look(view())
    assert desk.wanted == [(WETH.address, USDC.address, TERMS.seize(TERMS.maximum // 2).received)]
    denied = replace(RULES, excluded=lambda *_: "denied")
    await looking(desk, book, denied).look(view())
    assert len(desk.wanted) == 1


async def test_a_sale_is_wanted_ahead_and_each_reason_told_once() -> None:
    desk = Desk()
    foresight = looking(desk, Near(Market(WAD * 101 // 100)))
    desk.refused["late"] += 1
    with capture_logs() as told:
        await foresight.look(view())
        desk.refused["late"] += 1
        await foresight.look(view())
    assert [(each["event"], each["venue"], each["why"]) for each in told] == [
        ("offer.refused", "offers", "late")
    ]
    sold = TERMS.seize(TERMS.maximum).received
    assert desk.wanted == [(WETH.address, USDC.address, sold)] * 2
