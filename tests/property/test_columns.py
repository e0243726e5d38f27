"""The float screen against a plain loop, and its bands against full passes, under any changes."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keeper.book import band, columns as columns_module, legs as legs_module
from keeper.book.columns import NAMES, STEP, Columns
from keeper.ports import LegArrays, LegRow
from keeper.units import Address

CLASSES = 4
THRESHOLD = 1.0 + 1e-5
amounts = st.integers(min_value=1, max_value=10**24)
leg_rows = st.lists(st.tuples(st.integers(0, CLASSES - 1), amounts), max_size=9)
changes = st.lists(st.tuples(st.integers(0, 30), leg_rows, leg_rows), max_size=60)
factors = st.lists(
    st.one_of(st.floats(1e-6, 1e6), st.just(math.nan)), min_size=CLASSES, max_size=CLASSES
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a handful of rows fill several blocks and be worth several bands."""
    monkeypatch.setattr(legs_module, "BLOCK", 8)
    monkeypatch.setattr(legs_module, "FEW", 4)
    monkeypatch.setattr(columns_module, "LEAST_ROWS", 6)
    monkeypatch.setattr(band, "LEAST_ROWS", 6)
    monkeypatch.setattr(band, "SHARE", 0.3)


def address(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def naive(collateral, debt, collateral_factors, debt_factors) -> float:
    if not debt or not collateral:
        return math.inf
    have = sum(float(amount) * collateral_factors[held] for held, amount in collateral)
    owe = sum(float(amount) * debt_factors[owed] for owed, amount in debt)
    return float(have / owe)


def gathered(market: dict[Address, tuple[list[LegRow], list[LegRow]]]) -> LegArrays:
    def column(side: int) -> list[tuple[int, int, float]]:
        return [
            (row, each[0], float(each[1]))
            for row, sides in enumerate(market.values())
            for each in sides[side]
        ]

    def arrays(side: int):
        rows = column(side)
        return (
            np.array([row for row, _, _ in rows], np.intp),
            np.array([held for _, held, _ in rows], np.intp),
            np.array([amount for _, _, amount in rows], np.float64),
        )

    return LegArrays(list(market), *arrays(0), *arrays(1))


@given(changes, st.integers(0, 60), factors, factors)
def test_screen_equals_a_plain_loop(history, bulk, collateral_factors, debt_factors) -> None:
    held: dict[Address, tuple[list, list]] = {}
    for number, collateral, debt in history[:bulk]:
        held[address(number)] = (collateral, debt)
    columns = Columns.filled(gathered(held))
    for number, collateral, debt in history[bulk:]:
        columns.replace(address(number), collateral, debt)
        if (debt and collateral) or address(number) in held:
            held[address(number)] = (collateral, debt)
    rows = np.arange(len(columns))
    health = columns.health(rows, np.array(collateral_factors), np.array(debt_factors))
    assert columns.borrowers(rows) == list(held)
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
    at = np.array(collateral), np.array(debt)
    health = columns.health(np.arange(len(columns)), *at)
    found = columns.below(*at, threshold).tolist()
    assert len(found) == len(set(found))
    # A row within rounding of the threshold may stand on either side.
    sure = {row for row, value in enumerate(health) if not value >= threshold * (1 - 1e-12)}
    maybe = {row for row, value in enumerate(health) if not value >= threshold * (1 + 1e-12)}
    assert sure <= set(found) <= maybe


@dataclass
class Reads:
    """How many heads were judged, how many of them within a band, and what was found."""

    banded: int = 0
    heads: int = 0
    found: int = 0


@st.composite
def paths(draw):
    """Draw a market near the threshold, and heads: price moves, drift, gaps, changes of legs."""
    seed = draw(st.integers(0, 2**32 - 1))
    heads = draw(st.integers(1, 40))
    wildness = draw(st.sampled_from([1e-4, 3e-3, 0.03, 0.3]))
    borrowers = draw(st.integers(10, 120))
    return seed, heads, wildness, borrowers


def draw_legs(draw: np.random.Generator) -> tuple[list[LegRow], list[LegRow]]:
    """Draw legs whose health at factors of one lies from 0.95 to 4, most near one; some none."""
    if draw.random() < 0.1:
        return [], []
    owed = [(int(c), int(draw.integers(1, 10**6)) * 10**12) for c in draw.choice(4, 2)]
    debt = owed[: int(draw.integers(1, 3))]
    health = 0.95 + draw.exponential(0.2)
    shares = draw.dirichlet(np.ones(int(draw.integers(1, 8))))
    worth = health * sum(amount for _, amount in debt)
    return [(int(draw.integers(4)), 1 + int(worth * share)) for share in shares], debt


def test_bands_answer_as_full_passes_do() -> None:
    reads = Reads()

    @settings(max_examples=60)
    @given(paths())
    def check(path) -> None:
        seed, heads, wildness, borrowers = path
        draw = np.random.default_rng(seed)
        market = {address(number): draw_legs(draw) for number in range(borrowers)}
        columns = Columns.filled(gathered(market))
        collateral, debt = np.ones(4), np.ones(4)
        for _ in range(heads):
            for number in draw.integers(0, borrowers + 5, draw.integers(0, 4)):
                market[address(int(number))] = draw_legs(draw)
                columns.replace(address(int(number)), *market[address(int(number))])
            both = np.exp(draw.normal(0, wildness) + draw.normal(0, wildness, 4))
            collateral, debt = collateral * both, debt * both * (1 + wildness * draw.random())
            if draw.random() < 0.05:
                collateral[draw.integers(len(collateral))] *= draw.choice([0.0, 0.5, 2.0])
            gaps = collateral.copy(), debt.copy()
            if draw.random() < 0.1:
                gaps[draw.integers(2)][draw.integers(4)] = np.nan
            if draw.random() < 0.05:
                gaps = (np.append(gaps[0], 1.0), gaps[1][: draw.integers(1, 5)])
            reads.heads += 1
            reads.banded += columns.work(*gaps, THRESHOLD) < len(columns)
            found = columns.candidates(*gaps, THRESHOLD).tolist()
            assert sorted(found) == sorted(columns.below(*gaps, THRESHOLD).tolist())
            reads.found += len(found)

    check()
    assert reads.banded > reads.heads // 12
    assert reads.found > reads.heads // 4


def test_a_tick_reads_a_small_share_of_the_rows() -> None:
    draw = np.random.default_rng(1)
    columns = Columns.filled(gathered({address(n): draw_legs(draw) for n in range(2_000)}))
    columns.candidates(np.ones(4), np.ones(4), THRESHOLD)
    assert columns.work(np.full(4, 0.9999), np.ones(4), THRESHOLD) < len(columns) // 3
    assert columns.work(np.full(4, 0.5), np.ones(4), THRESHOLD) == len(columns)


def test_many_changes_keep_the_table_small() -> None:
    columns = Columns()
    for step in range(4_000):
        held = [(step % CLASSES, 1 + step)] * (1 + step % 9)
        columns.replace(address(step % 50), held, [(0, 7)])
    assert len(columns) == len(columns.table) == 50
    # 50 rows of five legs, those with more once again in a table twice as wide; 10 bytes a leg
    assert columns.table.nbytes <= 50 * 5 * 10 + 50 * 10 * 10
    health = columns.health(np.arange(50), np.ones(CLASSES), np.ones(CLASSES))
    assert health[0] > 0


def test_legs_of_a_reserve_that_is_gone_do_not_stop_the_screen() -> None:
    columns = Columns()
    rows = np.arange(2)
    columns.replace(address(1), [(3, 100)], [(2, 50)])
    columns.replace(address(2), [(0, 80)], [(1, 50)])
    columns.replace(address(1), [], [])
    assert list(columns.health(rows, np.ones(2), np.ones(2))) == [math.inf, 1.6]
    columns.replace(address(1), [(3, 100)], [(1, 50)])
    assert math.isnan(columns.health(rows, np.ones(2), np.ones(2))[0])


def test_debt_without_collateral_is_not_screened() -> None:
    columns = Columns()
    columns.replace(address(1), [], [(0, 50)])
    assert len(columns) == 0
    columns.replace(address(1), [(0, 8)], [(0, 50)])
    assert columns.below(np.ones(1), np.ones(1), 1.0).tolist() == [0]
    columns.replace(address(1), [], [(0, 50)])
    assert columns.below(np.ones(1), np.ones(1), 1.0).tolist() == []
    bulk = Columns.filled(gathered({address(1): ([], [(0, 50)]), address(2): ([(0, 8)], [])}))
    assert bulk.below(np.ones(1), np.ones(1), 1.0).tolist() == []


def test_more_classes_than_columns_number_are_refused() -> None:
    with pytest.raises(OverflowError):
        Columns.filled(gathered({address(1): ([(40_000, 1)], [(0, 1)])}))
    with pytest.raises(OverflowError):
        Columns().replace(address(1), [(40_000, 1)], [(0, 1)])


def test_the_list_of_borrowers_is_never_freed_at_once() -> None:
    legs = gathered({address(n): ([(1, 1)], [(0, 1)]) for n in range(3 * STEP)})
    columns = Columns.filled(legs)
    assert legs.borrowers == []
    assert len(columns) == 3 * STEP
    columns.release()
    assert len(columns) == 0


def test_rows_name_their_borrowers_over_many_arrays() -> None:
    """Those who came with all others, those who came later, and those who are not there."""
    count = NAMES + STEP + 1
    columns = Columns.filled(gathered({address(n): ([(0, 8)], [(0, n + 1)]) for n in range(count)}))
    for n in range(count, 2 * NAMES + 2):
        columns.replace(address(n), [(0, 8)], [(0, n + 1)])
    assert len(columns) == 2 * NAMES + 2
    places = [0, STEP, NAMES - 1, NAMES, count - 1, count, 2 * NAMES - 1, 2 * NAMES, 2 * NAMES + 1]
    assert columns.borrowers(np.array(places)) == [address(n) for n in places]
    one = np.ones(1)
    asked = [address(n) for n in (*places, 2 * NAMES + 2)]
    _, owed, _ = columns.standing(asked, one, one, one, one)
    assert owed.tolist() == [*(n + 1 for n in places), 0]
