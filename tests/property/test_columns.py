"""The float screen against a plain loop, under any sequence of changes."""

import math

import numpy as np
from hypothesis import given, strategies as st

from keeper.book.columns import Columns, LegTable
from keeper.units import Address

ASSETS = 4
amounts = st.integers(min_value=1, max_value=10**24)
collateral_rows = st.lists(
    st.tuples(st.integers(0, ASSETS - 1), amounts, st.integers(1, 9_900)), max_size=9
)
debt_rows = st.lists(st.tuples(st.integers(0, ASSETS - 1), amounts), max_size=9)
changes = st.lists(st.tuples(st.integers(0, 30), collateral_rows, debt_rows), max_size=60)
factors = st.lists(
    st.one_of(st.floats(1e-6, 1e6), st.just(math.nan)), min_size=ASSETS, max_size=ASSETS
)


def address(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def naive(collateral, debt, collateral_factors, debt_factors) -> float:
    if not debt or not collateral:
        return math.inf
    have = sum(float(a) * t / 10_000 * collateral_factors[i] for i, a, t in collateral)
    owe = sum(float(a) * debt_factors[i] for i, a in debt)
    return float(have / owe)


@given(changes, factors, factors)
def test_screen_equals_a_plain_loop(history, collateral_factors, debt_factors) -> None:
    columns = Columns()
    held: dict[Address, tuple[list, list]] = {}
    for number, collateral, debt in history:
        columns.replace(address(number), collateral, debt)
        if (debt and collateral) or address(number) in held:
            held[address(number)] = (collateral, debt)
    health = columns.health(np.array(collateral_factors), np.array(debt_factors))
    assert len(health) == len(columns) == len(held)
    for value, (collateral, debt) in zip(health, held.values(), strict=True):
        expected = naive(collateral, debt, collateral_factors, debt_factors)
        assert (math.isnan(value) and math.isnan(expected)) or math.isclose(
            value, expected, rel_tol=1e-11
        )


@given(changes, factors, factors, st.floats(0.5, 2.0))
def test_no_row_under_the_threshold_is_left_out(history, collateral, debt, threshold) -> None:
    columns = Columns()
    for number, collateral_legs, debt_legs in history:
        columns.replace(address(number), collateral_legs, debt_legs)
    health = columns.health(np.array(collateral), np.array(debt))
    found = columns.below(health, threshold)
    assert len(found) == len(set(found)) == sum(1 for value in health if not value >= threshold)


def test_many_changes_keep_the_table_small() -> None:
    columns = Columns()
    for step in range(40_000):
        legs = [(step % ASSETS, 1 + step, 8_000)] * (1 + step % 9)
        columns.replace(address(step % 50), legs, [(0, 7)])
    assert len(columns) == 50
    table: LegTable | None = columns._collateral
    while table is not None:
        assert table._weights.shape == (3, 1024)
        table = table._below
    health = columns.health(np.ones(ASSETS), np.ones(ASSETS))
    assert health[0] > 0


def test_legs_of_a_reserve_that_is_gone_do_not_stop_the_screen() -> None:
    columns = Columns()
    columns.replace(address(1), [(3, 100, 8_000)], [(2, 50)])
    columns.replace(address(2), [(0, 100, 8_000)], [(1, 50)])
    columns.replace(address(1), [], [])
    health = columns.health(np.ones(2), np.ones(2))
    assert list(health) == [math.inf, 1.6]
    columns.replace(address(1), [(3, 100, 8_000)], [(1, 50)])
    assert math.isnan(columns.health(np.ones(2), np.ones(2))[0])


def test_debt_without_collateral_is_not_screened() -> None:
    columns = Columns()
    columns.replace(address(1), [], [(0, 50)])
    assert len(columns) == 0
    columns.replace(address(1), [(0, 10, 8_000)], [(0, 50)])
    assert columns.below(columns.health(np.ones(1), np.ones(1)), 1.0) == [address(1)]
    columns.replace(address(1), [], [(0, 50)])
    assert columns.below(columns.health(np.ones(1), np.ones(1)), 1.0) == []
