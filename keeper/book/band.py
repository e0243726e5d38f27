"""The rows that may come under the threshold soon, so that a head costs these and not all."""

from collections.abc import Sequence

import numpy as np

from keeper.book.legs import Floats, LegTable, Rows
from keeper.ports import LegRow

LEAST_ROWS = 16_384
"""Rows not worth narrowing further: they are read in a third of a millisecond."""
SHARE = 1 / 16
"""The share of rows a band is meant to hold of those around it."""
SAMPLE = 4_096
"""Rows looked at to find the health under which that share is."""
LEAST_REACH = 1e-3
MOST_REACH = 9.0
ROUNDING = 1e-9
"""Far more than the screen's own error, far less than any reach."""


class Band:
    """Copies of the rows under a health `level` at reference factors, and of all changed since.

    For later factors let m be the least ratio to the reference over collateral classes and M the
    greatest over debt classes. A row that is not here has health of at least level · m / M, however
    many prices and indexes moved together, so while that is above the threshold no such row is
    under it.
    """

    def __init__(
        self, rows: Rows, table: LegTable, level: float, collateral: Floats, debt: Floats
    ) -> None:
        self.table = table
        self._level = level
        self._collateral = collateral.copy()
        self._debt = debt.copy()
        self._rows = rows
        self._order = np.argsort(rows)
        self._sorted = rows[self._order]
        self._added: dict[int, int] = {}
        self._added_rows: list[int] = []

    def rows(self, places: Rows) -> Rows:
        """Return which rows of the market stand at some places of the band's table."""
        if not self._added_rows:
            return self._rows[places]
        return np.concatenate([self._rows, np.array(self._added_rows, np.intp)])[places]

    def replace(self, row: int, collateral: Sequence[LegRow], debt: Sequence[LegRow]) -> None:
        """Take a row's legs as they are now; a row that was not here is from now on."""
        self.table.replace(self._place(row), collateral, debt)

    def is_usable(self, collateral: Floats, debt: Floats, threshold: float) -> bool:
        """Say whether every row under a threshold at these factors is here, and few others are."""
        if len(self.table) > 2 * len(self._rows) + LEAST_ROWS:
            return False
        # Holders of a class that was NaN are here, whatever became of it since.
        fall = _ratios(collateral, self._collateral).min(initial=np.inf)
        rise = _ratios(debt, self._debt).max(initial=0.0)
        return bool(self._level * fall >= threshold * (1.0 + ROUNDING) * rise)

    def _place(self, row: int) -> int:
        place = int(np.searchsorted(self._sorted, row))
        if place < len(self._sorted) and self._sorted[place] == row:
            return int(self._order[place])
        added = self._added.get(row)
        if added is None:
            added = self._added[row] = len(self._rows) + len(self._added_rows)
            self._added_rows.append(row)
        return added


def level_of_share(table: LegTable, collateral: Floats, debt: Floats, threshold: float) -> float:
    """Return the health under which about a `SHARE` of the rows is, from an even sample."""
    rows = np.arange(0, len(table), -(-len(table) // SAMPLE))
    health = np.nan_to_num(table.health(rows, collateral, debt), nan=0.0, posinf=np.inf)
    level = np.partition(health, int(len(rows) * SHARE))[int(len(rows) * SHARE)]
    return float(np.clip(level, threshold + LEAST_REACH, threshold + MOST_REACH))


def _ratios(factors: Floats, reference: Floats) -> Floats:
    """Return factor / reference of every class that had one; NaN when it has none any more."""
    now = np.full(len(reference), np.nan)
    count = min(len(factors), len(reference))
    now[:count] = factors[:count]
    known = ~np.isnan(reference)
    now, reference = now[known], reference[known]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = now / reference
    # What was worth nothing and is so still moves no health.
    moving: Floats = ratios[~((now == 0.0) & (reference == 0.0))]
    return moving
