"""Positions that share pools: what is taken together is worth at least what any part of it is."""

import random
from collections.abc import Sequence
from itertools import combinations

import pytest

from keeper.planning.planner import Planner
from keeper.planning.routing import Sales
from keeper.planning.rules import PlanRules
from keeper.types import Quote
from keeper.units import USD, Bps, Wei
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.uniswap_v3.pool import Pool
from tests.fake_market import (
    CONTRACT,
    DAI,
    GWEI,
    MARKET,
    USDC,
    WBTC,
    WETH,
    FakeLender,
    FakeTerms,
    choice,
    pool,
    venue,
    view,
)

RULES = PlanRules("test", CONTRACT, Wei(GWEI))
POOLS = venue(
    pool(1, WETH, USDC, 500, 1_500_000),
    pool(2, WBTC, WETH, 500, 1_000_000),
    pool(3, DAI, USDC, 100, 9_000_000),
)
NEAR = 1.01
"""A sale at the margin can keep a pool from lending cheaply, and orders of few are tried, not of all."""
Numbered = tuple[int, FakeTerms]


def quoted(pairs: Sequence[Numbered], pools: UniswapV3 = POOLS) -> list[Quote]:
    planner = Planner(RULES, {"uniswap": pools}, {MARKET: FakeLender()}, lambda: "plan")  # type: ignore[dict-item]
    return planner.quote(view(), [choice(number, pair) for number, pair in pairs])[0]


def drawn(seed: int) -> list[Numbered]:
    rng = random.Random(seed)
    found = []
    for number in range(1, 5):
        debt = rng.choice((USDC, DAI))
        repay = int(10 ** rng.uniform(3.3, 4.9)) * 10**debt.decimals
        bonus = Bps(rng.choice((10_250, 10_500, 10_800)))
        partial = rng.choice((None, repay // 2))
        found.append((number, FakeTerms(rng.choice((WETH, WBTC)), debt, repay, bonus, partial)))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_no_part_of_the_crowd_is_worth_more_than_the_plan_for_all(seed: int) -> None:
    pairs = drawn(seed)
    whole = sum(quote.net_usd for quote in quoted(pairs))
    assert whole > 0
    for count in (1, 2, 3):
        for some in combinations(pairs, count):
            part = sum(quote.net_usd for quote in quoted(some))
            assert part <= whole * NEAR, (seed, [number for number, _ in some])


def test_every_sale_is_priced_behind_those_it_meets() -> None:
    pairs = [
        (number, FakeTerms(sold, debt, 1_000 * 10**debt.decimals))
        for number, (sold, debt) in enumerate(
            ((WETH, USDC), (WBTC, USDC), (WETH, DAI), (WBTC, DAI)) * 3, start=1
        )
    ]
    quotes = quoted(pairs)
    assert len(quotes) == len(pairs)
    sales = Sales({"uniswap": POOLS})
    lanes: dict[tuple[bytes, bytes], list[Quote]] = {}
    for quote in quotes:
        terms = quote.steps[0].terms
        lanes.setdefault((terms.collateral.address, terms.debt.address), []).append(quote)
    brought = estimated = 0
    for held in lanes.values():
        assert len({quote.routes for quote in held}) == 1, "one sale a lane"
        total = sum(quote.steps[0].seizure.received for quote in held)
        unit = 10 ** (18 - held[0].debt.decimals)
        brought += sales.apply_split(held[0].routes, total) * unit
        estimated += sum(quote.proceeds for quote in held) * unit
    assert estimated == pytest.approx(brought, rel=1e-6)


def ranged(number: int, width: int, liquidity: int) -> Pool:
    """Return a pool of WETH and USDC with nothing beyond so many ticks from its price."""
    made = pool(number, WETH, USDC, 3_000, 1_000_000)
    middle = made.at.tick // 60 * 60
    made.ticks.clear()
    made.order.clear()
    made.add_liquidity(middle - width, liquidity, liquidity)
    made.add_liquidity(middle + width, liquidity, -liquidity)
    made.at = made.at._replace(liquidity=liquidity)
    return made


@pytest.mark.parametrize(
    "pools",
    [
        venue(ranged(1, 240, 10**17), ranged(2, 360, 10**17)),
        # The first is filled at any price; the other ends at a good one.
        venue(pool(1, WETH, USDC, 500, 200_000), ranged(2, 600, 10**17)),
    ],
)
def test_no_more_is_sold_than_pools_can_take(pools: UniswapV3) -> None:
    pairs = [
        (number, FakeTerms(WETH, USDC, usd * 10**6, Bps(10_800), usd * 10**6 - 1))
        for number, usd in ((1, 900_000), (2, 400_000), (3, 2_000))
    ]
    whole = quoted(pairs, pools)
    total = sum(quote.steps[0].seizure.received for quote in whole)
    assert sum(quote.net_usd for quote in whole) > 4_000 * USD
    assert all(quote.routes for quote in whole)
    brought = Sales({"uniswap": pools}).apply_split(whole[0].routes, total)
    assert sum(quote.proceeds for quote in whole) == pytest.approx(brought, rel=1e-6)
    for number, pair in pairs:
        alone = quoted([(number, pair)], pools)
        assert sum(quote.net_usd for quote in alone) <= NEAR * sum(quote.net_usd for quote in whole)
