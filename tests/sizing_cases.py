"""Positions and pools drawn from seeds, as the planner sees them and as the brute force does."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.protocols.aave_v3.terms import AaveTerms
from keeper.types import Cause, CollateralLeg, DebtLeg, Limits, Opportunity, Position, Token
from keeper.units import USD, Address, Bps, Usd, Wad, Wei
from keeper.venues.uniswap_v2 import UniswapV2
from keeper.venues.uniswap_v2.pair import Pair
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.uniswap_v3.pool import Point, Pool
from keeper.venues.uniswap_v3.tick_math import tick_at_sqrt_ratio
from tests.brute.curves import ConstantProduct, Curve, Ticked
from tests.brute.debtor import Debtor
from tests.brute.search import Best, premium_up
from tests.fake_market import (
    CONTRACT,
    FACTORY,
    MARKET,
    SPACINGS,
    FakeChoice,
    FakeLender,
    borrower,
    token,
    view,
)

RAY = 10**27
DECIMALS = ((18, 6), (8, 6), (18, 18), (6, 18), (8, 18))
RULES = PlanRules(
    "test", CONTRACT, Wei(0), max_hops=1, toxic_parts=True, deviation=None, least_depth=None
)


@dataclass(frozen=True)
class Case:
    """One position, pools in both shapes, and what a loan costs in millionths."""

    debtor: Debtor
    terms: AaveTerms
    curves: tuple[Curve, ...]
    venues: tuple[UniswapV2 | UniswapV3, ...]
    premium: int
    prices: dict[Token, int]

    def planned(self) -> Best:
        """Return what the planner repays and earns before gas, which is free here."""
        pair = self.terms
        who = self.debtor
        held = CollateralLeg(
            pair.collateral, who.balance, who.collateral_value(), Bps(who.threshold), pair.bonus
        )
        position = Position(
            MARKET,
            "aave-v3",
            borrower(1),
            (held,),
            (DebtLeg(pair.debt, who.owed, who.debt_value()),),
            who.collateral_value(),
            who.debt_value() + who.other_debt,
            Wad(who.health()),
        )
        opportunity = Opportunity(position, (pair,), Cause.PRICE, "profitability")
        lender: Any = FakeLender(fee_ppm=self.premium, available={pair.debt.address: 10**40})
        venues: dict[str, Any] = {venue.name: venue for venue in self.venues}
        planner = Planner(RULES, venues, {MARKET: lender}, lambda: "plan")
        choice = FakeChoice(opportunity, Limits(Usd(0)))
        quotes, _ = planner.quote(view(values=self.prices, base_fee=0), [choice])
        if not quotes:
            return Best(0, 0)
        (quote,) = quotes
        (step,) = quote.steps
        # The margin for interest is borrowed on top of a full close: no size's merit.
        premium = premium_up(quote.repaid, quote.flash.fee_ppm)
        profit = quote.proceeds - quote.repaid - premium
        if len(self.curves) == 1:
            assert quote.proceeds == self.curves[0].out(step.seizure.received)
        assert quote.repaid <= step.repay
        return Best(step.repay, profit)


def tokens_of(rng: random.Random, decimals: tuple[int, int]) -> tuple[Token, Token]:
    """Return collateral and debt in either order of addresses."""
    first, second = rng.sample([1, 2], 2)
    return token(first, "COLL", decimals[0]), token(second, "DEBT", decimals[1])


def debtor_of(
    rng: random.Random, decimals: tuple[int, int], prices: tuple[int, int], size: float
) -> Debtor:
    """Return a liquidatable borrower with about so many dollars of collateral."""
    units = 10 ** decimals[0], 10 ** decimals[1]
    threshold = rng.randint(5_000, 9_300)
    health = rng.choice([rng.uniform(0.951, 0.9999), rng.uniform(0.5, 0.95)])
    owed = size * threshold / 10_000 / health
    return Debtor(
        balance=max(int(size * USD * units[0]) // prices[0], 1),
        owed=max(int(owed * USD * units[1]) // prices[1], 1),
        collateral_price=prices[0],
        debt_price=prices[1],
        collateral_unit=units[0],
        debt_unit=units[1],
        bonus=rng.randint(10_100, 11_500),
        fee=rng.choice([0, 1_000, 2_000]),
        threshold=threshold,
        other_debt=rng.choice([0, 0, int(owed * USD * rng.random())]),
    )


def terms_of(debtor: Debtor, collateral: Token, debt: Token) -> AaveTerms:
    """Return the keeper's terms of the same borrower."""
    return AaveTerms(
        collateral,
        debt,
        Bps(debtor.bonus),
        Bps(debtor.fee),
        debtor.collateral_price,
        debtor.debt_price,
        debtor.collateral_unit,
        debtor.debt_unit,
        debtor.balance,
        debtor.balance,
        RAY,
        debtor.owed,
        RAY,
        2**200,
        debtor.cap(),
    )


