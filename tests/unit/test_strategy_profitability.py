"""The default strategy: what it prices, what it refuses, what it pays."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from keeper import (
    USD,
    AtRisk,
    Bid,
    BidOutcome,
    BidRecord,
    Bps,
    Cause,
    FeeHistory,
    FlashKind,
    FlashSource,
    Inclusion,
    Opportunity,
    Quote,
    Reason,
    Skip,
    Token,
    Usd,
    Wei,
)
from strategies.profitability import ENOUGH, LOWER_BPS, RAISE_BPS, Profitability, shade
from tests.fake_market import (
    AAVE,
    DAI,
    GWEI,
    MARKET,
    USDC,
    VALUES,
    WBTC,
    WETH,
    FakeTerms,
    borrower,
    position,
    view,
)

PAIR = FakeTerms(WETH, USDC, 10_000 * 10**6)


def strategy(**settings: Any) -> Profitability:
    return Profitability(Profitability.Config(**settings))


def risk(number: int, *pairs: FakeTerms, refusals: tuple[Skip, ...] = ()) -> AtRisk:
    return AtRisk(position(number, *pairs), pairs, refusals, Cause.PRICE)


def make_quote(net: int, debt: Token = USDC, minimum: int = 10**6) -> Quote:
    flash = FlashSource(FlashKind.AAVE, AAVE, debt.address, 10**30, 500)
    opportunity = Opportunity(position(1, PAIR), (PAIR,), Cause.PRICE)
    usd = Usd(net * VALUES[debt] // 10**debt.decimals)
    return Quote(opportunity, (), (), flash, debt, 0, 0, 0, 0, 0, net, usd, minimum, usd)


def only_skip(found: list[Opportunity | Skip]) -> Skip:
    (skip,) = found
    assert isinstance(skip, Skip)
    return skip


def test_a_liquidatable_position_is_priced_with_its_pairs() -> None:
    other = FakeTerms(WBTC, DAI, 500 * 10**18)
    (found,) = strategy().select(view(risk(1, PAIR, other)))
    assert isinstance(found, Opportunity)
    assert found.pairs == (PAIR, other)
    assert found.cause is Cause.PRICE


def test_refusals_of_the_protocol_pass_through() -> None:
    refusals = (
        Skip(MARKET, "aave-v3", borrower(1), Reason.PAUSED, "USDC is paused"),
        Skip(MARKET, "aave-v3", borrower(1), Reason.GRACE, "WETH until 1300"),
    )
    assert tuple(strategy().select(view(risk(1, refusals=refusals)))) == refusals


def test_a_denied_borrower_is_refused() -> None:
    denying = strategy(deny_borrowers=["0x" + borrower(1).hex().upper()])
    found = list(denying.select(view(risk(1, PAIR), risk(2, PAIR))))
    assert isinstance(found[0], Skip)
    assert found[0].reason is Reason.DENIED
    assert isinstance(found[1], Opportunity)


def test_pairs_with_a_denied_token_are_left_out() -> None:
    other = FakeTerms(WBTC, USDC, 10_000 * 10**6)
    denying = strategy(deny_tokens=["0x" + WETH.address.hex()])
    (found,) = denying.select(view(risk(1, PAIR, other)))
    assert isinstance(found, Opportunity)
    assert found.pairs == (other,)
    assert only_skip(list(denying.select(view(risk(2, PAIR))))).reason is Reason.DENIED


def test_a_bonus_below_the_minimum_is_not_priced() -> None:
    # 5 % of 19.99 dollars is less than one.
    small, enough = FakeTerms(WETH, USDC, 19_990_000), FakeTerms(WETH, USDC, 20_000_000)
    skip = only_skip(list(strategy().select(view(risk(1, small)))))
    assert skip.reason is Reason.UNPROFITABLE
    assert "before costs" in skip.detail
    assert isinstance(next(strategy().select(view(risk(1, enough)))), Opportunity)


def test_a_debt_without_a_price_is_no_price() -> None:
    seen = view(risk(1, PAIR), values={WETH: VALUES[WETH]})
    assert only_skip(list(strategy().select(seen))).reason is Reason.NO_PRICE


def test_nothing_is_chosen_while_the_base_fee_is_over_the_cap() -> None:
    skips = list(strategy(max_fee_gwei=10).select(view(risk(1, PAIR), base_fee=11 * GWEI)))
    assert "max_fee_gwei" in only_skip(skips).detail
    assert only_skip(skips).reason is Reason.GAS_CAP


def test_limits_are_the_configured_ones() -> None:
    seen = view(risk(1, PAIR))
    (chosen,) = strategy().select(seen)
    assert isinstance(chosen, Opportunity)
    limits = strategy(min_profit_usd="2.5", largest_repay_usd=1000).limits(chosen, seen)
    assert limits.minimum_profit == 250_000_000
    assert limits.largest_repay == 1000 * USD
    assert strategy().limits(chosen, seen).largest_repay is None


def test_a_bid_pays_the_configured_fees() -> None:
    seen = view()
    made = strategy(priority_fee_gwei=2, deadline_seconds=36).bid(make_quote(5 * 10**6), seen)
    assert made == Bid(
        Wei(2 * GWEI),
        Wei(seen.next_block.base_fee_after(6) + 2 * GWEI),
        seen.next_block.timestamp + 36,
    )
    capped = strategy(max_fee_gwei=11).bid(make_quote(5 * 10**6), seen)
    assert isinstance(capped, Bid)
    assert capped.max_fee == 11 * GWEI


def test_a_tip_comes_out_of_native_profit_and_leaves_the_minimum() -> None:
    tipping, seen = strategy(tip_bps_of_profit=5_000), view()
    ether = 10**18

    def tip(quote: Quote) -> int:
        bid = tipping.bid(quote, seen)
        assert isinstance(bid, Bid)
        return bid.tip

    assert tip(make_quote(2 * ether, WETH, ether // 10)) == ether
    assert tip(make_quote(2 * ether, WETH, 15 * ether // 10)) == ether // 2
    assert tip(make_quote(50 * 10**6)) == 0


def test_a_quote_below_its_minimum_gets_no_bid() -> None:
    refused = strategy().bid(make_quote(10**6 - 1), view())
    assert isinstance(refused, Skip)
    assert refused.reason is Reason.UNPROFITABLE
    assert refused.detail == "net 1.00 USD < minimum 1.00 USD"


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("min_profit_usd", 0, "greater than 0"),
        ("largest_repay_usd", -1, "greater than 0"),
        ("tip_bps_of_profit", 9_001, "less than or equal to 9000"),
        ("priority_fee_gwei", -1, "greater than or equal to 0"),
        ("priority_percentile", 91, "less than or equal to 90"),
        ("full_blocks", 33, "less than or equal to 32"),
        ("deadline_seconds", 3_601, "less than or equal to 3600"),
        ("deny_tokens", ["0x12"], "is no address: 0x and 40 hexadecimal digits"),
        ("deny_borrowers", ["ff" * 20], "is no address: 0x and 40 hexadecimal digits"),
        ("min_proft_usd", 1, "Extra inputs are not permitted"),
    ],
)
def test_a_bad_setting_is_named(setting: str, value: object, said: str) -> None:
    with pytest.raises(ValidationError, match=setting) as caught:
        strategy(**{setting: value})
    assert said in str(caught.value)


def test_dollars_are_rounded_in_the_operators_favour() -> None:
    tiny = Decimal("0.000000001")
    seen = view(risk(1, PAIR))
    (chosen,) = strategy().select(seen)
    assert isinstance(chosen, Opportunity)
    limits = strategy(min_profit_usd=tiny, largest_repay_usd=1 + tiny).limits(chosen, seen)
    assert limits.minimum_profit == 1
    assert limits.largest_repay == USD


ETHER = 10**18


def paying(*gwei: int) -> FeeHistory:
    """Return a history of one block that paid these fees at 10, 50 and 90 %."""
    return FeeHistory(100, (10, 50, 90), (tuple(Wei(fee * GWEI) for fee in gwei),))


def bid_of(using: Profitability, quote: Quote, **seen: Any) -> Bid:
    made = using.bid(quote, replace(view(), **seen))
    assert isinstance(made, Bid)
    return made


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 2 * GWEI),
        ({"priority_percentile": 90}, 3 * GWEI),
        ({"priority_percentile": 90, "largest_priority_fee_gwei": 20}, 9 * GWEI),
        ({"priority_percentile": 5}, GWEI),
        ({"priority_percentile": 0}, GWEI // 10),
        ({"priority_fee_gwei": 5}, 5 * GWEI),
        ({"max_fee_gwei": 11}, GWEI),
    ],
)
def test_the_priority_fee_matches_recent_blocks_within_the_cap(
    settings: dict[str, Any], expected: int
) -> None:
    made = bid_of(strategy(**settings), make_quote(5 * 10**6), fee_history=paying(1, 2, 9))
    assert made.priority_fee == expected


@pytest.mark.parametrize("history", [None, FeeHistory(100, (10, 50), ())])
def test_without_history_the_configured_fee_is_paid(history: FeeHistory | None) -> None:
    made = bid_of(strategy(priority_fee_gwei=2), make_quote(5 * 10**6), fee_history=history)
    assert made.priority_fee == 2 * GWEI


@pytest.mark.parametrize("inclusion", [Inclusion.FIRST_COME, Inclusion.ARBITRUM])
def test_nothing_is_paid_for_a_place_that_cannot_be_bought(inclusion: Inclusion) -> None:
    quote = make_quote(2 * ETHER, WETH, ETHER // 10)
    made = bid_of(
        strategy(tip_bps_of_profit=5_000), quote, inclusion=inclusion, fee_history=paying(1, 2, 9)
    )
    assert (made.priority_fee, made.tip) == (0, 0)
    on_op = bid_of(strategy(tip_bps_of_profit=5_000), quote, inclusion=Inclusion.OP_STACK)
    assert on_op.tip == ETHER


def test_a_priority_fee_never_takes_the_minimum() -> None:
    # 1 USDC over the minimum is 5e14 wei; 500,000 gas at 10 gwei are 10 USDC, counted already
    quote = replace(make_quote(2 * 10**6), gas=500_000, gas_cost=10 * 10**6)
    made = bid_of(strategy(), quote, fee_history=paying(3, 3, 3))
    assert made.priority_fee == GWEI
    # a data fee is part of `gas_cost`, and no gas
    rollup = replace(quote, gas_cost=12 * 10**6, data_fee=2 * 10**6)
    assert bid_of(strategy(), rollup, fee_history=paying(3, 3, 3)) == made


def record(*outcomes: tuple[int, bool]) -> BidRecord:
    return BidRecord(tuple(BidOutcome(Bps(share), won) for share, won in outcomes))


def test_losses_raise_the_builders_share_to_the_cap_and_wins_lower_it() -> None:
    lost, first = (2_000, False), (2_000, True)
    assert shade(2_000, 6_000, record()) == 2_000
    assert shade(2_000, 6_000, record(lost)) == 2_000 + RAISE_BPS
    assert shade(2_000, 6_000, record(first)) == 2_000 - LOWER_BPS
    assert shade(2_000, 2_300, record(lost)) == 2_300
    assert shade(2_000, 6_000, record(*[(9_000, False)] * 50)) == 6_000
    assert shade(2_000, 6_000, record(*[(0, True)] * 50)) == 0
    assert shade(2_000, 6_000, record(*[first] * 5, lost)) == 2_000


def test_what_says_nothing_about_the_share_is_passed_over() -> None:
    assert shade(2_000, 6_000, record((1_499, False))) == 2_000
    assert shade(2_000, 6_000, record((2_501, True))) == 2_000


def test_the_tip_follows_the_record_within_the_owners_cap() -> None:
    quote = make_quote(2 * ETHER, WETH, ETHER // 10)
    lost = record(*[(9_000, False)] * 50)
    fixed = strategy(tip_bps_of_profit=2_000)
    assert bid_of(fixed, quote, bid_record=lost).tip == 2 * ETHER * 2_000 // 10_000
    rising = strategy(tip_bps_of_profit=2_000, largest_tip_bps_of_profit=7_000)
    assert bid_of(rising, quote, bid_record=lost).tip == 2 * ETHER * 7_000 // 10_000
    assert bid_of(rising, quote).tip == 2 * ETHER * 2_000 // 10_000
    assert bid_of(strategy(), quote, bid_record=lost).tip == 0


@pytest.mark.parametrize(("number", "share"), [(ENOUGH - 1, 7_000), (ENOUGH, 1_000)])
def test_the_way_a_bid_takes_is_judged_alone_once_it_has_a_record(number: int, share: int) -> None:
    won = [BidOutcome(Bps(0), True, "one+two")] * number
    lost = [BidOutcome(Bps(9_000), False, "three")] * 50
    rising = strategy(tip_bps_of_profit=2_000, largest_tip_bps_of_profit=7_000)
    told = BidRecord((*won, *lost), "one+two")
    bid = bid_of(rising, make_quote(2 * ETHER, WETH, ETHER // 10), bid_record=told)
    assert bid.tip == 2 * ETHER * share // 10_000


def test_a_cap_below_the_first_share_is_refused() -> None:
    with pytest.raises(ValidationError, match="is less than tip_bps_of_profit"):
        strategy(tip_bps_of_profit=2_000, largest_tip_bps_of_profit=1_000)
