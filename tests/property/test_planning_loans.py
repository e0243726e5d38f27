"""No transaction borrows from a pool that one of its sales goes through: it would find it locked."""

import random

import pytest

from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.types import FlashKind
from keeper.units import USD, Wei
from keeper.venues.uniswap_v3.pool import Pool
from tests.fake_market import (
    CONTRACT,
    DAI,
    GWEI,
    MARKET,
    USDC,
    VALUES,
    WBTC,
    WETH,
    FakeChoice,
    FakeLender,
    FakeTerms,
    choice,
    pool,
    venue,
    view,
)

PAIRS = ((WETH, USDC), (WETH, DAI), (WBTC, WETH), (WBTC, USDC), (DAI, USDC))
RULES = PlanRules("test", CONTRACT, Wei(GWEI), deviation=None, least_depth=None)
MOVING = (96, 306)
"""Scenes in which a loan moves to a pool that the last division of a sale would take up again."""


def wanted(rng: random.Random) -> list[FakeChoice]:
    """Return some positions, of which some ask for more than they can bring."""
    found = []
    for number in range(1, rng.randint(2, 6)):
        collateral, debt = rng.sample([WETH, USDC, WBTC, DAI], 2)
        dollars = int(10 ** rng.uniform(2.5, 5.8))
        repay = dollars * USD * 10**debt.decimals // VALUES[debt]
        least = USD if rng.random() < 0.6 else 10**9 * USD
        found.append(choice(number, FakeTerms(collateral, debt, repay), minimum=least))
    return found


@pytest.mark.parametrize("seed", [*MOVING, *range(4)])
def test_a_pool_lends_or_sells_and_never_both(seed: int) -> None:
    rng = random.Random(seed)
    pools: list[Pool] = []
    for one, other in PAIRS:
        for fee in (100, 500, 3_000):
            if rng.random() < 0.55:
                depth = int(10 ** rng.uniform(4.5, 7.5))
                pools.append(pool(len(pools) + 1, one, other, fee, depth))
    choices = wanted(rng)
    lender = FakeLender(fee_ppm=rng.choice([500, 900, 5_000]))
    planner = Planner(RULES, {"uniswap": venue(*pools)}, {MARKET: lender}, lambda: "plan")  # type: ignore[dict-item]
    quotes, _ = planner.quote(view(base_fee=rng.choice([1, 10]) * GWEI), choices)
    lent = {q.flash.source for q in quotes if q.flash.kind is FlashKind.UNISWAP_V3}
    sold = {hop.pool for quote in quotes for hop in quote.hops}
    assert not lent & sold
    assert lent or seed not in MOVING
