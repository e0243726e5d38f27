"""Positions that a liquidation in part leaves less healthy: seen, and taken whole or not at all."""

from dataclasses import replace

from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.types import CollateralLeg, DebtLeg, Quote, Reason, Skip
from keeper.units import Bps, Usd, Wad, Wei
from tests.fake_market import (
    CONTRACT,
    GWEI,
    MARKET,
    USDC,
    WBTC,
    WETH,
    FakeChoice,
    FakeLender,
    FakeTerms,
    choice,
    pool,
    position,
    venue,
    view,
)

RULES = PlanRules("test", CONTRACT, Wei(GWEI))
POOLS = (pool(1, WETH, USDC, 500, 50_000_000), pool(2, WBTC, USDC, 500, 50_000_000))
WHOLE = FakeTerms(WETH, USDC, 10_000 * 10**6)
OTHER = FakeTerms(WBTC, USDC, 10_000 * 10**6)
EDGE = 84 * 10**16
"""Health at which a threshold of 0.8 and a bonus of 5 % leave it as it was."""


def chosen(
    *pairs: FakeTerms,
    health: int,
    left: int = 0,
    thresholds: tuple[int, ...] = (8_000, 8_000),
    whole: bool = False,
) -> FakeChoice:
    """A choice whose collaterals are what the largest calls seize, and so much more."""
    made = choice(1, *pairs)
    held = tuple(
        CollateralLeg(
            pair.collateral, pair.seize(pair.maximum).received + left, 0, Bps(limit), pair.bonus
        )
        for pair, limit in zip(pairs, thresholds, strict=False)
    )
    debt = (DebtLeg(USDC, 40_000 * 10**6, 0),)
    found = replace(position(1, *pairs), collateral=held, debt=debt, health=Wad(health))
    limits = replace(made.limits, whole=whole)
    return replace(made, opportunity=replace(made.opportunity, position=found), limits=limits)


def quoted(*choices: FakeChoice, rules: PlanRules = RULES) -> tuple[list[Quote], list[Skip]]:
    venues = {"uniswap": venue(*POOLS)}
    planner = Planner(rules, venues, {MARKET: FakeLender()}, lambda: "plan")  # type: ignore[dict-item]
    return planner.quote(view(), choices)


def test_a_position_is_toxic_below_threshold_times_bonus() -> None:
    sound, sick = (chosen(WHOLE, health=EDGE - less).opportunity for less in (0, 1))
    assert [sound.toxic, sick.toxic] == [False, True]
    assert sick.position.worsens(WETH)
    assert not sick.position.worsens(WBTC)
    assert not replace(sick.position, health=Wad(10**18)).toxic


def test_a_collateral_that_helps_makes_it_none() -> None:
    found = chosen(WHOLE, OTHER, health=EDGE - 1, thresholds=(8_000, 7_000)).opportunity
    assert [found.position.worsens(WETH), found.position.worsens(WBTC)] == [True, False]
    assert not found.toxic


def test_all_collateral_is_taken_and_no_part() -> None:
    (quote,), skips = quoted(chosen(WHOLE, health=EDGE - 1))
    assert skips == []
    assert quote.toxic
    assert quote.steps[0].repay == WHOLE.maximum
    quotes, (skip,) = quoted(chosen(WHOLE, health=EDGE - 1, left=10**15))
    assert quotes == []
    assert skip.reason is Reason.TOXIC
    assert "WETH" in skip.detail


def test_a_part_is_taken_where_it_does_not_harm_or_is_allowed() -> None:
    (quote,), _ = quoted(chosen(WHOLE, health=EDGE, left=10**15))
    assert not quote.toxic
    allowed = replace(RULES, toxic_parts=True)
    (quote,), _ = quoted(chosen(WHOLE, health=EDGE - 1, left=10**15), rules=allowed)
    assert quote.toxic


def test_the_collateral_that_heals_is_taken_instead() -> None:
    found = chosen(WHOLE, OTHER, health=EDGE - 1, left=10, thresholds=(8_000, 7_000))
    (quote,), skips = quoted(found)
    assert skips == []
    assert quote.steps[0].terms.collateral == WBTC


def test_a_toxic_position_is_not_taken_in_part_for_want_of_money() -> None:
    poor = replace(RULES, largest_repay=Usd(5_000 * 10**8))
    quotes, (skip,) = quoted(chosen(WHOLE, health=EDGE - 1), rules=poor)
    assert quotes == []
    assert skip.reason is Reason.TOXIC
