"""The strategy `sequence`: what it allows, and what it bids."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from keeper.types import AtRisk, Bid, Cause, DebtLeg, Opportunity, Reason, Skip
from keeper.units import USD, Usd, Wei
from strategies.sequence import Sequence
from tests.fake_market import GWEI, USDC, WBTC, WETH, FakeTerms, choice, position, view
from tests.unit.test_planning_quotes import only, quote_all

PAIR = FakeTerms(WETH, USDC, 10_000 * 10**6)
OTHER = FakeTerms(WBTC, USDC, 10_000 * 10**6)


def strategy(**options: Any) -> Sequence:
    return Sequence(Sequence.Config(**options))


def chosen(*pairs: FakeTerms, owed: int) -> Opportunity:
    found = replace(position(1, *pairs), debt=(DebtLeg(USDC, owed, 0),))
    return Opportunity(found, pairs, Cause.PRICE)


def test_every_open_position_is_chosen_with_all_its_pairs() -> None:
    why = Skip("market", "aave-v3", position(2).borrower, Reason.DUST)
    seen = view(
        AtRisk(position(1, PAIR, OTHER), (PAIR, OTHER), (), Cause.PRICE),
        AtRisk(position(2, PAIR), (), (why,), Cause.PRICE),
    )
    first, second = strategy().select(seen)
    assert isinstance(first, Opportunity)
    assert first.pairs == (PAIR, OTHER)
    assert second is why


def test_several_calls_are_allowed_where_one_does_not_end_it() -> None:
    made = strategy(calls=3, min_profit_usd=2, largest_repay_usd=5_000)
    half = made.limits(chosen(PAIR, owed=2 * PAIR.maximum), view())
    assert (half.calls, half.minimum_profit, half.largest_repay) == (3, 2 * USD, Usd(5_000 * USD))
    assert made.limits(chosen(PAIR, owed=PAIR.maximum), view()).calls == 1
    assert made.limits(chosen(PAIR, OTHER, owed=PAIR.maximum), view()).calls == 3


@pytest.mark.parametrize("bad", [{"calls": 0}, {"calls": 5}, {"min_profit_usd": 0}, {"call": 2}])
def test_a_bad_setting_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Sequence.Config(**bad)


def test_the_bid_stays_under_the_cap() -> None:
    quote = only(quote_all(choice(1, PAIR)))
    bid = strategy().bid(quote, view())
    assert isinstance(bid, Bid)
    assert bid.priority_fee == Wei(10**8)
    high = strategy(max_fee_gwei=1).bid(quote, view(base_fee=10 * GWEI))
    assert isinstance(high, Skip)
    assert high.reason is Reason.GAS_CAP
