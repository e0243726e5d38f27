"""From bid quotes to transactions: packing, limits, fees, and what a simulation changes."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any, cast

import pytest
from eth_abi.abi import decode

from keeper.fees import ArbitrumFee, DataFee, OpStackFee
from keeper.planning.batching import minimum_gain
from keeper.planning.decoding import GroupResult, ItemResult, RunResult
from keeper.planning.planner import Planner
from keeper.planning.reasons import UNDONE
from keeper.planning.rules import TRANSACTION_GAS, PlanRules
from keeper.ports import LendingProtocol, Terms, Venue
from keeper.types import Bid, CallLiquidation, Hop, Plan, PoolCall, Portion, Quote, Reason, Skip
from keeper.units import USD, WAD, ZERO_ADDRESS, Usd, Wei, mul_div_up
from keeper.venues.uniswap_v3.pool import Pool
from tests.fake_market import (
    AAVE,
    CONTRACT,
    DAI,
    GWEI,
    MARKET,
    USDC,
    WBTC,
    WETH,
    FakeLender,
    FakeTerms,
    borrower,
    choice,
    pool,
    venue,
    view,
)

RULES = PlanRules("test", CONTRACT, Wei(GWEI))
POOLS = (
    pool(1, WETH, USDC, 500, 90_000_000),
    pool(2, WETH, DAI, 500, 90_000_000),
    pool(3, WBTC, WETH, 500, 90_000_000),
)
PAIR = FakeTerms(WETH, USDC, 5_000 * 10**6)
BID = Bid(Wei(GWEI), Wei(100 * GWEI), 2_000)


def make_planner(rules: PlanRules = RULES, pools: Sequence[Pool] = POOLS) -> Planner:
    ids = count(1)
    return Planner(
        rules,
        {"uniswap": venue(*pools)},
        {MARKET: FakeLender()},  # type: ignore[dict-item]
        lambda: f"plan-{next(ids)}",
    )


def plan_all(
    *pairs: FakeTerms, rules: PlanRules = RULES, bid: Bid = BID, pools: Sequence[Pool] = POOLS
) -> tuple[list[Plan], list[Skip]]:
    planner = make_planner(rules, pools)
    quotes, skips = planner.quote(view(), [choice(n, pair) for n, pair in enumerate(pairs, 1)])
    plans, unpacked = planner.pack(view(), [(quote, bid) for quote in quotes])
    return plans, [*skips, *unpacked]


def one_plan(*pairs: FakeTerms, bid: Bid = BID) -> Plan:
    (plan,), skips = plan_all(*pairs, bid=bid)
    assert skips == []
    return plan


def batch_bytes(plan: Plan) -> bytes:
    (packed,) = decode(["bytes"], plan.calldata[4:])
    return bytes(packed)


def result_of(plan: Plan, *, tip: int = 0) -> RunResult:
    """Return what a run gives when everything goes as estimated; one group."""
    gain = sum(quote.proceeds - quote.repaid for quote in plan.quotes)
    items = tuple(ItemResult(True, quote.steps[0].seizure.received, b"") for quote in plan.quotes)
    return RunResult(items, (GroupResult(True, gain, b""),), (), tip, 0)


def test_many_liquidations_share_one_transaction() -> None:
    plan = one_plan(*[PAIR] * 20)
    assert len(plan.quotes) == 20
    assert plan.contract == CONTRACT
    assert plan.gas == sum(quote.gas for quote in plan.quotes)
    assert plan.gas_cost == plan.gas * 11 * GWEI
    assert plan.net_usd == sum(quote.net_usd for quote in plan.quotes)
    assert plan.repaid_usd == 20 * 5_000 * USD
    assert plan.gas < plan.gas_limit <= RULES.gas_cap
    packed = batch_bytes(plan)
    assert all(packed.count(borrower(n)) == 1 for n in range(1, 21))
    assert packed.count(AAVE) == 1
    assert int.from_bytes(packed[:8], "big") == 2_000


def test_a_first_send_leaves_room_under_the_chain_s_cap() -> None:
    base_fee = view().next_block.base_fee
    rules = replace(RULES, max_fee=Wei(base_fee + GWEI // 2))
    (plan,), _ = plan_all(PAIR, rules=rules)
    assert plan.bid.max_fee == rules.max_fee
    assert plan.bid.max_fee < BID.max_fee
    assert plan.bid.priority_fee <= plan.bid.max_fee
    assert plan.gas_cost == plan.gas * (base_fee + GWEI // 2)
    plans, (skip,) = plan_all(PAIR, rules=replace(RULES, max_fee=Wei(base_fee - 1)))
    assert not plans
    assert skip.reason is Reason.GAS_CAP


@pytest.mark.parametrize("lost", ["first", "last", "short"])
def test_calls_on_one_position_go_together_or_not_at_all(lost: str) -> None:
    planner = make_planner()
    (quote, other), _ = planner.quote(view(), [choice(1, PAIR), choice(2, PAIR)])
    calls = [replace(quote, part=part, parts=2, stage=part) for part in range(2)]
    if lost == "short":
        calls[1] = replace(calls[1], minimum_profit=10 * calls[1].proceeds)
    offered = {"first": calls[1:], "last": calls[:1], "short": calls}[lost]
    (plan,), skips = planner.pack(view(), [(each, BID) for each in (*offered, other)])
    assert [each.key for each in plan.quotes] == [other.key]
    assert {skip.reason for skip in skips} == {Reason.UNPROFITABLE}
    assert len(skips) == len(offered)


def test_each_item_must_bring_its_costs_and_minimum() -> None:
    plan = one_plan(PAIR)
    (quote,) = plan.quotes
    least = minimum_gain(quote, 0)
    assert least == quote.gas_cost + quote.premium + quote.minimum_profit
    assert quote.proceeds - quote.repaid >= least
    packed = batch_bytes(plan)
    at = packed.index(borrower(1)) + 20
    assert int.from_bytes(packed[at : at + 12], "big") == least
    # A full close is sent with a little to spare, for the interest of a later block.
    assert int.from_bytes(packed[at + 12 : at + 28], "big") == 5_000 * 10**6 + 5 * 10**4 + 1
    assert int.from_bytes(packed[at + 28 : at + 44], "big") == PAIR.scaled_debt * 99 // 100


def test_several_debts_are_funded_in_one_transaction() -> None:
    plan = one_plan(PAIR, FakeTerms(WETH, DAI, 5_000 * 10**18), FakeTerms(WBTC, USDC, 10**10))
    assert {quote.debt for quote in plan.quotes} == {USDC, DAI}
    packed = batch_bytes(plan)
    tokens, _, funds, minimums, groups, items = packed[8:14]
    assert (tokens, funds, minimums, groups, items) == (4, 2, 2, 3, 3)


@pytest.mark.parametrize("rules", [replace(RULES, max_items=8), replace(RULES, gas_cap=3_300_000)])
def test_what_does_not_fit_goes_into_the_next_transaction(rules: PlanRules) -> None:
    plans, skips = plan_all(*[PAIR] * 20, rules=rules)
    assert skips == []
    assert len(plans) >= 2
    assert [plan.id for plan in plans] == [f"plan-{n}" for n in range(1, len(plans) + 1)]
    assert all(len(plan.quotes) <= rules.max_items for plan in plans)
    assert all(plan.gas_limit <= rules.gas_cap for plan in plans)
    sold = [quote for plan in plans for quote in plan.quotes]
    assert len({quote.opportunity.key for quote in sold}) == 20
    # Later plans are priced on the pools the earlier ones leave.
    sales = venue(*POOLS).begin()
    for plan in plans:
        total = sum(quote.steps[0].seizure.received for quote in plan.quotes)
        assert sales.apply(plan.quotes[0].hops[0], total) == sum(
            quote.proceeds for quote in plan.quotes
        )


INTO_DAI = FakeTerms(WETH, DAI, 5_100 * 10**18)
THROUGH_WETH = FakeTerms(WBTC, USDC, 5_050 * 10**6)


@pytest.mark.parametrize("lanes", [1, 4])
def test_sales_that_share_no_pool_go_into_different_transactions(lanes: int) -> None:
    rules = replace(RULES, max_items=8, lanes=lanes)
    plans, skips = plan_all(*[PAIR, INTO_DAI] * 8, rules=rules)
    assert skips == []
    pools = [{hop.pool for quote in plan.quotes for hop in quote.hops} for plan in plans]
    assert len(plans) == 2
    assert not pools[0] & pools[1]
    assert plans[0].net_usd >= plans[1].net_usd
    # all that is sold into DAI, then all that is sold into USDC, takes one swap each
    mixed, _ = plan_all(*[PAIR, INTO_DAI] * 4, rules=rules)
    assert max(plan.gas for plan in plans) < mixed[0].gas


@pytest.mark.parametrize("lanes", [1, 4])
def test_independence_never_takes_a_transaction_more(lanes: int) -> None:
    rules = replace(RULES, max_items=8, lanes=lanes)
    plans, _ = plan_all(*[PAIR] * 9, *[INTO_DAI] * 9, rules=rules)
    assert [len(plan.quotes) for plan in plans] == [8, 8, 2]


def test_three_kinds_of_sale_get_three_transactions_where_three_are_needed() -> None:
    pairs = [PAIR, FakeTerms(WETH, DAI, 5_100 * 10**18), FakeTerms(WBTC, WETH, 3 * 10**18)]
    shapes = {}
    for lanes in (1, 4):
        plans, skips = plan_all(*pairs * 9, rules=replace(RULES, max_items=9, lanes=lanes))
        assert skips == []
        shapes[lanes] = [{quote.debt for quote in plan.quotes} for plan in plans]
    assert shapes[1] == shapes[4]
    assert all(len(debts) == 1 for debts in shapes[4])


def test_a_sale_through_two_pools_stays_with_those_of_either() -> None:
    rules = replace(RULES, max_items=8, lanes=4)
    plans, _ = plan_all(*[PAIR, INTO_DAI, THROUGH_WETH] * 6, rules=rules)
    for plan in plans:
        debts = {quote.debt for quote in plan.quotes}
        assert debts in ({USDC}, {DAI})
    assert sum(len(plan.quotes) for plan in plans) == 18


def test_a_hundred_fit_the_contract_and_the_transaction_limit() -> None:
    plans, skips = plan_all(*[PAIR] * 100, rules=replace(RULES, gas_cap=TRANSACTION_GAS))
    assert skips == []
    assert len(plans) <= 2
    assert sum(len(plan.quotes) for plan in plans) == 100


def test_a_liquidation_no_transaction_can_hold_is_skipped() -> None:
    plans, (skip,) = plan_all(PAIR, rules=replace(RULES, gas_cap=500_000))
    assert plans == []
    assert skip.reason is Reason.GAS_CAP


class Called:
    """A venue each of whose pools is called itself, with some bytes behind the amount."""

    def __init__(self, below: Venue, size: int) -> None:
        self._below = below
        self._size = size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def execution(self, hop: Hop) -> PoolCall:
        """Return a call of the pool."""
        return PoolCall(hop.pool, b"call", bytes(self._size))


class Caller(FakeLender):
    """A market that is liquidated by a call of some bytes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def execution(self, terms: Terms) -> Any:
        """Return the call."""
        return CallLiquidation(AAVE, bytes(self.size // 2), closing=bytes(self.size // 2))


def through_calls(size: int, pools: int, items: int, call: int = 8) -> tuple[Planner, list[Quote]]:
    """Return quotes in turn through five pools each, and whoever packs them."""
    made = [pool(n, WETH, USDC, 500, 90_000_000) for n in range(1, pools + 1)]
    venues = {"uniswap": cast("Venue", Called(venue(*made), size))}
    markets = {MARKET: cast("LendingProtocol", Caller(call))}
    planner = Planner(replace(RULES, gas_cap=TRANSACTION_GAS), venues, markets, lambda: "plan")
    quoted, _ = make_planner().quote(view(), [choice(n, PAIR) for n in range(items)])
    quotes = []
    for place, quote in enumerate(quoted):
        chosen = [made[(5 * place + each) % pools].address for each in range(5)]
        hops = [
            Hop("uniswap", each, WETH.address, USDC.address, extra_bytes=4 + size)
            for each in chosen
        ]
        quotes.append(replace(quote, routes=tuple(Portion((hop,), WAD // 5) for hop in hops)))
    return planner, quotes


@pytest.mark.parametrize(
    ("size", "pools", "items", "call"),
    [(0, 80, 16, 8), (1_500, 5, 16, 8), (0, 11, 16, 1_000)],
    ids=["addresses", "bytes of a group", "bytes of calls"],
)
def test_what_the_contract_has_no_room_for_goes_into_another_transaction(
    size: int, pools: int, items: int, call: int
) -> None:
    planner, quotes = through_calls(size, pools, items, call)
    plans, skips = planner.pack(view(), [(quote, BID) for quote in quotes])
    assert skips == []
    assert len(plans) > 1
    assert sum(len(plan.quotes) for plan in plans) == items


def test_a_sale_that_no_batch_can_hold_costs_itself_alone() -> None:
    planner, (one, other) = through_calls(1_700, 10, 2)
    plans, skips = planner.pack(view(), [(one, BID), (other, BID)])
    assert plans == []
    assert [skip.reason for skip in skips] == [Reason.GAS_CAP] * 2
    planner, (one, other) = through_calls(0, 10, 2)
    bids = [(replace(one, minimum_profit=-(2**95)), BID), (own(other, "other"), BID)]
    (plan,), (skip,) = planner.pack(view(), bids)
    assert plan.quotes[0].opportunity.strategy == "other"
    assert skip.reason is Reason.GAS_CAP
    assert "minimum gain" in skip.detail


def own(quote: Quote, strategy: str) -> Quote:
    """Return the quote as another strategy's."""
    return replace(quote, opportunity=replace(quote.opportunity, strategy=strategy))


def test_a_bid_that_cannot_be_encoded_leaves_the_other_strategies_their_plans() -> None:
    planner = make_planner()
    one, other = planner.quote(view(), [choice(n, PAIR) for n in (1, 2)])[0]
    other = own(other, "other")
    (plan,), (skip,) = planner.pack(view(), [(one, replace(BID, deadline=2**64)), (other, BID)])
    assert plan.quotes[0].opportunity.strategy == "other"
    assert (skip.borrower, skip.strategy) == (
        one.opportunity.position.borrower,
        one.opportunity.strategy,
    )
    assert (
        skip.detail
        == "the contract cannot take it: deadline 18446744073709551616 does not fit 64 bits"
    )
    late = replace(plan, bid=replace(plan.bid, deadline=2**64))
    assert planner.repack(late, {}, view()) is None


def test_bids_are_joined_within_everyones_limits() -> None:
    planner = make_planner()
    quotes, _ = planner.quote(view(), [choice(n, PAIR) for n in (1, 2, 3)])
    bids = [
        Bid(Wei(GWEI), Wei(90 * GWEI), 3_000),
        Bid(Wei(3 * GWEI), Wei(80 * GWEI), 2_500),
        Bid(Wei(GWEI), Wei(9 * GWEI), 2_000),
    ]
    (plan,), (skip,) = planner.pack(view(), list(zip(quotes, bids, strict=True)))
    assert skip.reason is Reason.GAS_CAP
    assert plan.bid == Bid(Wei(3 * GWEI), Wei(80 * GWEI), 2_500)
    assert plan.gas_cost == plan.gas * 13 * GWEI


def test_a_bid_that_spends_the_profit_is_dropped() -> None:
    small = FakeTerms(WETH, USDC, 500 * 10**6)
    plans, skips = plan_all(small, bid=replace(BID, priority_fee=Wei(40 * GWEI)))
    assert plans == []
    assert [skip.reason for skip in skips] == [Reason.UNPROFITABLE]


def test_a_tip_is_paid_from_native_profit_and_counts_as_a_cost() -> None:
    pair = FakeTerms(USDC, WETH, 5 * 10**18)
    tip = Wei(10**16)
    free, tipped = one_plan(pair), one_plan(pair, bid=replace(BID, tip=tip))
    assert tipped.bid.tip == tip
    assert free.net_usd - tipped.net_usd == 20 * USD
    packed = batch_bytes(tipped)
    share = int.from_bytes(packed[14:16], "big")
    (quote,) = tipped.quotes
    gain = quote.proceeds - quote.repaid - quote.premium
    assert gain * share // 10_000 >= tip > gain * (share - 1) // 10_000
    assert int.from_bytes(packed[16:32], "big") == tip


def test_a_plan_is_packed_again_without_what_failed() -> None:
    planner = make_planner()
    plan = one_plan(*[PAIR] * 5)
    again = planner.repack(plan, {(MARKET, borrower(2)): "debt is gone"}, view())
    assert again is not None
    assert [q.opportunity.position.borrower for q in again.quotes] == [
        borrower(n) for n in (1, 3, 4, 5)
    ]
    assert batch_bytes(again).count(borrower(2)) == 0
    everyone = {(MARKET, borrower(n)): "gone" for n in range(1, 6)}
    assert planner.repack(plan, everyone, view()) is None


def test_a_later_plan_is_packed_again_behind_the_earlier_one() -> None:
    shallow = [pool(1, WETH, USDC, 500, 2_000_000)]
    plans, _ = plan_all(*[PAIR] * 6, rules=replace(RULES, max_items=3), pools=shallow)
    first, second = plans
    gone = second.quotes[-1].opportunity.key
    again = make_planner(replace(RULES, max_items=3), shallow).repack(
        second, {gone: "gone"}, view()
    )
    assert again is not None
    assert again.behind == second.behind
    sales = venue(*shallow).begin()
    for plan in (first, again):
        total = sum(quote.steps[0].seizure.received for quote in plan.quotes)
        assert sales.apply(plan.quotes[0].hops[0], total) == sum(q.proceeds for q in plan.quotes)


def test_every_quote_keeps_its_own_tip_when_packed_again() -> None:
    planner = make_planner()
    pair = FakeTerms(USDC, WETH, 5 * 10**18)
    quotes, _ = planner.quote(view(), [choice(n, pair) for n in (1, 2, 3)])
    tips = {q.opportunity.position.borrower: Wei(n * 10**16) for n, q in enumerate(quotes)}
    (plan,), _ = planner.pack(
        view(),
        [(q, replace(BID, tip=tips[q.opportunity.position.borrower])) for q in quotes],
    )
    assert plan.bid.tip == sum(plan.tips) == 3 * 10**16
    gone = plan.quotes[0].opportunity.key
    again = planner.repack(plan, {gone: "gone"}, view())
    assert again is not None
    assert list(again.tips) == [tips[q.opportunity.position.borrower] for q in again.quotes]


def test_a_simulated_net_has_to_cover_the_tip_as_well() -> None:
    pair = FakeTerms(USDC, WETH, 5 * 10**18)
    (quote,) = one_plan(pair).quotes
    tip = Wei(quote.net - quote.minimum_profit)
    plan = replace(
        one_plan(pair, bid=replace(BID, tip=tip)), prices={ZERO_ADDRESS: Usd(2_000 * USD)}
    )
    kept = make_planner().settle(plan, plan.gas, result_of(plan, tip=tip))
    assert kept.plan is not None
    dearer = make_planner().settle(plan, plan.gas + 1_000, result_of(plan, tip=tip))
    assert dearer.plan is None
    assert [skip.reason for skip in dearer.skips] == [Reason.UNPROFITABLE]
    with pytest.raises(ValueError, match="no price"):
        make_planner().settle(replace(plan, prices={}), plan.gas, result_of(plan, tip=tip))


def test_a_simulation_replaces_estimates() -> None:
    planner = make_planner()
    plan = replace(one_plan(*[PAIR] * 4), prices={ZERO_ADDRESS: Usd(2_000 * USD)})
    estimated = result_of(plan)
    lower = RunResult(
        estimated.items,
        (GroupResult(True, estimated.groups[0].gain - 1_003, b""),),
        (),
        10**15,
        0,
    )
    used = plan.gas * 3 // 4
    settled = planner.settle(plan, used, lower)
    assert settled.plan is not None
    assert not settled.failed
    assert settled.plan.calldata == plan.calldata
    assert settled.plan.gas == used
    assert settled.plan.gas_cost == -(-plan.gas_cost * used // plan.gas)
    gained = sum(quote.proceeds - quote.repaid for quote in settled.plan.quotes)
    assert gained == lower.groups[0].gain
    assert settled.plan.net_usd == sum(quote.net_usd for quote in settled.plan.quotes) - 2 * USD
    assert sum(quote.gas for quote in settled.plan.quotes) - used in range(4)


def test_items_that_fail_in_simulation_are_named() -> None:
    plan = one_plan(*[PAIR] * 3)
    good = result_of(plan)
    items = (good.items[0], ItemResult(False, 0, b"\x1a\x2b\x3c\x4d"), good.items[2])
    settled = make_planner().settle(plan, plan.gas, replace(good, items=items))
    assert settled.plan is None
    assert settled.failed == {(MARKET, borrower(2)): "unknown error 0x1a2b3c4d"}
    (skip,) = settled.skips
    assert (skip.borrower, skip.reason) == (borrower(2), Reason.SIMULATION_FAILED)


def test_what_is_left_of_a_plan_pays_for_what_failed() -> None:
    plan = replace(one_plan(*[PAIR] * 3), prices={ZERO_ADDRESS: Usd(2_000 * USD)})
    good = result_of(plan)
    items = (good.items[0], ItemResult(False, 0, b"\x1a\x2b\x3c\x4d"), good.items[2])
    gain = sum(quote.proceeds - quote.repaid for quote in (plan.quotes[0], plan.quotes[2])) - 77
    result = replace(good, items=items, groups=(replace(good.groups[0], gain=gain),), tip=10**12)
    used = plan.gas - 1_000
    part = make_planner().settle(plan, used, result).part
    assert part is not None
    assert [q.opportunity.position.borrower for q in part.quotes] == [borrower(1), borrower(3)]
    assert sum(quote.proceeds - quote.repaid for quote in part.quotes) == gain
    assert part.calldata == plan.calldata
    assert part.repaid_usd == plan.repaid_usd
    premium = plan.quotes[1].premium
    costs = sum(quote.gas_cost + quote.premium for quote in part.quotes) + premium
    whole = sum(quote.gas_cost for quote in plan.quotes)
    assert sum(quote.gas_cost for quote in part.quotes) * plan.gas >= whole * used - 10 * plan.gas
    per_unit = plan.quotes[0].gross_usd / (plan.quotes[0].proceeds - plan.quotes[0].repaid)
    assert part.net_usd == pytest.approx((gain - costs) * per_unit - 0.002 * USD, abs=10_000)
    nothing = replace(good, items=(items[1],) * 3, groups=(replace(good.groups[0], gain=0),))
    assert make_planner().settle(plan, used, nothing).part is None


def test_a_group_that_is_undone_takes_its_items_with_it() -> None:
    plan = one_plan(*[PAIR] * 2)
    result = RunResult(
        (ItemResult(False, 1, UNDONE),) * 2, (GroupResult(False, 0, b"\x01\x02\x03\x04"),), (), 0, 0
    )
    settled = make_planner().settle(plan, plan.gas, result)
    assert set(settled.failed) == {(MARKET, borrower(1)), (MARKET, borrower(2))}
    assert set(settled.failed.values()) == {"unknown error 0x01020304"}


def test_a_gain_that_shrinks_below_the_minimum_is_dropped() -> None:
    plan = one_plan(PAIR)
    (quote,) = plan.quotes
    margin = quote.net - quote.minimum_profit
    result = result_of(plan)
    (group,) = result.groups

    def settle(loss: int) -> tuple[Plan | None, list[Reason]]:
        shrunk = replace(result, groups=(replace(group, gain=group.gain - loss),))
        settled = make_planner().settle(plan, plan.gas, shrunk)
        return settled.plan, [skip.reason for skip in settled.skips]

    kept, skips = settle(margin)
    assert kept is not None
    assert skips == []
    assert settle(margin + 1) == (None, [Reason.UNPROFITABLE])


def test_what_a_simulation_takes_away_no_later_base_fee_can_take_again() -> None:
    bid = replace(BID, max_fee=Wei(10**5 * GWEI))
    plan = replace(one_plan(PAIR, bid=bid), prices={ZERO_ADDRESS: Usd(2_000 * USD)})
    (quote,) = plan.quotes
    result = result_of(plan)
    (group,) = result.groups
    loss = (quote.net - quote.minimum_profit) // 2
    shrunk = replace(result, groups=(replace(group, gain=group.gain - loss),))
    kept = make_planner().settle(plan, plan.gas, shrunk).plan
    assert kept is not None
    now = plan.fees.price(plan.next_block.base_fee)
    assert now < kept.bid.max_fee < plan.bid.max_fee
    (left,) = kept.quotes
    worst = kept.gas * (kept.bid.max_fee - now) * 2_000 * USD // 10**18
    minimum = left.minimum_profit * USD // 10**6
    assert 0 <= left.net_usd - worst - minimum < USD // 10, "and no more than needed"
    again = make_planner().settle(kept, plan.gas, shrunk).plan
    assert again is not None
    assert again.bid == kept.bid, "the same simulation changes nothing more"


def test_a_result_of_another_shape_is_refused() -> None:
    plan = one_plan(*[PAIR] * 2)
    with pytest.raises(ValueError, match="0 items"):
        make_planner().settle(plan, plan.gas, RunResult((), (), (), 0, 0))


def test_every_quote_in_every_plan_meets_its_minimum() -> None:
    shallow = [pool(1, WETH, USDC, 500, 900_000), pool(2, WETH, DAI, 3_000, 400_000)]
    pairs = [
        FakeTerms(WETH, (USDC, DAI)[n % 2], (n + 1) * 700 * 10 ** (6, 18)[n % 2]) for n in range(40)
    ]
    plans, skips = plan_all(*pairs, pools=shallow)
    kept: list[Quote] = [quote for plan in plans for quote in plan.quotes]
    assert kept
    assert all(quote.net >= quote.minimum_profit for quote in kept)
    taken = {quote.opportunity.position.borrower for quote in kept}
    skipped = {skip.borrower for skip in skips}
    assert taken | skipped == {borrower(n) for n in range(1, 41)}
    assert not taken & skipped


def test_nothing_is_sold_on_a_stopped_venue() -> None:
    stopped: set[str] = set()
    planner = Planner(
        RULES,
        {"uniswap": venue(*POOLS)},
        {MARKET: FakeLender()},  # type: ignore[dict-item]
        lambda: "plan",
        lambda: stopped,
    )
    quotes, _ = planner.quote(view(), [choice(1, PAIR)])
    stopped.add("venue/uniswap")
    unquoted, (skip,) = planner.quote(view(), [choice(1, PAIR)])
    assert (unquoted, skip.reason) == ([], Reason.NO_ROUTE)
    plans, (late,) = planner.pack(view(), [(quotes[0], BID)])
    assert (plans, late.reason, late.detail) == ([], Reason.DENIED, "venue/uniswap is stopped")
    stopped.clear()
    plans, skips = planner.pack(view(), [(quotes[0], BID)])
    assert (len(plans), skips) == (1, [])


def test_a_market_that_stops_after_its_quote_is_not_planned() -> None:
    stopped: set[str] = set()
    lender = FakeLender()
    planner = Planner(
        RULES,
        {"uniswap": venue(*POOLS)},
        {MARKET: lender},  # type: ignore[dict-item]
        lambda: "plan",
        lambda: stopped,
    )
    quotes, _ = planner.quote(view(), [choice(1, PAIR)])
    stopped.add(f"market/{MARKET}")
    plans, (skip,) = planner.pack(view(), [(quotes[0], BID)])
    assert (plans, skip.reason) == ([], Reason.DENIED)


OP_FEE = OpStackFee(Wei(20 * GWEI), 5_227, Wei(3 * GWEI), 1_014_213)
ARBITRUM = ArbitrumFee(Wei(16 * 25 * GWEI), Wei(GWEI // 100))


def plan_on_rollup(fee: DataFee, count: int = 20) -> Plan:
    """Return the plan of as many positions, worth posting to a parent chain."""
    seen, planner = replace(view(), data_fee=fee), make_planner()
    quotes, skips = planner.quote(seen, [choice(n, PAIR) for n in range(1, count + 1)])
    (plan,), more = planner.pack(seen, [(quote, BID) for quote in quotes])
    assert [*skips, *more] == []
    return plan


@pytest.mark.parametrize("fee", [OP_FEE, ARBITRUM])
@pytest.mark.parametrize("items", [1, 20])
def test_posting_to_a_parent_chain_is_part_of_the_cost(fee: DataFee, items: int) -> None:
    plain, plan = one_plan(*[PAIR] * items), plan_on_rollup(fee, items)
    size = 80 + len(plan.calldata)
    assert plan.data_fee == fee.wei_up(size, plan.gas) > 0
    assert plan.gas_cost == plain.gas_cost + plan.data_fee
    assert plan.net_usd < plain.net_usd
    shares = sum(quote.data_fee for quote in plan.quotes)  # micro-dollars, at 2,000 dollars
    paid = plan.data_fee * 2_000 * 10**6 / 10**18
    assert paid <= shares <= paid * 3 // 2 + items
    assert all(
        quote.net == quote.proceeds - quote.repaid - quote.premium - quote.gas_cost
        and quote.gas_cost > quote.data_fee > 0
        for quote in plan.quotes
    )


def test_only_arbitrum_takes_it_as_gas() -> None:
    plain, posted, taken = one_plan(PAIR), plan_on_rollup(OP_FEE, 1), plan_on_rollup(ARBITRUM, 1)
    assert (posted.gas_limit, posted.data_gas) == (plain.gas_limit, 0)
    assert posted.worst_cost == posted.gas_limit * posted.bid.max_fee + posted.data_fee
    assert taken.data_gas == ARBITRUM.gas_up(80 + len(taken.calldata), Wei(10 * GWEI)) > 0
    assert taken.gas_limit == plain.gas_limit + taken.data_gas
    assert taken.worst_cost == taken.gas_limit * taken.bid.max_fee


def test_a_data_fee_above_the_profit_is_unprofitable() -> None:
    dear = replace(OP_FEE, l1_base_fee=Wei(10**7 * GWEI))
    seen = replace(view(), data_fee=dear)
    quotes, skips = make_planner().quote(seen, [choice(1, PAIR)])
    assert not quotes
    assert skips[0].reason is Reason.UNPROFITABLE


def test_a_simulation_changes_gas_and_not_the_data_fee() -> None:
    plan = plan_on_rollup(OP_FEE)
    settled = make_planner().settle(plan, plan.gas // 2, result_of(plan)).plan
    assert settled is not None
    assert settled.data_fee == plan.data_fee
    assert abs(settled.gas_cost - (plan.data_fee + plan.gas // 2 * 11 * GWEI)) < 11 * GWEI
    for before, after in zip(plan.quotes, settled.quotes, strict=True):
        gas = before.gas_cost - before.data_fee
        assert abs(after.gas_cost - before.data_fee - gas // 2) <= 2


def test_the_maximum_fee_never_costs_more_than_the_profit() -> None:
    plan = one_plan(PAIR, bid=replace(BID, max_fee=Wei(10**6 * GWEI)))
    (quote,) = plan.quotes
    spare = (quote.net - quote.minimum_profit) * 10**18 // (2_000 * 10**6)
    assert plan.bid.max_fee == 11 * GWEI + spare // plan.gas
    dearest = mul_div_up(plan.gas * plan.bid.max_fee * 2_000, 10**6, 10**18)
    assert quote.proceeds - quote.repaid - quote.premium - dearest >= quote.minimum_profit - 1


def test_a_budget_lowers_the_maximum_fee_before_it_refuses() -> None:
    (plan,), skips = plan_all(*[PAIR] * 5)
    budget = Wei(plan.gas_limit * 20 * GWEI)
    (cut,), skips = plan_all(*[PAIR] * 5, rules=replace(RULES, gas_budget=budget))
    assert skips == []
    assert cut.gas_limit == plan.gas_limit
    assert cut.bid.max_fee == 20 * GWEI * 15 // 16
    assert cut.worst_cost <= budget
