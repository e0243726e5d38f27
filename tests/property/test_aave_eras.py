"""Neighbouring eras of Aave v3 agree but for single units, in the direction each rounds."""

import pytest
from hypothesis import given, strategies as st

from keeper.protocols.aave_v3.eras import V30, V33, V34, V35, V36, V37, Era
from keeper.protocols.aave_v3.v36 import SECONDS_PER_YEAR
from keeper.units import BPS, RAY, WAD
from tests.aave_eras import terms

indexes = st.integers(RAY, 10 * RAY)
amounts = st.integers(1, 10**28)


@given(st.integers(0, 10**27), st.integers(0, 10 * SECONDS_PER_YEAR))
def test_compounding_changed_by_little_and_never_falls_short_of_simple(
    rate: int, seconds: int
) -> None:
    old, new = V33.compounded(rate, seconds), V34.compounded(rate, seconds)
    simple = RAY + rate * seconds // SECONDS_PER_YEAR
    assert min(old, new) >= simple
    # (e−1)(e−2) in the old terms stands for e² in the new ones.
    assert old <= new + 10


@given(amounts, indexes)
def test_balances_differ_by_one_unit_and_each_has_one_scaled_amount(
    scaled: int, index: int
) -> None:
    for era in (V34, V35):
        assert era.scaled_supply(era.supply_balance(scaled, index), index) == scaled
        assert era.scaled_debt(era.debt_balance(scaled, index), index) == scaled
    assert 0 <= V34.supply_balance(scaled, index) - V35.supply_balance(scaled, index) <= 1
    assert 0 <= V35.debt_balance(scaled, index) - V34.debt_balance(scaled, index) <= 1


@given(
    st.lists(st.tuples(st.integers(1, 10**16), st.integers(1_000, 9_500)), min_size=1, max_size=5),
    st.integers(1, 10**16),
)
def test_the_average_threshold_takes_less_than_a_basis_point(
    legs: list[tuple[int, int]], debt: int
) -> None:
    value = sum(worth for worth, _ in legs)
    weighted = sum(worth * threshold for worth, threshold in legs)
    old, new = (era.health(value, weighted, debt) for era in (V34, V35))
    lost = value * WAD // debt // BPS + WAD // debt + 2
    assert new - lost <= old <= new + WAD // debt + 2
    if len(legs) == 1:
        assert abs(new - old) <= WAD // debt + 1


@given(
    st.integers(10**12, 10**22),
    st.integers(10**3, 10**13),
    st.integers(10**6, 10**13),
    st.integers(10_001, 12_000),
    st.integers(1, 10**13),
)
def test_a_seizure_differs_by_single_units_between_neighbours(
    balance: int, owed: int, price: int, bonus: int, repay: int
) -> None:
    def seized(era: Era) -> tuple[int, int, int]:
        pair = terms(era, balance, owed, price, bonus=bonus)
        return pair._outcome(min(repay, owed))

    old, whole, strict = seized(V34), seized(V36), seized(V37)
    assert (old[0], old[2]) == (whole[0], whole[2])
    assert 0 <= whole[1] - old[1] <= 1
    assert 0 <= whole[0] - strict[0] <= 1
    # less is left without its bonus, and the fee on more bonus is rounded up
    assert -1 <= strict[2] - whole[2] <= 2


@pytest.mark.parametrize("era", [V30, V33, V34, V36, V37], ids=lambda era: era.name)
@given(
    balance=st.integers(10**14, 10**21),
    owed=st.integers(10**4, 10**12),
    price=st.integers(10**8, 10**12),
    share=st.integers(1, 100),
    index=indexes,
)
def test_a_legal_repay_takes_no_more_than_there_is(
    era: Era, balance: int, owed: int, price: int, share: int, index: int
) -> None:
    pair = terms(era, balance, owed, price, supply_index=index, debt_index=index)
    size = pair.legal_down(max(1, pair.maximum * share // 100))
    if not size:
        return
    seizure = pair.seize(size)
    assert seizure.repaid <= min(size, pair.cap)
    assert seizure.received + seizure.protocol_fee <= balance + 1
    left = owed - seizure.repaid
    if era.leftover and left and pair.taken(size) < balance:
        assert era.debt_value(left, 10**8, 10**6) >= era.leftover
