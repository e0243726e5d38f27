"""The best repay against every point of a grid, in pools and positions of every size."""

import random

import pytest

from keeper.planning.curves import Curve
from keeper.planning.sizing import best_size, price_size
from keeper.units import Bps
from tests.fake_market import USDC, WETH, FakeTerms, pool


@pytest.mark.parametrize("seed", range(40))
def test_no_point_of_a_grid_earns_more(seed: int) -> None:
    rng = random.Random(seed)
    made = pool(1, WETH, USDC, rng.choice([100, 500, 3_000]), 10 ** rng.randint(4, 9))
    token0 = made.token0 == WETH.address
    terms = FakeTerms(
        WETH, USDC, int(10 ** rng.uniform(7, 14)), Bps(rng.choice([10_200, 10_500, 11_000]))
    )
    calls = 0

    def sell(amount: int) -> int:
        nonlocal calls
        calls += 1
        filled = made.sell(made.at, amount, token0=token0, steps=200)
        return 0 if filled.left else filled.out

    fee = rng.choice([0, 500])
    best = best_size(terms, terms.maximum, Curve(sell), fee)
    assert best is not None
    assert calls <= 90
    curve = Curve(sell)
    grid = max(
        price_size(terms, terms.maximum * k // 500, curve, fee).profit
        for k in range(1, 501)
        if terms.maximum * k // 500
    )
    # A micro-dollar of rounding apart, nothing on the grid is better.
    assert best.profit >= grid - 2
