"""Closing positions whole: which pairs it takes, and that a part is never sent."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import ValidationError

from keeper import USD, AtRisk, Bid, Cause, Opportunity, Reason, Skip, Usd, Wei
from keeper.planning.rules import PlanRules
from strategies.full_close import Ending, FullClose, ending
from tests.fake_market import DAI, GWEI, USDC, WBTC, WETH, FakeTerms, position, view
from tests.unit.test_planning_plans import RULES, make_planner
from tests.unit.test_strategy_profitability import make_quote

WHOLE = FakeTerms(WETH, USDC, 10_000 * 10**6)


@dataclass(frozen=True)
class Chosen:
    """What the strategist hands to planning."""

    opportunity: Opportunity
    limits: Any


def risk(*pairs: FakeTerms, owed: dict[Any, int] | None = None) -> AtRisk:
    """Return a position that owes what its pairs may repay, or as much as is said."""
    made = position(1, *pairs)
    debt = tuple(replace(leg, amount=(owed or {}).get(leg.token, leg.amount)) for leg in made.debt)
    return AtRisk(replace(made, debt=debt), pairs, (), Cause.PRICE)


def strategy(**options: Any) -> FullClose:
    return FullClose(FullClose.Config(**options))


def test_the_only_debt_paid_in_full_ends_the_position() -> None:
    seen = risk(WHOLE)
    assert ending(seen.position, WHOLE) is Ending.POSITION
    assert ending(risk(WHOLE, owed={USDC: WHOLE.maximum + 1}).position, WHOLE) is Ending.NOTHING


def test_the_only_collateral_taken_whole_ends_the_position() -> None:
    seen = risk(WHOLE, owed={USDC: 10**12})
    (leg,) = seen.position.collateral
    drained = replace(
        seen.position,
        collateral=(replace(leg, amount=WHOLE.seize(WHOLE.maximum).received),),
    )
    assert ending(drained, WHOLE) is Ending.POSITION
    assert ending(seen.position, WHOLE) is Ending.NOTHING


def test_the_pairs_that_end_the_most_are_taken() -> None:
    other = FakeTerms(WETH, DAI, 500 * 10**18)
    seen = risk(WHOLE, other, owed={USDC: 20_000 * 10**6})
    assert ending(seen.position, other) is Ending.LEG
    (chosen,) = strategy().select(view(seen))
    assert isinstance(chosen, Opportunity)
    assert chosen.pairs == (other,)
    assert strategy().limits(chosen, view(seen)).whole


@pytest.mark.parametrize(("least", "taken"), [("position", False), ("leg", False), ("any", True)])
def test_what_ends_nothing_is_refused_or_taken_as_it_is(least: str, taken: bool) -> None:
    seen = risk(WHOLE, owed={USDC: 2 * WHOLE.maximum})
    (found,) = strategy(least=least).select(view(seen))
    if taken:
        assert isinstance(found, Opportunity)
        assert not strategy(least=least).limits(found, view(seen)).whole
    else:
        assert isinstance(found, Skip)
        assert found.reason is Reason.DENIED


def test_a_repay_the_rules_forbid_ends_nothing() -> None:
    @dataclass(frozen=True)
    class Dusty(FakeTerms):
        def legal_down(self, repay: int) -> int:
            return min(repay, self.maximum - 1)

    pair = Dusty(WETH, USDC, 10_000 * 10**6)
    assert ending(position(1, pair), pair) is Ending.NOTHING


@pytest.mark.parametrize("largest", [None, Usd(9_999 * USD)])
def test_planning_repays_the_whole_or_nothing(largest: Usd | None) -> None:
    # so much for these pools that a part would earn more
    pair = FakeTerms(WETH, USDC, 3_500_000 * 10**6)
    rules: PlanRules = replace(RULES, largest_repay=largest)
    seen = view(risk(pair))
    (chosen,) = strategy().select(seen)
    assert isinstance(chosen, Opportunity)
    limits = strategy().limits(chosen, seen)
    quotes, skips = make_planner(rules).quote(seen, [Chosen(chosen, limits)])
    parts, _ = make_planner(rules).quote(seen, [Chosen(chosen, replace(limits, whole=False))])
    if largest is None:
        assert [quote.steps[0].repay for quote in quotes] == [pair.maximum]
        assert parts[0].steps[0].repay < pair.maximum
    else:
        assert not quotes
        assert [skip.reason for skip in skips] == [Reason.DUST]
        assert parts


def test_the_bid_keeps_the_minimum_and_the_cap() -> None:
    quote = make_quote(100 * 10**6)
    bid = strategy(priority_fee_gwei=2).bid(quote, view())
    assert isinstance(bid, Bid)
    assert bid.priority_fee == 2 * GWEI
    assert bid.deadline == view().next_block.timestamp + 24
    short = replace(make_quote(10**18, WETH, 10**18 - 100), gas=100, gas_cost=100 * 10 * GWEI)
    poor = strategy(priority_fee_gwei=2).bid(short, view())
    assert isinstance(poor, Bid)
    assert poor.priority_fee <= Wei(1)
    capped = strategy(max_fee_gwei=5).bid(quote, view())
    assert isinstance(capped, Skip)
    assert capped.reason is Reason.GAS_CAP


def test_a_bad_setting_is_refused() -> None:
    with pytest.raises(ValidationError):
        FullClose.Config(least="half")


def test_refusals_are_passed_on() -> None:
    refused = Skip("market", "aave-v3", position(1).borrower, Reason.PAUSED)
    seen = AtRisk(position(1, FakeTerms(WBTC, USDC, 1)), (), (refused,), Cause.PRICE)
    assert list(strategy().select(view(seen))) == [refused]
