"""What a plan asks of its profit for the operator's gas, and where that is accounted."""

from dataclasses import replace
from itertools import count

import pytest

from keeper.planning.costs import Rates
from keeper.planning.planner import Planner
from keeper.planning.refilling import REFILL_GAS, WORTH, choose_refill_down
from keeper.planning.rules import PlanRules
from keeper.types import Bid, Plan
from keeper.units import USD, ZERO_ADDRESS, Usd, Wei
from tests.fake_market import (
    CONTRACT,
    GWEI,
    MARKET,
    USDC,
    WETH,
    FakeLender,
    FakeTerms,
    choice,
    pool,
    venue,
    view,
)
from tests.unit.test_planning_plans import batch_bytes, result_of

BID = Bid(Wei(GWEI), Wei(100 * GWEI), 2_000)
NATIVE_DEBT = FakeTerms(USDC, WETH, 5 * 10**18)
ETHER = 10**18


def planner(wanted: int) -> Planner:
    ids = count(1)
    return Planner(
        PlanRules("test", CONTRACT, Wei(GWEI)),
        {"uniswap": venue(pool(1, WETH, USDC, 500, 90_000_000))},
        {MARKET: FakeLender()},  # type: ignore[dict-item]
        lambda: f"plan-{next(ids)}",
        refill=lambda: Wei(wanted),
    )


def plans(wanted: int, *pairs: FakeTerms, rules: PlanRules | None = None) -> list[Plan]:
    made = planner(wanted)
    if rules is not None:
        made._rules = rules
    quotes, _ = made.quote(view(), [choice(n, pair) for n, pair in enumerate(pairs, 1)])
    packed, skips = made.pack(view(), [(quote, BID) for quote in quotes])
    assert not skips
    return packed


def asked(plan: Plan) -> int:
    return int.from_bytes(batch_bytes(plan)[32:48], "big")


def minimum_of(plan: Plan) -> int:
    """Return the gain in the one debt token the batch has to keep."""
    packed = batch_bytes(plan)
    addresses, funds = packed[9], packed[10]
    start = 48 + 20 * addresses + 23 * funds
    return int.from_bytes(packed[start + 1 : start + 17], "big")


def test_nothing_is_asked_for_unless_wanted() -> None:
    (plan,) = plans(0, NATIVE_DEBT)
    assert (plan.refill, asked(plan)) == (0, 0)


def test_a_refill_comes_out_of_profit_in_the_native_coin_only() -> None:
    (plan,) = plans(ETHER // 50, NATIVE_DEBT)
    assert plan.refill == asked(plan) == ETHER // 50
    (other,) = plans(ETHER // 50, FakeTerms(WETH, USDC, 5_000 * 10**6))
    assert (other.refill, asked(other)) == (0, 0)


def test_a_refill_is_at_most_the_profit_and_lowers_what_the_batch_must_keep() -> None:
    (without,) = plans(0, NATIVE_DEBT)
    (small,) = plans(minimum_of(without) // 2 + WORTH * REFILL_GAS * 100 * GWEI, NATIVE_DEBT)
    assert minimum_of(small) == max(minimum_of(without) - small.refill, 0)
    (all_of_it,) = plans(1_000 * ETHER, NATIVE_DEBT)
    (quote,) = all_of_it.quotes
    assert all_of_it.refill == quote.proceeds - quote.repaid - quote.premium
    assert minimum_of(all_of_it) == 0


def test_a_refill_costs_its_gas_and_nothing_else() -> None:
    (without,), (plan,) = plans(0, NATIVE_DEBT), plans(ETHER // 50, NATIVE_DEBT)
    assert plan.gross_usd == without.gross_usd
    assert plan.gas - without.gas == REFILL_GAS
    assert plan.gas_limit - without.gas_limit == REFILL_GAS
    more = plan.gas_cost - without.gas_cost
    dollars = more * 2_000 * USD // ETHER
    assert abs(without.net_usd - plan.net_usd - dollars) <= 2
    # simulated, it costs what was measured, shared among the quotes: the money moved is in none
    known = replace(plan, prices={ZERO_ADDRESS: Usd(2_000 * USD)})
    same = replace(without, prices=known.prices)
    settled = planner(0).settle(known, 900_000, result_of(plan)).plan
    plain = planner(0).settle(same, 900_000, result_of(without)).plan
    assert settled is not None
    assert plain is not None
    assert abs(settled.net_usd - plain.net_usd) <= 2


def test_a_refill_is_paid_for_before_later_base_fees() -> None:
    made = planner(ETHER // 50)
    (quote,), _ = made.quote(view(), [choice(1, NATIVE_DEBT)])
    bid = replace(BID, max_fee=Wei(10**6 * GWEI))
    ((plan,), _) = made.pack(view(), [(quote, bid)])
    assert plan.refill
    assert plan.bid.max_fee < bid.max_fee, "what it brings is what bounds it"
    (quote,) = plan.quotes
    before_gas = quote.net + quote.gas_cost  # the debt is the wrapped native coin
    most = plan.gas * plan.bid.max_fee
    assert before_gas - most >= quote.minimum_profit


def test_several_plans_share_what_is_wanted() -> None:
    rules = PlanRules("test", CONTRACT, Wei(GWEI), max_items=1)
    made = plans(ETHER // 10, NATIVE_DEBT, NATIVE_DEBT, NATIVE_DEBT, rules=rules)
    assert len(made) == 3
    assert sum(plan.refill for plan in made) <= ETHER // 10
    assert made[0].refill > 0


def test_a_plan_packed_again_asks_for_no_more() -> None:
    (plan,) = plans(ETHER // 50, NATIVE_DEBT, NATIVE_DEBT)
    gone = plan.quotes[0].opportunity.key
    again = planner(ETHER).repack(plan, {gone: "gone"}, view())
    assert again is not None
    assert 0 < again.refill <= plan.refill


@pytest.mark.parametrize("spare", [-1, 0])
def test_no_liquidation_falls_below_its_minimum_for_a_refill(spare: int) -> None:
    (plan,) = plans(0, NATIVE_DEBT)
    (quote,) = plan.quotes
    rates = Rates(view())
    cost = rates.of(quote).gas_up(REFILL_GAS, GWEI)
    poor = replace(quote, minimum_profit=quote.net - cost - spare)
    refill = choose_refill_down([poor], [0], Wei(ETHER // 50), WETH.address, GWEI, rates)
    assert (refill > 0) == (spare >= 0)


def test_a_refill_not_worth_its_gas_waits() -> None:
    (plan,) = plans(REFILL_GAS * GWEI, NATIVE_DEBT)
    assert plan.refill == 0
