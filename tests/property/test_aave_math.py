"""Aave v3.6 formulas against known values and against a literal transcription of the rules."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from keeper.protocols.aave_v3 import v36
from keeper.protocols.aave_v3.terms import AaveTerms
from keeper.types import Token
from keeper.units import BPS, MAX_UINT256, RAY, WAD, Address, Bps

WETH = Token(Address(b"\x01" * 20), "WETH", 18)
USDC = Token(Address(b"\x02" * 20), "USDC", 6)

indexes = st.integers(RAY, 10 * RAY)
amounts = st.integers(0, 10**33)


def weth_usdc(
    balance: int, owed: int, price: int, cap: int | None = None, available: int = 10**30
) -> AaveTerms:
    return AaveTerms(
        collateral=WETH,
        debt=USDC,
        bonus=Bps(10_500),
        fee=Bps(1_000),
        collateral_price=price,
        debt_price=10**8,
        collateral_unit=10**18,
        debt_unit=10**6,
        balance=balance,
        scaled=balance,
        supply_index=RAY,
        owed=owed,
        debt_index=RAY,
        available=available,
        cap=owed if cap is None else cap,
    )


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, RAY),
        (86_400, 1000136995684421674802557900),
        (v36.SECONDS_PER_YEAR, 1051270833333333333333333333),
    ],
)
def test_compounded_interest_of_five_percent(seconds: int, expected: int) -> None:
    assert v36.compounded_interest(5 * 10**25, seconds) == expected


def test_linear_interest_over_a_year_is_the_rate() -> None:
    assert v36.linear_interest(5 * 10**25, v36.SECONDS_PER_YEAR) == RAY + 5 * 10**25


def test_an_index_is_untouched_in_the_block_it_was_stored_in() -> None:
    assert v36.liquidity_index(RAY + 7, 10**26, 0) == RAY + 7
    assert v36.compounded_interest(10**26, 0) == RAY


@given(scaled=amounts, index=indexes)
def test_scaled_amounts_follow_from_balances(scaled: int, index: int) -> None:
    supplied = v36.supply_balance_down(scaled, index)
    assert v36.scaled_supply(supplied, index) == scaled
    assert v36.scaled_debt(v36.debt_balance_up(scaled, index), index) == scaled


def test_health_of_ten_ether_against_seventeen_thousand() -> None:
    collateral = v36.collateral_value_down(10 * WAD, 2000 * 10**8, WAD)
    debt = v36.debt_value_up(17_000 * 10**6, 10**8, 10**6)
    assert v36.health_factor(collateral, collateral * 8_300, debt) == 976470588235294117


def test_health_without_debt_is_the_largest_number() -> None:
    assert v36.health_factor(10**16, 10**20, 0) == MAX_UINT256


def test_half_of_a_large_position_may_be_repaid() -> None:
    value = 20_000 * 10**8
    owed, owed_value = 17_000 * 10**6, 17_000 * 10**8
    cap = v36.repay_cap(owed, owed_value, value, owed_value, 976470588235294117, 10**8, 10**6)
    assert cap == 8_500 * 10**6
    seizure = weth_usdc(10 * WAD, owed, 2000 * 10**8, cap).seize(MAX_UINT256)
    assert seizure.repaid == 8_500 * 10**6
    assert seizure.received == 4441250000000000000
    assert seizure.protocol_fee == 21250000000000000


@pytest.mark.parametrize(
    ("collateral", "reserve_debt", "total", "health", "expected"),
    [
        (1_999, 1_700, 1_700, 0.97, 1_700),
        (2_000, 1_999, 1_999, 0.97, 1_999),
        (2_000, 2_000, 2_000, 0.97, 1_000),
        (2_000, 2_000, 2_000, 0.95, 2_000),
        (9_000, 2_000, 6_000, 0.97, 2_000),
        (9_000, 4_000, 6_000, 0.97, 3_000),
    ],
)
def test_close_factor(
    collateral: int, reserve_debt: int, total: int, health: float, expected: int
) -> None:
    cap = v36.repay_cap(
        reserve_debt * 10**6,
        reserve_debt * 10**8,
        collateral * 10**8,
        total * 10**8,
        int(health * 100) * WAD // 100,
        10**8,
        10**6,
    )
    assert cap == expected * 10**6


def test_dust_may_not_be_left() -> None:
    terms = weth_usdc(WAD, 1_700 * 10**6, 1_999 * 10**8)
    assert terms.legal_down(900 * 10**6) == 700 * 10**6
    assert terms.legal_down(1_699 * 10**6) == 700 * 10**6
    assert terms.legal_down(terms.maximum) == terms.maximum == 1_700 * 10**6


def test_collateral_that_does_not_cover_the_debt_is_taken_whole() -> None:
    terms = weth_usdc(WAD, 5_000 * 10**6, 1_000 * 10**8)
    seizure = terms.seize(terms.maximum)
    assert seizure.received + seizure.protocol_fee == WAD
    assert seizure.repaid == terms.maximum == 952380953
    assert terms.seize(5_000 * 10**6) == seizure


def test_a_thin_reserve_makes_the_size_smaller() -> None:
    full = weth_usdc(10 * WAD, 17_000 * 10**6, 2000 * 10**8)
    terms = replace(full, available=2 * WAD)
    size = terms.legal_down(terms.maximum)
    assert 0 < size < terms.maximum
    assert terms.seize(size).received <= 2 * WAD < terms.seize(size + 10).received
    assert replace(full, available=0).legal_down(full.maximum) == 0


def reverts(terms: AaveTerms, cover: int) -> bool:
    """Say whether LiquidationLogic would revert, written as the contract has it."""
    actual = min(cover, terms.cap)
    base = (terms.debt_price * actual * terms.collateral_unit) // (
        terms.collateral_price * terms.debt_unit
    )
    wanted = (base * terms.bonus + 5_000) // BPS
    if wanted > terms.balance:
        total = terms.balance
        value = (terms.collateral_price * total * terms.debt_unit) // (
            terms.debt_price * terms.collateral_unit
        )
        actual = (value * BPS + terms.bonus - 1) // terms.bonus
    else:
        total = wanted
    bonus = total - (total * BPS + terms.bonus // 2) // terms.bonus
    paid = total - (bonus * terms.fee + 5_000) // BPS
    if actual < terms.owed and total < terms.balance:
        debt_left = -((terms.owed - actual) * terms.debt_price // -terms.debt_unit)
        left = (terms.balance - total) * terms.collateral_price // terms.collateral_unit
        if debt_left < 1_000 * 10**8 or left < 1_000 * 10**8:
            return True
    burns_nothing = actual * RAY // terms.debt_index == 0 or paid == 0
    return actual > terms.owed or paid > terms.available or burns_nothing


@st.composite
def pairs(draw: st.DrawFn) -> AaveTerms:
    collateral_unit = 10 ** draw(st.sampled_from([6, 8, 18]))
    debt_unit = 10 ** draw(st.sampled_from([6, 8, 18]))
    collateral_price = draw(st.integers(10**5, 10**13))
    debt_price = draw(st.integers(10**5, 10**13))
    dollars = draw(st.integers(1, 10_000)) * 10**8
    owed = dollars * debt_unit // debt_price + draw(st.integers(1, 10**6))
    ratio = draw(st.integers(50, 200))
    balance = dollars * ratio // 100 * collateral_unit // collateral_price
    balance += draw(st.integers(1, 10**6))
    half = draw(st.booleans())
    index = draw(indexes)
    return AaveTerms(
        collateral=WETH,
        debt=USDC,
        bonus=Bps(draw(st.integers(10_001, 12_000))),
        fee=Bps(draw(st.sampled_from([0, 1_000, 2_000, 10_000]))),
        collateral_price=collateral_price,
        debt_price=debt_price,
        collateral_unit=collateral_unit,
        debt_unit=debt_unit,
        balance=balance,
        scaled=v36.scaled_supply(balance, index),
        supply_index=index,
        owed=owed,
        debt_index=draw(indexes),
        available=balance * draw(st.integers(0, 12)) // 10,
        cap=owed // 2 if half else owed,
    )


@given(terms=pairs(), share=st.integers(0, 1_000))
def test_a_legal_size_never_reverts_and_none_larger_is_legal(terms: AaveTerms, share: int) -> None:
    asked = terms.maximum * share // 1_000
    legal = terms.legal_down(asked)
    assert 0 <= legal <= asked
    if legal:
        assert not reverts(terms, legal)
    above = {legal + 1, (legal + asked) // 2, asked - 1, asked, legal + 10**3, legal + 10**9}
    for size in above:
        if legal < size <= asked:
            assert reverts(terms, size), (legal, size, asked)


@given(terms=pairs())
def test_the_maximum_takes_all_that_can_be_taken(terms: AaveTerms) -> None:
    assert terms.maximum <= terms.cap
    at_most = terms.seize(terms.maximum)
    beyond = terms.seize(MAX_UINT256)
    assert (at_most.received, at_most.protocol_fee) == (beyond.received, beyond.protocol_fee)
    if terms.maximum < terms.cap:
        assert at_most.repaid <= terms.maximum


@given(terms=pairs(), shares=st.lists(st.integers(0, 10**6), min_size=2, max_size=6))
def test_a_larger_repay_never_receives_less(terms: AaveTerms, shares: list[int]) -> None:
    sizes = [terms.maximum * share // 10**6 for share in sorted(shares)]
    received = [terms.seize(size).received for size in sizes]
    assert all(less <= more for less, more in pairwise(received))
