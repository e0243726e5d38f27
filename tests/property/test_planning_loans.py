"""No transaction borrows from a pool that one of its sales goes through: it would find it locked."""

import random
from dataclasses import replace

import pytest

from keeper.planning.fitting import sum_loans
from keeper.planning.funding import shut_by
from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.types import Bid, FlashKind
from keeper.units import USD, Wei
from keeper.venues.uniswap_v3.pool import Pool
from tests.fake_market import (
    CONTRACT,
    DAI,
    FACTORY,
    GWEI,
    MARKET,
    TOKENS,
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
from tests.unit.test_planning_funding import Vault

PAIRS = ((WETH, USDC), (WETH, DAI), (WBTC, WETH), (WBTC, USDC), (DAI, USDC))
RULES = PlanRules("test", CONTRACT, Wei(GWEI), deviation=None, least_depth=None)
OWN = (14, 69, 87)
"""Scenes in which own capital repays something, beside a pool, a vault and the market itself."""
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


@pytest.mark.parametrize("seed", OWN)
def test_nothing_is_sold_where_a_lender_shuts_it_and_no_capital_is_spent_twice(seed: int) -> None:
    """With a vault that lends for nothing beside the pools, and some own capital."""
    rng = random.Random(seed)
    sold: list[Pool] = []
    vaulted: list[Pool] = []
    for one, other in PAIRS:
        for fee in (100, 500, 3_000):
            if rng.random() < 0.6:
                depth = int(10 ** rng.uniform(4.5, 7.5))
                made = pool(len(sold) + len(vaulted) + 1, one, other, fee, depth)
                (vaulted if rng.random() < 0.3 else sold).append(made)
    vault = Vault("vault", FACTORY, [token.address for token in TOKENS])
    vault.adopt(vaulted)
    vault.held = int(10 ** rng.uniform(9, 25))
    held = {
        token.address: int(10 ** rng.uniform(3, 6)) * USD * 10**token.decimals // VALUES[token]
        for token in TOKENS
        if rng.random() < 0.7
    }
    choices = wanted(rng)
    venues = {"uniswap": venue(*sold), "vault": vault}
    planner = Planner(RULES, venues, {MARKET: FakeLender()}, lambda: "plan")  # type: ignore[dict-item]
    seen = replace(view(base_fee=GWEI), inventory=held)
    quotes, _ = planner.quote(seen, choices)
    shut = shut_by(quote.flash for quote in quotes)
    assert not shut & {hop.pool for quote in quotes for hop in quote.hops}
    assert len({q.debt for q in quotes if q.flash.kind is FlashKind.BALANCER}) <= 1
    bid = Bid(Wei(GWEI), Wei(100 * GWEI), 2_000)
    plans, _ = planner.pack(seen, [(quote, bid) for quote in quotes])
    used = 0
    for plan in plans:
        for source, amount in sum_loans([list(plan.quotes)]).items():
            assert amount <= source.available
            if source.kind is FlashKind.INVENTORY:
                assert amount <= held[source.token]
                used += 1
    print(f"seed {seed}: {[quote.flash.kind.value for quote in quotes]}")
    assert used
    assert len({quote.flash.kind for quote in quotes}) > 1
