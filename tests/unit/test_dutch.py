"""Falling prices, what may be auctioned and taken, and when it is best to take."""

from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st

from keeper.planning.sizing import best_size
from keeper.protocols.maker_clip.dutch import (
    PPM,
    Auction,
    Barked,
    Exponential,
    Linear,
    Moment,
    Stairstep,
    Taken,
    Vault,
    bark,
    best_moment,
    moments,
    price_down,
    reward_down,
    rpow_near,
    survival_ppm,
    take,
)
from keeper.types import Seizure
from keeper.units import MAX_UINT256, RAY, WAD

RAD = 10**45
STEPS = Stairstep(99 * RAY // 100, 90)
AUCTION = Auction(
    lot=10 * WAD,
    tab=20_000 * RAD,
    tic=1_000,
    top=2_400 * RAY,
    calculator=STEPS,
    tail=8_400,
    cusp=4 * RAY // 10,
    chost=5_000 * RAD,
)


@pytest.mark.parametrize(
    ("duration", "price"), [(0, 2_400), (89, 2_400), (90, 2_376), (179, 2_376), (180, 2_352.24)]
)
def test_a_stair_falls_by_a_percent_every_step(duration: int, price: float) -> None:
    wanted = int(Decimal(str(price)) * RAY)
    assert price_down(STEPS, 2_400 * RAY, duration) == wanted


@pytest.mark.parametrize(
    ("duration", "price"),
    [(0, 2_400), (1, 2_399), (1_200, 1_200), (2_399, 1), (2_400, 0), (9_999, 0)],
)
def test_a_line_falls_to_nothing(duration: int, price: int) -> None:
    found = price_down(Linear(2_400), 2_400 * RAY, duration)
    assert price - 1 < Decimal(found) / RAY <= price


def test_a_curve_falls_every_second() -> None:
    cut = 999_000_000_000_000_000_000_000_000
    prices = [price_down(Exponential(cut), 2_400 * RAY, n) for n in range(3)]
    assert prices == [2_400 * RAY, 2_400 * cut, 2_400 * cut * cut // RAY]


@given(st.integers(9 * RAY // 10, RAY), st.integers(0, 5_000))
@settings(max_examples=60, deadline=None)
def test_powers_are_near_the_real_ones(base: int, exponent: int) -> None:
    with localcontext() as context:
        context.prec = 80
        real = (Decimal(base) / RAY) ** exponent * RAY
    # Each of at most 2 log n products is half a unit off, and errors grow with the exponent.
    assert abs(rpow_near(base, exponent) - real) <= 2 * exponent + 1


VAULT = Vault(
    ink=10 * WAD,
    art=15_000 * WAD,
    rate=RAY,
    spot=1_400 * RAY,
    dust=5_000 * RAD,
    room=100_000 * RAD,
    chop=113 * WAD // 100,
)


def test_all_of_an_unsafe_urn_is_put_up_with_the_penalty() -> None:
    assert bark(VAULT) == Barked(10 * WAD, 16_950 * RAD, 15_000 * WAD)
    assert reward_down(16_950 * RAD, 100 * RAD, WAD // 1_000) == 116_950 * RAD // 1_000


def test_a_safe_urn_and_a_full_house_are_left_alone() -> None:
    assert bark(replace(VAULT, spot=1_500 * RAY)) is None
    assert bark(replace(VAULT, spot=0)) is None
    assert bark(replace(VAULT, room=0)) is None


def test_little_room_takes_a_part_that_leaves_no_dust() -> None:
    part = bark(replace(VAULT, room=11_300 * RAD))
    assert part == Barked(10 * WAD * 10_000 // 15_000, 11_300 * RAD, 10_000 * WAD)
    # 4,000 would be left, less than dust: then all goes.
    assert bark(replace(VAULT, room=12_430 * RAD)) == bark(VAULT)
    # A part that is itself dust is refused.
    assert bark(replace(VAULT, room=4_520 * RAD)) is None


def test_a_take_of_all_owes_no_more_than_the_tab() -> None:
    assert take(AUCTION, MAX_UINT256, 1_000) == Taken(20_000 * WAD // 2_400, 20_000 * RAD)
    cheap = replace(AUCTION, top=1_500 * RAY)
    assert take(cheap, MAX_UINT256, 1_000) == Taken(10 * WAD, 15_000 * RAD)


def test_a_part_leaves_chost_or_all_is_taken() -> None:
    assert take(AUCTION, WAD, 1_000) == Taken(WAD, 2_400 * RAD)
    kept = take(AUCTION, 7 * WAD, 1_000)
    assert kept == Taken(15_000 * WAD // 2_400, 15_000 * RAD)
    assert take(replace(AUCTION, tab=5_000 * RAD), WAD, 1_000) is None


def test_an_auction_has_to_be_started_anew_after_its_time_or_its_fall() -> None:
    assert not AUCTION.needs_redo(1_000)
    assert AUCTION.needs_redo(1_000 + 8_401)
    # 0.99 ** 92 is under 0.4.
    assert not AUCTION.needs_redo(1_000 + 91 * 90)
    assert AUCTION.needs_redo(1_000 + 92 * 90)
    assert take(AUCTION, WAD, 1_000 + 92 * 90) is None
    assert AUCTION.pays_redo(500 * RAY)
    assert not AUCTION.pays_redo(499 * RAY)


def curve(amount: int) -> int:
    """Sell 2,100 dollars' worth each with some slippage."""
    depth = 5_000 * WAD
    return 2_100 * amount * depth // (depth + amount)


BLOCKS = range(1_012, 1_000 + 8_400, 12)


def test_only_the_first_block_of_each_step_counts() -> None:
    found = list(moments(AUCTION, curve, 0, BLOCKS))
    assert [each.timestamp for each in found[:4]] == [1_012, 1_096, 1_180, 1_276]
    assert all(a.profit < b.profit for a, b in pairwise(found))
    assert not AUCTION.needs_redo(found[-1].timestamp)


def test_alone_one_waits_and_among_many_one_takes_the_first_that_pays() -> None:
    found = list(moments(AUCTION, curve, 30 * WAD, BLOCKS))
    first = next(each for each in found if each.profit > 0)
    assert best_moment(found, 0) == first
    assert best_moment(found, PPM) == max(found, key=lambda each: each.profit)
    some = best_moment(found, 500_000)
    assert some is not None
    assert first.timestamp <= some.timestamp < found[-1].timestamp
    assert best_moment(moments(AUCTION, curve, 10**30, BLOCKS), 500_000) is None
    assert best_moment([], 500_000) is None


profits = st.lists(st.integers(-1_000, 1_000), min_size=1, max_size=9)


@given(profits, st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_no_other_moment_is_worth_more(values: list[int], percent: int) -> None:
    found = [Moment(12 * n, Taken(1, 1), profit * WAD) for n, profit in enumerate(values)]
    survival = percent * PPM // 100

    def worth(place: int) -> Fraction:
        risked = sum(profit > 0 for profit in values[:place])
        return values[place] * Fraction(percent, 100) ** risked

    chosen = best_moment(found, survival)
    paying = [n for n, profit in enumerate(values) if profit > 0]
    if chosen is None:
        assert not paying
        return
    best = max(worth(n) for n in paying)
    assert abs(worth(chosen.timestamp // 12) - best) < Fraction(1, 10**6)


def test_what_was_seen_says_how_likely_it_lasts() -> None:
    assert survival_ppm(0, 0) == PPM // 2
    assert survival_ppm(98, 0) > 980_000
    assert survival_ppm(0, 98) == 10_000


def test_a_look_is_due_when_the_price_falls() -> None:
    assert [AUCTION.next_change(t) for t in (1_000, 1_089, 1_090)] == [1_090, 1_090, 1_180]
    assert replace(AUCTION, calculator=Linear(9_000)).next_change(1_050) == 1_051


def test_a_duration_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="no duration"):
        rpow_near(RAY, -1)


class Buyer:
    """Sells a lot at one price, or not at all."""

    def __init__(self, price: float) -> None:
        self._price = price

    def out(self, amount: int) -> int:
        return int(amount * self._price)

    def reach(self, price: float, most: int) -> int:
        raise AssertionError("what pays by itself has no price to break even at")


class Free:
    """A call that pays `paid` and gives a lot of collateral, as an auction or a trove does."""

    maximum = 1

    def __init__(self, paid: int) -> None:
        self._seizure = Seizure(-paid, 10**18, 0)

    def legal_down(self, repay: int) -> int:
        return repay

    def seize(self, repay: int) -> Seizure:
        return self._seizure


@pytest.mark.parametrize("paid", [0, 200])
def test_what_pays_by_itself_is_sized_and_has_to_sell(paid: int) -> None:
    terms = cast("Any", Free(paid))
    sold = best_size(terms, 1, cast("Any", Buyer(0.002)), 0)
    assert sold is not None
    assert sold.profit == 2 * 10**15 + paid
    unsold = best_size(terms, 1, cast("Any", Buyer(0.0)), 0)
    assert unsold is not None
    assert unsold.profit < 0
