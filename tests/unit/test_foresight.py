"""What may be sold soon is asked for ahead, and refused offers are told of once."""

from collections import Counter
from dataclasses import replace
from typing import Any, cast

from structlog.testing import capture_logs

from keeper.app.foresight import Foresight, fallen
from keeper.book.book import Book
from keeper.ports import LendingProtocol, Offering
from keeper.types import NextBlock, Position, Prices
from keeper.units import USD, WAD, Wad, Wei
from tests.fake_market import MARKET, USDC, VALUES, WETH, FakeTerms, position

AT = NextBlock(2, 24, Wei(0))
TERMS = FakeTerms(WETH, USDC, 10**9)
PRICES = Prices(MARKET, USD, {token.address: price for token, price in VALUES.items()})


class Desk:
    """A venue that notes what is wanted."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.wanted: list[tuple[bytes, bytes, int]] = []

    def want(self, sold: bytes, bought: bytes, amount: int) -> None:
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
    """A book of one position."""

    def __init__(self, market: Market) -> None:
        self.markets = {MARKET: market}

    async def positions(self, at: NextBlock, below: float, limit: int) -> list[Position]:
        del below, limit
        return [self.markets[MARKET].position(b"", PRICES, at)]


def test_the_price_that_takes_a_position_is_just_below_one() -> None:
    market = Market(WAD * 102 // 100)
    protocol = cast("LendingProtocol", market)
    near = market.position(b"", PRICES, AT)
    assert list(fallen(protocol, near, PRICES, AT)) == [TERMS]
    under = Market(WAD * 99 // 100)
    assert list(fallen(cast("LendingProtocol", under), under.position(b"", PRICES, AT), PRICES, AT))


async def test_a_sale_is_wanted_ahead_and_each_reason_told_once() -> None:
    desk = Desk()
    book = cast("Book", Near(Market(WAD * 101 // 100)))
    foresight = Foresight("chain", book, {"offers": cast("Offering", desk)})
    desk.refused["late"] += 1
    with capture_logs() as told:
        await foresight.look(AT)
        desk.refused["late"] += 1
        await foresight.look(AT)
    assert [(each["event"], each["venue"], each["why"]) for each in told] == [
        ("offer.refused", "offers", "late")
    ]
    sold = TERMS.seize(TERMS.maximum).received
    assert desk.wanted == [(WETH.address, USDC.address, sold)] * 2
