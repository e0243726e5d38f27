"""Morpho Blue's arithmetic: incentive factors, shares, both ways of a call, the adaptive rate."""

from dataclasses import replace
from itertools import pairwise
from math import exp

import pytest

from keeper.protocols.morpho_blue import fixed, rates
from keeper.protocols.morpho_blue.pauses import SHORT, Pauses
from keeper.protocols.morpho_blue.terms import MorphoTerms, Way
from keeper.types import Seizure, Token
from keeper.units import WAD, Address, Bps, Hash

WETH = Token(Address(b"\1" * 20), "WETH", 18)
USDC = Token(Address(b"\2" * 20), "USDC", 6)
PRICE = 2_000 * 10**24
"""2,000 USDC for a WETH: 36 decimals, and six less twelve."""
OWED = 1_700 * 10**6
SHARES = OWED * 10**6
TERMS = MorphoTerms(
    id=Hash(b"\3" * 32),
    collateral=WETH,
    debt=USDC,
    bonus=Bps(10_438),
    incentive=fixed.incentive_down(86 * 10**16),
    price=PRICE,
    base=10**8,
    shares=SHARES,
    held=10**18,
    total_assets=10**12 + 7,
    total_shares=10**18,
)


@pytest.mark.parametrize(
    ("lltv", "factor"),
    [
        (386 * 10**15, 115 * 10**16),
        (86 * 10**16, 1_043_841_336_116_910_229),
        (945 * 10**15, 1_016_776_817_488_561_260),
        (98 * 10**16, 1_006_036_217_303_822_937),
    ],
)
def test_incentive_factors(lltv: int, factor: int) -> None:
    assert fixed.incentive_down(lltv) == factor


def test_shares_round_for_the_lenders() -> None:
    assert fixed.assets_up(0, 0, 0) == fixed.assets_down(10**6 - 1, 0, 0) == 0
    assert fixed.assets_up(1, 0, 0) == 1
    assert fixed.shares_down(5, 10, 0) == 5 * 10**6 // 11
    assert fixed.shares_up(5, 10, 0) == 5 * 10**6 // 11 + 1


def test_interest_has_three_terms() -> None:
    rate = WAD // 10 // rates.YEAR
    assert rates.interest_down(10**18, rate, rates.YEAR) / 1e18 == pytest.approx(
        exp(0.1) - 1, rel=1e-4
    )
    first = rate * 1_000
    second = first**2 // (2 * WAD)
    assert fixed.compounded_down(rate, 1_000) == first + second + second * first // (3 * WAD)


@pytest.mark.parametrize("x", [-41.0, -3.3, -1.0, -1e-9, 0.0, 1e-9, 0.3, 1.0, 7.5, 90.0])
def test_the_power_of_e(x: float) -> None:
    # ExpLib's two terms are off by at most r³/6 for r up to ln 2 / 2
    assert rates.exp_to_zero(round(x * 1e18)) / 1e18 == pytest.approx(exp(x), rel=0.01, abs=1e-17)
    assert rates.exp_to_zero(0) == WAD
    assert rates.exp_to_zero(-42 * WAD) == 0


def test_the_adaptive_rate_on_its_curve() -> None:
    at_target = 4 * WAD // 100 // rates.YEAR
    assert rates.adaptive_rate(0, 0, 0, 50) == (at_target // 4, at_target)
    assert rates.adaptive_rate(10**20, 9 * 10**19, at_target, 10**6) == (at_target, at_target)
    full, moved = rates.adaptive_rate(10**20, 10**20, at_target, 86_400 * 5)
    # 50 a year at full use: e^(50 · 5 / 365) in five days
    assert moved / at_target == pytest.approx(exp(250 / 365), rel=0.01)
    assert 4 * at_target < full < 4 * moved
    idle, moved = rates.adaptive_rate(10**20, 0, at_target, 10**9)
    assert moved == rates.LEAST
    assert rates.LEAST // 4 <= idle < at_target
    assert rates.adaptive_rate(10**20, 10**20, at_target, 10**9)[1] == rates.MOST


def test_a_covered_debt_is_closed_by_its_shares() -> None:
    assert TERMS.way is Way.SHARES
    assert TERMS.word(TERMS.maximum) == TERMS.word(10**30) == SHARES
    assert TERMS.maximum == fixed.assets_up(SHARES, TERMS.total_assets, TERMS.total_shares)
    found = TERMS.seize(TERMS.maximum)
    assert found.repaid == TERMS.maximum
    assert found.received == pytest.approx(OWED * 1.043841336 / 2_000e6 * 1e18, rel=1e-6)


def test_a_debt_that_is_not_covered_goes_by_the_collateral() -> None:
    short = replace(TERMS, price=PRICE * 6 // 10)
    assert short.way is Way.COLLATERAL
    assert short.word(short.maximum) == short.held
    repaid = fixed.repaid_up(short.held, short.price, short.incentive)
    assert repaid <= short.maximum <= repaid + 1
    assert short.seize(short.maximum) == Seizure(short.maximum, short.held, 0)
    assert short.shares_of(short.maximum) < SHARES
    kept = replace(short, held=short.held - 1)
    assert kept.seize(kept.maximum).received == short.held - 1


@pytest.mark.parametrize("terms", [TERMS, replace(TERMS, price=PRICE * 6 // 10)])
@pytest.mark.parametrize("repay", [1, 2, 3, 999, 10**6 + 1, 777_777_777, OWED - 1])
def test_a_legal_repay_is_what_the_call_pulls(terms: MorphoTerms, repay: int) -> None:
    legal = terms.legal_down(repay)
    assert 0 <= legal <= min(repay, terms.maximum)
    if legal:
        assert terms.legal_down(legal) == legal == terms.seize(legal).repaid
        assert terms.word(legal) == terms.word(repay)
    more = terms.legal_down(repay + 1)
    assert more in {0, repay + 1} or more >= legal


def test_nothing_is_legal_for_dust() -> None:
    assert TERMS.legal_down(0) == 0
    poor = replace(TERMS, held=0)
    assert poor.legal_down(poor.maximum) == 0


def test_what_answered_once_is_asked_again_soon_and_what_never_did_is_not() -> None:
    pauses, known, stranger = Pauses(), Address(b"k" * 20), Address(b"s" * 20)
    assert pauses.noted(known, is_told=True)
    asked: dict[Address, list[int]] = {known: [], stranger: []}
    for head in range(600):
        for what, heads in asked.items():
            if pauses.is_due(what):
                heads.append(head)
                pauses.noted(what, is_told=False)
        pauses.pass_head()
    gaps = [later - earlier for earlier, later in pairwise(asked[known])]
    assert max(gaps) <= SHORT
    assert asked[stranger] == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511]
    assert pauses.noted(known, is_told=True)
    assert pauses.is_due(known)
