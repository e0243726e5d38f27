"""Every kind of price a protocol reads follows a shock of the tokens it is made of."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from keeper.app.stress import unheard
from keeper.ports import LegArrays
from keeper.protocols.liquity_v1 import LiquityV1
from keeper.protocols.liquity_v1.events import Contracts
from keeper.protocols.liquity_v1.feed import coin_feed
from keeper.protocols.liquity_v1.ledger import Ledger as Troves, System, Trove
from keeper.protocols.liquity_v1.terms import Deployment as System1
from keeper.protocols.maker_clip import MakerClip, rules
from keeper.protocols.maker_clip.bootstrap import Deployment
from keeper.protocols.maker_clip.feed import collateral_feed
from keeper.protocols.maker_clip.ledger import Kind, Urn
from keeper.protocols.morpho_blue.accounts import key_of, pack
from keeper.protocols.morpho_blue.early import FIRST, EarlyTerms
from keeper.protocols.morpho_blue.ledger import Terms, Totals
from keeper.protocols.morpho_blue.market import MorphoBlue
from keeper.stress.cascade import Cascade, Standing
from keeper.stress.exposure import Exposure
from keeper.stress.moves import dollars, moved
from keeper.stress.pools import Sale
from keeper.stress.shapes import Shape, shocked
from keeper.types import FlashKind, FlashSource, NextBlock, Prices, Token
from keeper.units import RAY, WAD, Address, Hash, Wei, to_hex
from tests.unit.test_dutch_market import FIGURES, ILK

NAMES = tuple(Address(bytes([number]) * 20) for number in range(1, 20))
WETH, WBTC, USDC, DAI = (
    Token(NAMES[10], "WETH", 18),
    Token(NAMES[11], "WBTC", 8),
    Token(NAMES[12], "USDC", 6),
    Token(NAMES[13], "DAI", 18),
)
TOKENS = {each.address: each for each in (WETH, WBTC, USDC, DAI)}
BOB = NAMES[18]
START = 1_700_000_000
AT = NextBlock(2, START, Wei(1))
FEED, COIN = NAMES[7], 2_000 * WAD


EARLY = EarlyTerms(
    contract=NAMES[5],
    id=Hash(bytes([50]) * 32),
    lltv=80 * WAD // 100,
    close_low=WAD // 10,
    close_high=WAD,
    incentive_low=101 * WAD // 100,
    incentive_high=104 * WAD // 100,
    oracle=NAMES[6],
)


def morpho() -> tuple[MorphoBlue, Prices]:
    """Return WETH for USDC, and WETH for WBTC; of collateral, only what oracles say is known."""
    config = MorphoBlue.Config(morpho=NAMES[0], prices=NAMES[1])
    market = MorphoBlue("morpho", config, 0, [EARLY])
    ledger = market._ledger
    values: dict[Address, int] = {USDC.address: 10**8, WBTC.address: 40_000 * 10**8}
    for number, (loan, price, owed) in enumerate(
        ((USDC, 2_000 * 10**24, 1_500 * 10**6), (WBTC, 5 * 10**24, 3_750_000))
    ):
        identity = Hash(bytes([number + 50]) * 32)
        terms = Terms(loan.address, WETH.address, NAMES[2], Address(bytes(20)), 86 * 10**16)
        ledger.create(identity, terms)
        pool = ledger.pools[identity]
        pool.loan, pool.collateral = loan, WETH
        pool.totals = Totals(owed * 2, owed * 2 * 10**6, owed, owed * 10**6, START, 0, 0)
        values[Address(identity)] = price
        ledger.put(pool, key_of(number, BOB), pack(WAD, owed * 10**6))
    market._follow(ledger)
    return market, Prices("morpho", 10**8, values)


def liquity() -> tuple[LiquityV1, Prices]:
    deployment = System1(Contracts(*NAMES[:10]), WETH, DAI, 200 * WAD)
    market = LiquityV1("musd", deployment, coin_feed("musd", FEED, WETH.address, DAI.address))
    ledger = Troves("musd", system=System(rate=0, deposits=10**6 * WAD))
    for who in (BOB, NAMES[17]):
        held = WAD if who == BOB else 100 * WAD
        ledger.troves[who] = Trove(held, 1_500 * WAD, 0, held, 0, START, 0, 0, 0)
    ledger.look_ahead(START)
    market._follow(ledger)
    return market, Prices("musd", WAD, {WETH.address: COIN, DAI.address: WAD})


def maker() -> tuple[MakerClip, Prices]:
    config = MakerClip.Config(clip=to_hex(NAMES[0]), auctioneer=to_hex(NAMES[3]), feed=to_hex(FEED))
    contracts = rules.Contracts(NAMES[0], NAMES[1], NAMES[2], NAMES[3], ILK)
    feed = collateral_feed("maker", FEED, WETH.address, DAI.address)
    market = MakerClip("maker", config, Deployment(contracts, NAMES[4], WETH, DAI), feed)
    market._ledger.kind = Kind(RAY, 2_000 * RAY * 8 // 10, 0)
    market._ledger.urns[BOB] = Urn(WAD, 1_500 * WAD)
    market._figures = FIGURES
    return market, Prices("maker", WAD, {WETH.address: COIN, DAI.address: WAD})


def test_a_shock_moves_the_oracle_of_every_pair_by_the_ratio() -> None:
    market, prices = morpho()
    key, other = (Address(pool.id) for pool in market._ledger.numbered)
    protocol: Any = market
    alone = moved(protocol, prices, {WETH.address: 0.7})
    assert alone.values[key] == pytest.approx(1_400 * 10**24)
    assert alone.values[other] == pytest.approx(35 * 10**23)
    assert alone.values[USDC.address] == 10**8
    both = moved(protocol, prices, {WETH.address: 0.7, WBTC.address: 0.8})
    assert both.values[key] == alone.values[key]
    assert both.values[other] == pytest.approx(5 * 10**24 * 0.7 / 0.8)
    assert both.values[WBTC.address] == 32_000 * 10**8
    assert moved(protocol, prices, {}) == prices


def test_what_no_feed_prices_is_worth_what_a_market_says_of_it() -> None:
    market, prices = morpho()
    found = dollars(cast("Any", market), prices)
    assert found == pytest.approx(
        {USDC.address: 1, WBTC.address: 40_000, WETH.address: 2_000}, rel=1e-12
    )


@pytest.mark.parametrize("made", [morpho, liquity, maker])
@pytest.mark.parametrize("multiple", [0.95, 0.7])
def test_who_falls_in_the_tables_is_who_falls_exactly(made: Any, multiple: float) -> None:
    market, prices = made()
    found = Exposure.of(market, prices, AT)
    now = moved(market, prices, {WETH.address: multiple})
    assert not found.fallen({}).borrowers
    fallen = 0
    for account in found.accounts:
        was, is_now = market.position(account, prices, AT), market.position(account, now, AT)
        assert is_now.health == pytest.approx(was.health * multiple, rel=1e-8)
        fallen += is_now.health < WAD
    assert found.fallen({WETH.address: multiple}).borrowers == fallen
    assert bool(fallen) == (multiple < 0.9)


def test_two_shocks_of_a_pair_weigh_each_side_by_its_own() -> None:
    market, prices = morpho()
    found = Exposure.of(cast("Any", market), prices, AT)
    backing, owed = found.at({WETH.address: 0.7, WBTC.address: 0.8})
    assert backing == pytest.approx([0.7 * 0.86 * 2_000] * 2)
    assert owed == pytest.approx([1_500, 0.8 * 1_500])


def test_an_account_that_shows_another_ones_debt_counts_once() -> None:
    market, prices = morpho()
    alone = Exposure.of(cast("Any", market), prices, AT)
    market._ledger.early[0].authorisers.add(BOB)
    early = key_of(FIRST, BOB)
    at_risk = replace(prices, values={**prices.values, EARLY.contract: 2_000 * 10**24})
    assert early in market.all_legs()().borrowers
    assert market.original(early) == key_of(0, BOB)
    assert market.original(key_of(0, BOB)) is None
    found = Exposure.of(cast("Any", market), at_risk, AT)
    assert found.doubled == 1
    assert (found.accounts, found.unread) == (alone.accounts, 0)
    assert found.fallen({WETH.address: 0.8}) == alone.fallen({WETH.address: 0.8})
    moved_on = moved(cast("Any", market), at_risk, {WETH.address: 0.5})
    assert moved_on.values[EARLY.contract] == 1_000 * 10**24
    standing = [Standing(cast("Any", market), at_risk, found)]
    said = "morpho: 1 positions may be taken in part before they are liquidatable"
    assert said in unheard(standing, ["morpho"], Shape("", ()), TOKENS)[0]


class Market:
    """One borrower, whose collateral nothing is known to move, and one without a price."""

    market, protocol = "odd", "odd"

    def tokens(self) -> Any:
        return {USDC.address: USDC}

    def all_legs(self) -> Any:
        rows = np.array([0, 1])
        return lambda: LegArrays(
            [BOB, NAMES[17]], rows, np.array([0, 2]), np.ones(2), rows, np.array([1, 1]), np.ones(2)
        )

    def factors(self, prices: Prices, at: NextBlock) -> Any:
        del at
        steady = np.array([2_000.0, 0.0, np.nan])
        return steady * 10**8, np.array([0.0, 1_000.0 * prices.values[USDC.address], np.nan])


def test_what_a_shock_does_not_reach_is_said() -> None:
    odd, strange = cast("Any", Market()), Address(b"\xee" * 20)
    prices = Prices("odd", 10**8, {USDC.address: 10**8, strange: 5})
    market, known = morpho()
    standing = [
        Standing(each, its, Exposure.of(each, its, AT))
        for each, its in ((odd, prices), (cast("Any", market), known))
    ]
    shape = Shape("WETH=-30%, DAI=-5%", ({WETH.address: 0.7, DAI.address: 0.95},))
    told = unheard(standing, ["odd", "morpho", "lost"], shape, TOKENS)
    assert told == (
        "lost is left out: its prices were not read",
        f"odd: nobody knows what moves its price 0x{'ee' * 20}, which stands still",
        "odd: 2,000 USD of collateral stand still, whatever moves",
        "odd: 1 of 2 borrowers have something without a price, which counts for nothing",
        "in nobody's position here: DAI",
        "no step of this moves WBTC",
    )


class Street:
    """One pool that pays nine tenths of the old price, and remembers what it was asked."""

    def __init__(self) -> None:
        self.fair: dict[Address, float] = {}

    def best(self, sold: Address, bought: Address, amount: int) -> Sale:
        each = 10 ** (TOKENS[sold].decimals - TOKENS[bought].decimals)
        worth = {WETH.address: 1_800, DAI.address: 1, USDC.address: 1, WBTC.address: 40_000}
        return Sale(amount * worth[sold] // worth[bought] // each, ())

    def sell(self, sale: Sale) -> None: ...

    def price(self, sold: Address, bought: Address, size: int) -> float | None: ...

    def arbitrage(self, values: dict[Address, float], size: object) -> int:
        self.fair = values
        return 0


class Free:
    """Loans and gas for nothing."""

    def lender(self, *_: object) -> FlashSource:
        return FlashSource(FlashKind.NONE, Address(b""), USDC.address, 0, 0)

    def gas_usd_up(self, *_: object) -> int:
        return 0


@pytest.mark.parametrize(("made", "calls"), [(morpho, 2), (liquity, 1), (maker, 1)])
def test_a_cascade_takes_those_whom_a_shock_brings_down(made: Any, calls: int) -> None:
    market, prices = made()
    street = Street()
    standing = [Standing(market, prices, Exposure.of(market, prices, AT))]
    pools, costs = cast("Any", street), cast("Any", Free())
    outcome = Cascade(standing, pools, TOKENS, AT, costs).run(shocked(["WETH=-20%"], TOKENS))
    assert {act.borrower for act in outcome.acts} == {BOB}
    assert len(outcome.acts) == calls
    assert street.fair[WETH.address] * WAD == pytest.approx(1_600), "pools follow the shock"
    if made is not morpho:
        # what was not sold went with its debt to a pool of insurers or to an auction, and covers it
        assert outcome.bad_debt_usd == 0


@pytest.mark.parametrize("made", [liquity, maker])
def test_debt_that_a_pool_or_an_auction_takes_over_is_liquidated_debt(made: Any) -> None:
    market, prices = made()
    standing = [Standing(market, prices, Exposure.of(market, prices, AT))]
    pools, costs = cast("Any", Street()), cast("Any", Free())
    outcome = Cascade(standing, pools, TOKENS, AT, costs).run(shocked(["WETH=-20%"], TOKENS))
    owed = market.position(BOB, prices, AT).debt_value
    assert outcome.repaid_usd == outcome.rounds[0].repaid_usd == prices.usd(owed)


class Slumping(Street):
    """Pools that pay nine tenths of ether's price in dollars, and all of it in DAI, where little is sold."""

    def price(self, sold: Address, bought: Address, size: int) -> float:
        paid = {USDC.address: 0.9, DAI.address: 1.0, WBTC.address: 0.9 / 40_000}[bought]
        return float(paid * 1_600 / 10 ** (TOKENS[sold].decimals - TOKENS[bought].decimals))


def test_sales_weigh_by_what_they_brought_whoever_takes_the_debt() -> None:
    made: list[tuple[Any, Prices]] = [morpho(), liquity()]
    standing: list[Any] = [Standing(each, its, Exposure.of(each, its, AT)) for each, its in made]
    pools, costs = cast("Any", Slumping()), cast("Any", Free())
    outcome = Cascade(standing, pools, TOKENS, AT, costs).run(shocked(["WETH=-20%"], TOKENS))
    assert {act.market for act in outcome.acts} > {"musd"}
    # a trove's sale is of the 200th part of it
    assert outcome.rounds[0].prices[WETH.address] == pytest.approx(0.9 * 1_600, rel=1e-3)
    assert outcome.rounds[0].prices[WETH.address] > 0.9 * 1_600
