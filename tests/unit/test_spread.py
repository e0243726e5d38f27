"""Positions spread by the fall that takes them."""

import math

import numpy as np
import pytest

from keeper.app.survey import summed
from keeper.book.columns import Columns
from keeper.book.spread import FALLS, PIECE, Spread, Weighed, joined, measured, spread, unit, weigh
from keeper.metrics import HEALTH_FALLS
from keeper.units import Address


def columns(healths: list[float], owed: int = 2_000_000) -> Columns:
    """Return borrowers that owe as much each, and hold what gives them a health."""
    made = Columns()
    for number, health in enumerate(healths):
        borrower = Address(number.to_bytes(20, "big"))
        made.replace(borrower, [(0, round(health * owed))], [(0, owed)])
    return made


def weighed(healths: list[float], *, price: float = 1.0) -> Weighed:
    return weigh(columns(healths), 0, np.array([price]), np.array([1.0]))


def test_labels_are_the_falls() -> None:
    assert tuple(float(label) for label in HEALTH_FALLS) == FALLS


def test_a_position_is_counted_from_the_fall_on_that_takes_it() -> None:
    found = spread(weighed([0.9, 1.0, 1.009, 1.04, 1.2, 1.9, 50.0]), 10.0)
    assert found.positions == (1, 3, 3, 4, 4, 5, 5, 6, 7)
    assert found.debts == tuple(20_000_000.0 * count for count in found.positions)


@pytest.mark.parametrize("fall", FALLS[:-1])
def test_the_fall_itself_says_the_same(fall: float) -> None:
    healths = [1.0 + step / 37 for step in range(60)]
    after = weighed(healths, price=1.0 - fall)
    wanted = int((after.health < 1.0).sum())
    counted = spread(weighed(healths), None).positions[FALLS.index(fall)]
    edge = int((abs(after.health - 1.0) < 1e-12).sum())
    assert wanted - edge <= counted <= wanted + edge


def test_who_has_no_price_is_among_all_and_nowhere_else() -> None:
    held = Columns()
    held.replace(Address(b"\x01" * 20), [(0, 1)], [(0, 1)])
    found = spread(weigh(held, 0, np.array([math.nan]), np.array([1.0])), 1.0)
    assert found.positions == (0,) * (len(FALLS) - 1) + (1,)


def test_who_owes_nothing_is_not_counted() -> None:
    held = columns([1.5, 1.5])
    held.replace(Address((0).to_bytes(20, "big")), (), ())
    assert spread(weigh(held, 0, np.array([1.0]), np.array([1.0])), 1.0).positions[-1] == 1


def test_an_empty_market_is_all_zeros() -> None:
    assert spread(joined([]), None).positions == (0,) * len(FALLS)
    assert measured(joined([])) == []


def test_pieces_are_the_whole() -> None:
    held = columns([1.1] * 10)
    pieces = [weigh(held, first, np.array([1.0]), np.array([1.0])) for first in (0, PIECE)]
    assert spread(joined(pieces), 1.0) == spread(pieces[0], 1.0)


def test_the_unit_is_what_exact_debts_say() -> None:
    assert unit([1.0, 2.0, 4.0], [100, 200, 400]) == 100.0
    assert unit([], []) is None


def test_several_units_are_none() -> None:
    assert unit([1.0, 2.0, 4.0], [100, 200, 900]) is None


def test_markets_add_up_in_whole_units() -> None:
    one = Spread(tuple(range(9)), tuple(100.0 * step for step in range(9)))
    two = Spread((1,) * 9, (50.0,) * 9)
    positions, debts = summed([(one, 100), (two, 10)])
    assert positions == [step + 1 for step in range(9)]
    assert debts == [step + 5.0 for step in range(9)]
    assert summed([(one, 1), (Spread((1,) * 9, None), 1)])[1] is None