def ticked(rng: random.Random, reserves: tuple[float, float], pair: tuple[Token, Token]) -> Pool:
    """Return a pool of up to four ranges around the price of its reserves (token0, token1)."""
    fee = rng.choice([100, 500, 3_000, 10_000])
    spacing = SPACINGS[fee]
    root = int((reserves[1] / reserves[0]) ** 0.5 * 2**96)
    tick = tick_at_sqrt_ratio(root)
    first, second = sorted(each.address for each in pair)
    made = Pool(Address(b"\xb0" * 20), first, second, fee, spacing)
    edge = 887_272 // spacing * spacing
    ranges = [(-edge, edge)]
    for _ in range(rng.randint(0, 3)):
        low = (tick + rng.randint(-8_000, 4_000)) // spacing * spacing
        ranges.append((low, low + spacing * rng.randint(1, 8_000 // spacing)))
    active = 0
    for low, high in ranges:
        liquidity = int((reserves[0] * reserves[1]) ** 0.5 * rng.uniform(0.2, 3))
        made.add_liquidity(low, liquidity, liquidity)
        made.add_liquidity(high, liquidity, -liquidity)
        active += liquidity if low <= tick < high else 0
    made.at = Point(root, tick, active)
    made.balance0 = made.balance1 = 2**120
    return made


def draw(rng: random.Random, pools: int = 1) -> Case:
    """Return a random case: any decimals, prices, depths, sizes and rules, one pool or two."""
    decimals = rng.choice(DECIMALS)
    collateral, debt = tokens_of(rng, decimals)
    # The smallest unit is worth a tenth of a cent at most, as one of WBTC is at 100,000 dollars.
    dear = [min(13, 5 + each) for each in decimals]
    prices = (
        int(10 ** rng.uniform(6, dear[0])),
        rng.choice([USD, int(10 ** rng.uniform(7, dear[1]))]),
    )
    size = 10 ** rng.uniform(2.5, 7.5)
    debtor = debtor_of(rng, decimals, prices, size)
    kinds = [rng.random() < 0.3] if pools == 1 else [True, False]
    made = [pool_of(rng, size, debtor, (collateral, debt), is_pair=kind) for kind in kinds]
    return Case(
        debtor,
        terms_of(debtor, collateral, debt),
        tuple(curve for _, curve in made),
        tuple(venue for venue, _ in made),
        rng.choice([0, 500, 900]),
        dict(zip((collateral, debt, token(9, "WETH", 18)), (*prices, 2_000 * USD), strict=True)),
    )


def pool_of(
    rng: random.Random, size: float, debtor: Debtor, pair: tuple[Token, Token], *, is_pair: bool
) -> tuple[UniswapV2 | UniswapV3, Curve]:
    """Return a pool as a venue and as a curve, from a tenth of a position's size to hundreds of it."""
    depth = size * 10 ** rng.uniform(-1, 2.5)
    sold = depth * USD * debtor.collateral_unit / debtor.collateral_price
    bought = depth * rng.uniform(0.98, 1.02) * USD * debtor.debt_unit / debtor.debt_price
    if is_pair:
        fee = rng.choice([2_500, 3_000])
        return pair_of(*pair, int(sold) + 1, int(bought) + 1, fee)
    ordered = pair[0].address < pair[1].address
    pool = ticked(rng, (sold, bought) if ordered else (bought, sold), pair)
    venue = UniswapV3("uniswap", FACTORY, [each.address for each in pair])
    venue.adopt([pool])
    net = {number * pool.spacing: change for number, (_, change) in pool.ticks.items()}
    most = debtor.balance
    return venue, Ticked(*pool.at, net, pool.spacing, pool.fee, token0=ordered, most=most)


def pair_of(
    collateral: Token, debt: Token, sold: int, bought: int, fee: int
) -> tuple[UniswapV2, ConstantProduct]:
    """Return a constant-product pair as a venue and as a curve."""
    tokens = sorted([collateral.address, debt.address])
    reserves = (sold, bought) if collateral.address == tokens[0] else (bought, sold)
    venue = UniswapV2("pairs", FACTORY, FACTORY, tokens, CONTRACT, fee)
    venue.adopt([Pair(Address(b"\xb1" * 20), tokens[0], tokens[1], reserves)])
    return venue, ConstantProduct(sold, bought, fee)


def draw_small(rng: random.Random) -> Case:
    """Return a case whose every repay can be tried: a pair of at most 100,000 units."""
    collateral, debt = tokens_of(rng, (1, 1))
    prices = rng.randint(5 * USD, 20 * USD), rng.randint(5 * USD, 20 * USD)
    debtor = debtor_of(rng, (1, 1), prices, 10 ** rng.uniform(3, 4))
    sold = rng.randint(20_000, 100_000)
    bought = min(int(sold * prices[0] / prices[1] * rng.uniform(0.97, 1.05)), 100_000)
    venue, curve = pair_of(collateral, debt, sold, bought, 3_000)
    terms = terms_of(debtor, collateral, debt)
    named = (collateral, debt, token(9, "WETH", 18))
    values = dict(zip(named, (*prices, 2_000 * USD), strict=True))
    return Case(debtor, terms, (curve,), (venue,), 0, values)


def every_wei(case: Case) -> Best:
    """Return the best of every repay there is, checked against the rules one more time."""
    (curve,) = case.curves
    assert isinstance(curve, ConstantProduct)
    covers = np.arange(1, case.debtor.cap() + 1, dtype=np.int64)
    repaid, received, legal = case.debtor.small_calls(covers)
    worth = np.where(legal, curve.small_outs(received) - repaid, 0)
    best = int(np.argmax(worth))
    if worth[best] <= 0:
        return Best(0, 0)
    done = case.debtor.call(int(covers[best]))
    assert done is not None
    assert curve.out(done.received) - done.repaid == worth[best]
    return Best(int(covers[best]), int(worth[best]))
