"""The best legal repay: against closed forms, against every point of a grid, around legal jumps."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from keeper.planning.curves import Curve
from keeper.planning.sizing import best_size
from keeper.types import Seizure
from keeper.units import BPS, USD
from keeper.venues.uniswap_v3.pool import Pool
from tests.fake_market import USDC, VALUES, WETH, FakeTerms, pool

SCALE = 10**18


def constant_product(x: int, y: int, kept_ppm: int = 997_000) -> Callable[[int], int]:
    """Return the sale curve of a pool with reserves x and y, rounded down."""

    def sell(amount: int) -> int:
        after = amount * kept_ppm
        return after * y // (x * 10**6 + after)

    return sell


def curve(made: Pool) -> Curve:
    """Return what a pool gives for WETH."""
    return Curve(lambda amount: made.sell(made.at, amount, token0=made.token0 == WETH.address).out)


@dataclass(frozen=True)
class Linear:
    """Terms with a bonus in millionths at a price of 2,000 in equal decimals."""

    maximum: int
    bonus_ppm: int

    def legal_down(self, repay: int) -> int:
        return min(repay, self.maximum)

    def seize(self, repay: int) -> Seizure:
        return Seizure(repay, repay * (10**6 + self.bonus_ppm) // (2_000 * 10**6), 0)


@pytest.mark.parametrize(
    ("bonus_ppm", "repay", "profit"),
    [(50_000, 44_241.06503640995, 1_024.4850105258), (3_000, 0.0, 0.0)],
)
def test_the_closed_form_of_a_constant_product_pool(
    bonus_ppm: int, repay: float, profit: float
) -> None:
    sell = constant_product(1_000 * SCALE, 2_000_000 * SCALE)
    best = best_size(Linear(10**6 * SCALE, bonus_ppm), 10**6 * SCALE, Curve(sell), 0)  # type: ignore[arg-type]
    assert best is not None
    assert best.profit / SCALE == pytest.approx(profit, rel=1e-9, abs=1e-9)
    assert best.repay / SCALE == pytest.approx(repay, rel=1e-3, abs=1e-6)


def test_a_gap_before_the_full_close_is_jumped_or_kept_below() -> None:
    # Legal is up to 40,000 or all of 50,000, nothing between.
    deep, shallow = (pool(n, WETH, USDC, 500, usd) for n, usd in ((1, 10**9), (2, 1_760_000)))
    terms = FakeTerms(WETH, USDC, 50_000 * 10**6, partial=40_000 * 10**6)
    for made, repay in ((deep, 50_000), (shallow, 40_000)):
        best = best_size(
            terms,
            terms.maximum,
            curve(made),
            0,
        )
        assert best is not None
        assert best.repay == repay * 10**6


def test_the_largest_repay_is_respected() -> None:
    made = pool(1, WETH, USDC, 500, 10**9)
    terms = FakeTerms(WETH, USDC, 50_000 * 10**6)
    best = best_size(
        terms,
        7_000 * 10**6,
        curve(made),
        0,
    )
    assert best is not None
    assert best.repay == 7_000 * 10**6
    assert (
        best.seizure.received
        == 7_000 * 10**6 * USD * 10**18 // (VALUES[WETH] * 10**6) * 10_500 // BPS
    )


def test_nothing_legal_is_none() -> None:
    assert best_size(FakeTerms(WETH, USDC, 0), 10**9, Curve(lambda amount: amount), 0) is None
