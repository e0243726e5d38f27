"""Pools that are left out: dust, and prices that somebody moved."""

from dataclasses import replace

import pytest

from keeper.config.routing import Routing
from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.types import Quote, Reason, Skip
from keeper.units import USD, Usd, Wei
from keeper.venues.uniswap_v3.pool import Pool
from keeper.venues.uniswap_v3.tick_math import tick_at_sqrt_ratio
from tests.fake_market import (
    CONTRACT,
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
FAIR = pool(1, WETH, USDC, 3_000, 50_000_000)
PAIR = FakeTerms(WETH, USDC, 10_000 * 10**6)


def moved(number: int, percent: int) -> Pool:
    """Return a deep pool whose price of WETH is so much above the oracle's."""
    made = pool(number, WETH, USDC, 500, 50_000_000)
    factor = 100 + percent if made.token0 == WETH.address else 10_000 / (100 + percent)
    root = int(made.at.price * (factor / 100) ** 0.5)
    made.at = made.at._replace(price=root, tick=tick_at_sqrt_ratio(root))
    return made


def quote(*pools: Pool, rules: PlanRules = RULES) -> tuple[list[Quote], list[Skip]]:
    markets = {MARKET: FakeLender()}
    planner = Planner(rules, {"uniswap": venue(*pools)}, markets, lambda: "plan")  # type: ignore[arg-type]
    return planner.quote(view(), [choice(1, PAIR)])


@pytest.mark.parametrize("percent", [25, -25])
def test_a_pool_far_off_the_oracle_is_left_out(percent: int) -> None:
    alone, (skip,) = quote(moved(2, percent))
    assert alone == []
    assert skip.reason is Reason.NO_ROUTE
    assert "bps off the oracle" in skip.detail
    (beside,), _ = quote(moved(2, percent), FAIR)
    assert {hop.pool for hop in beside.hops} == {FAIR.address}


def test_the_bound_is_the_operators() -> None:
    near = moved(2, 15)
    (kept,), _ = quote(near, FAIR)
    assert near.address in {hop.pool for hop in kept.hops}
    strict = Routing(pool_deviation_bps=1_000)
    (without,), _ = quote(near, FAIR, rules=replace(RULES, deviation=strict.pool_deviation))
    assert {hop.pool for hop in without.hops} == {FAIR.address}
    free = Routing(pool_deviation_bps=0, least_depth_usd=0)
    assert (free.pool_deviation, free.least_depth) == (None, None)
    (gift,), _ = quote(moved(2, 60), FAIR, rules=replace(RULES, deviation=None))
    assert FAIR.address not in {hop.pool for hop in gift.hops}


def test_dust_is_left_out() -> None:
    alone, (skip,) = quote(pool(2, WETH, USDC, 500, 600))
    assert alone == []
    assert "is dust" in skip.detail
    small = replace(RULES, least_depth=Usd(100 * USD))
    _, (cheap,) = quote(pool(2, WETH, USDC, 500, 600), rules=small)
    assert cheap.reason is Reason.UNPROFITABLE


def test_a_hop_of_a_longer_route_is_judged_alone() -> None:
    pair = FakeTerms(WBTC, USDC, 10_000 * 10**6)
    markets = {MARKET: FakeLender()}
    pools = (pool(3, WBTC, WETH, 500, 50_000_000), moved(2, 30), FAIR)
    planner = Planner(RULES, {"uniswap": venue(*pools)}, markets, lambda: "plan")  # type: ignore[arg-type]
    (found,), _ = planner.quote(view(), [choice(1, pair)])
    assert [hop.pool for hop in found.hops] == [pools[0].address, FAIR.address]
