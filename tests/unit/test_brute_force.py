"""The brute force against figures computed elsewhere, and the planner against the closed form."""

from typing import Any

import pytest

from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.units import Address, Bps, Wei
from keeper.venues.uniswap_v2 import UniswapV2
from keeper.venues.uniswap_v2.pair import Pair
from tests.brute.curves import ConstantProduct
from tests.brute.debtor import Debtor
from tests.brute.search import GasCosts, best_choices, best_cover, entry, sell, split
from tests.fake_market import (
    CONTRACT,
    FACTORY,
    MARKET,
    USDC,
    WETH,
    FakeLender,
    FakeTerms,
    choice,
    view,
)

WAD = 10**18
MICRO = 10**6


def debtor(collateral: int, debt: int, price: int = 2_000, **more: int) -> Debtor:
    """Return a borrower of micro-dollars against wei of a collateral at a price in dollars."""
    terms = {"bonus": 10_500, "fee": 1_000, "threshold": 8_300} | more
    return Debtor(collateral, debt, price * 10**8, 10**8, WAD, MICRO, **terms)


def test_half_of_a_debt_may_be_repaid_near_health() -> None:
    who = debtor(10 * WAD, 17_000 * MICRO)
    assert who.health() == 976470588235294117
    done = who.call(2**255)
    assert done is not None
    assert done.repaid == 8_500 * MICRO
    assert (done.received, done.fee) == (4441250000000000000, 21250000000000000)


def test_dust_may_not_be_left() -> None:
    who = debtor(WAD, 1_700 * MICRO, price=1_999)
    assert who.cap() == 1_700 * MICRO
    assert who.call(900 * MICRO) is None
    assert who.call(1_700 * MICRO) is not None


def test_two_calls_take_what_the_closed_form_says() -> None:
    # 17,087.9 dollars short: repay what keeps health under one, then half of what is left.
    supplied, short = 136_730_000, 61_726_547_573
    owed = supplied * MICRO * 75 // 100 + short
    who = debtor(supplied * WAD, owed, price=1, bonus=10_800, fee=0, threshold=7_500)
    first = short * 100 // 19
    assert abs(who.first_of_two() - first) < 100
    once = entry(who, (who.cap(),))
    after = who.call(who.first_of_two())
    assert once is not None
    assert after is not None
    twice = entry(who, (who.first_of_two(), after.after.cap()))
    assert twice is not None
    assert abs(twice.repaid - once.repaid - first // 2) < 100


@pytest.mark.parametrize(
    ("bonus", "repay", "profit"), [(10_500, 44_241_065_036, 1_024_485_010), (10_030, 0, 0)]
)
def test_a_constant_product_pool_has_a_closed_form(bonus: int, repay: int, profit: int) -> None:
    who = debtor(10**5 * WAD, 170_000_000 * MICRO, bonus=bonus, fee=0)
    curve = ConstantProduct(1_000 * WAD, 2_000_000 * MICRO)
    found = best_cover(who, [curve], 0)
    assert found.profit == pytest.approx(profit, abs=2)
    assert found.cover == pytest.approx(repay, rel=1e-4)
    # The planner finds it, too.
    tokens = sorted([WETH.address, USDC.address])
    reserves = (1_000 * WAD, 2_000_000 * MICRO)
    pair = Pair(Address(b"\xb1" * 20), tokens[0], tokens[1], reserves)
    venue: Any = UniswapV2("pairs", FACTORY, FACTORY, tokens, CONTRACT)
    venue.adopt([pair])
    lender: Any = FakeLender(fee_ppm=0)
    rules = PlanRules("test", CONTRACT, Wei(0))
    terms = FakeTerms(WETH, USDC, 1_000_000 * MICRO, Bps(bonus))
    planner = Planner(rules, {"pairs": venue}, {MARKET: lender}, lambda: "plan")
    quotes, _ = planner.quote(view(base_fee=0), [choice(1, terms, minimum=0)])
    assert sum(quote.net for quote in quotes) == pytest.approx(profit, abs=2)
    assert sum(quote.steps[0].repay for quote in quotes) == pytest.approx(repay, rel=1e-4)


def test_a_split_leaves_both_pools_at_one_price() -> None:
    deep, shallow = (
        ConstantProduct(3_000 * WAD, 6 * 10**12),
        ConstantProduct(WAD * 1_000, 2 * 10**12),
    )
    assert split([deep, shallow], 40 * WAD)[0] == pytest.approx(30 * WAD, rel=1e-4)
    assert sell([deep, shallow], 40 * WAD) > deep.out(40 * WAD)


def test_a_second_pool_and_a_small_position_have_to_pay_their_gas() -> None:
    who = [debtor(10 * WAD, 17_000 * MICRO), debtor(WAD // 100, 17 * MICRO)]
    pools = [ConstantProduct(1_000 * WAD, 2 * 10**12), ConstantProduct(1_000 * WAD, 2 * 10**12)]
    dear = best_choices(who, pools, 500, GasCosts(400.0))[0]
    cheap = best_choices(who, pools, 500, GasCosts(0.001))[0]
    assert [bool(each) for each in dear.covers] == [True, False]
    assert [bool(each) for each in cheap.covers] == [True, True]
    assert sorted(bool(part) for part in dear.parts) == [False, True]
    assert all(cheap.parts)
