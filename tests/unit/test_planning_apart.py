"""What is kept apart: strategies by their bids, and transactions by the pools they may sell through."""

from dataclasses import replace

from keeper.planning.fitting import apart
from keeper.types import Bid, Hop, Portion, Reason
from keeper.units import Address, Wei
from tests.fake_market import GWEI, choice, view
from tests.unit.test_planning_plans import BID, PAIR, RULES, make_planner

DEAR = Bid(Wei(100 * GWEI), Wei(1_000 * GWEI), 2_000, Wei(10**19))


def test_a_bid_beyond_all_measure_costs_no_other_strategy_its_plan() -> None:
    planner = make_planner(replace(RULES, gas_budget=Wei(5 * 10**16)))
    choices = [choice(1, PAIR), choice(2, PAIR), choice(3, PAIR, strategy="liar")]
    quotes, _ = planner.quote(view(), choices)
    assert len(quotes) == 3
    honest = [quote for quote in quotes if quote.opportunity.strategy != "liar"]
    bids = [(q, DEAR if q.opportunity.strategy == "liar" else BID) for q in quotes]
    (plan,), (skip,) = planner.pack(view(), bids)
    (alone,), _ = planner.pack(view(), [(quote, BID) for quote in honest])
    assert replace(plan, id=alone.id) == alone
    assert (skip.strategy, skip.reason) == ("liar", Reason.GAS_CAP)


def test_strategies_that_bid_alike_have_plans_of_their_own() -> None:
    planner = make_planner()
    quotes, _ = planner.quote(view(), [choice(1, PAIR), choice(2, PAIR, strategy="other")])
    plans, skips = planner.pack(view(), [(quote, BID) for quote in quotes])
    assert skips == []
    assert [{q.opportunity.strategy for q in plan.quotes} for plan in plans] == [
        {quotes[0].opportunity.strategy},
        {quotes[1].opportunity.strategy},
    ]
    assert plans[1].behind, "the second is priced on the pools the first leaves"


def test_a_sale_by_an_offer_rests_on_the_pools_it_would_fall_back_on() -> None:
    quotes, _ = make_planner().quote(view(), [choice(1, PAIR), choice(2, PAIR)])
    first, second = quotes
    made = Hop("offers", Address(b"\x0f" * 20), PAIR.collateral.address, PAIR.debt.address)
    offered = replace(second, routes=(Portion((made,)),), fallback=())
    assert apart([first, offered]) == [[0], [1]]
    assert apart([first, replace(offered, fallback=first.routes)]) == [[0, 1]]
