"""The borrowers of one market in rows, and which of them have to be judged exactly."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Self

import numpy as np
from numpy.typing import NDArray

from keeper.book.band import LEAST_ROWS, Band, level_of_share
from keeper.book.legs import BLOCK, Floats, LegTable, Rows, excess_table, factor_table
from keeper.ports import LegArrays, LegRow
from keeper.units import Address

Unread = NDArray[np.bool_]
HIGHEST = 1e18
"""A threshold above any health that differs from none."""
STEP = 2_048
"""Borrowers indexed at a time, so that a thread doing it lets the others run between."""
PAUSE = 1e-4
"""Seconds between two steps: who lets go of the interpreter only for an instant starves the others."""
SHARDS = 256
"""Indexes of rows, by a borrower's last byte: one of a million grows for a tenth of a second."""
NAMES = 8 * STEP
"""Borrowers in one array: the collector of garbage looks into lists, and not into arrays."""


class Columns:
    """The float screen of one market; rows are given to borrowers once and kept.

    Bands stand in each other: each holds what of the one around it can get under the threshold
    before factors leave its reach, so most heads read a small table, some a larger one, and few
    all rows.
    """

    def __init__(self) -> None:
        self._rows: list[dict[Address, int]] = [{} for _ in range(SHARDS)]
        self._names: list[NDArray[np.object_]] = []
        self._count = 0
        self.table = LegTable()
        self._bands: list[Band] = []

    @classmethod
    def filled(cls, legs: LegArrays) -> Self:
        """Build the columns of all borrowers at once; may run beside the event loop.

        A list of borrowers is emptied in the end: let go of at once, a million stop every thread. The
        table is NumPy's work, which needs the interpreter only now and then: it has a thread of its
        own while the borrowers are indexed.
        """
        columns = cls()
        with ThreadPoolExecutor(1) as beside:
            table = beside.submit(LegTable.filled, legs)
            held = legs.borrowers
            rows = columns._rows
            for first in range(0, len(held), STEP):
                step = held[first : first + STEP]
                for row, borrower in enumerate(step, first):
                    rows[borrower[-1]][borrower] = row
                columns._name(step)
                time.sleep(PAUSE)
            columns.table = table.result()
        while isinstance(held, list) and held:
            del held[-STEP:]
        return columns

    def release(self) -> None:
        """Forget every row, a few at a time: freed at once, a million stop every thread.

        For a thread beside the event loop; nothing else may be asked of these columns any more.
        """
        self._bands.clear()
        while self._rows:
            del self._rows[-1]
        while self._names:
            del self._names[-1]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def borrowers(self, rows: Rows) -> list[Address]:
        """Return the borrowers of some rows."""
        names = self._names
        return [names[row // NAMES][row % NAMES] for row in rows.tolist()]

    def replace(
        self, borrower: Address, collateral: Sequence[LegRow], debt: Sequence[LegRow]
    ) -> None:
        """Take a borrower's legs as they are now; none at all when the debt is gone.

        Debt that nothing stands behind is not held either: there is nothing to seize for it.
        """
        if not debt or not collateral:
            collateral = debt = ()
        row = self._row(borrower)
        if row < 0:
            if not debt:
                return
            row = self._count
            self._rows[borrower[-1]][borrower] = row
            self._name((borrower,))
        self.table.replace(row, collateral, debt)
        for band in self._bands:
            band.replace(row, collateral, debt)

    def _row(self, borrower: Address) -> int:
        """Return a borrower's row, negative when it has none."""
        return self._rows[borrower[-1]].get(borrower, -1)

    def _name(self, borrowers: Sequence[Address]) -> None:
        """Give the next rows to some borrowers, which stand in one block."""
        place = self._count % NAMES
        if not place:
            self._names.append(np.empty(NAMES, np.object_))
        self._names[-1][place : place + len(borrowers)] = borrowers
        self._count += len(borrowers)

    def standing(
        self,
        borrowers: Sequence[Address],
        collateral: Floats,
        debt: Floats,
        worth: Floats,
        weights: Floats,
    ) -> tuple[Floats, Floats, Floats]:
        """Return the approximate health of some borrowers, their debt, and its scaled amounts' sum.

        `worth` and `weights` are by class what an amount counts in the debt, and in that sum. With
        weights that stay, it falls when debt is repaid and never by itself; what nobody knows the worth
        of has no weight in it. Who has no debt is of health inf.
        """
        health = np.full(len(borrowers), np.inf)
        owed, scaled = np.zeros(len(borrowers)), np.zeros(len(borrowers))
        places = np.array([self._row(each) for each in borrowers], np.intp)
        known = np.flatnonzero(places >= 0)
        known = known[np.argsort(places[known], kind="stable")]
        rows, nothing = places[known], np.zeros(len(collateral))
        health[known] = self.table.health(rows, collateral, debt)
        owed[known] = self.table.sums(rows, factor_table(nothing, worth))
        scaled[known] = self.table.sums(rows, np.nan_to_num(factor_table(nothing, weights)))
        return health, owed, scaled

    def owing(self, start: int, least: float, collateral: Floats, worth: Floats) -> list[Address]:
        """Return who among the `BLOCK` rows from `start` on owes at least so much, or nobody knows.

        `worth` is by class what an amount of debt counts; of `collateral`, only how many classes
        there are, since one beyond them is of a worth that nobody knows.
        """
        rows = np.arange(start, min(start + BLOCK, len(self)))
        owed = self.table.sums(rows, factor_table(np.zeros(len(collateral)), worth))
        return self.borrowers(rows[~(owed < least)])

    def health(self, rows: Rows, collateral: Floats, debt: Floats) -> Floats:
        """Return the approximate health of some rows, in any order."""
        order = np.argsort(rows, kind="stable")
        health = np.empty(len(rows))
        health[order] = self.table.health(rows[order], collateral, debt)
        return health

    def unread(self, rows: Rows, collateral: Floats, debt: Floats) -> Unread:
        """Tell which rows, in any order, nobody knows the health of because a class has no price.

        A class beyond the factors is not one of those: of such a row only the ledger knows.
        """
        if not len(rows) or not (np.isnan(collateral).any() or np.isnan(debt).any()):
            return np.zeros(len(rows), np.bool_)
        order = np.argsort(rows, kind="stable")
        factors = factor_table(collateral, debt)
        factors[1 + 2 * len(collateral) :: 2] = 0.0
        factors[2 + 2 * len(debt) :: 2] = 0.0
        unread = np.empty(len(rows), np.bool_)
        unread[order] = np.isnan(self.table.sums(rows[order], factors))
        return unread

    def weights(self, rows: Rows, collateral: Floats, debt: Floats) -> Floats:
        """Return the lesser of weighted collateral and debt of some rows, in any order.

        It is what a liquidation may come to; collateral without a weight is of no account, and what
        nobody knows is infinite.
        """
        order = np.argsort(rows, kind="stable")
        have = self.table.sums(rows[order], factor_table(collateral, np.zeros(len(debt))))
        owe = self.table.sums(rows[order], factor_table(np.zeros(len(collateral)), debt))
        weights = np.empty(len(rows))
        have[have == 0.0] = np.inf
        weights[order] = np.nan_to_num(np.minimum(have, owe), nan=np.inf, posinf=np.inf)
        return weights

    def below(self, collateral: Floats, debt: Floats, threshold: float) -> Rows:
        """Return rows under a threshold or of unknown health, worst first, from a full pass."""
        threshold = min(threshold, HIGHEST)
        rows = self.table.under(excess_table(collateral, debt, threshold))
        return rows[_worst_first(self.table.health(rows, collateral, debt))]

    def candidates(self, collateral: Floats, debt: Floats, threshold: float) -> Rows:
        """Return what `below` does, from the innermost band that still reaches."""
        del self._bands[self._usable(collateral, debt, threshold) :]
        while self._narrow(collateral, debt, threshold):
            pass
        table = self._bands[-1].table if self._bands else self.table
        places = table.under(excess_table(collateral, debt, threshold))
        places = places[_worst_first(table.health(places, collateral, debt))]
        return self._bands[-1].rows(places) if self._bands else places

    def work(self, collateral: Floats, debt: Floats, threshold: float) -> int:
        """Return how many rows `candidates` would read first."""
        usable = self._usable(collateral, debt, threshold)
        return len(self._bands[usable - 1].table if usable else self.table)

    def _usable(self, collateral: Floats, debt: Floats, threshold: float) -> int:
        """Count the bands that still reach, from the outermost: each stands on those around it."""
        usable = (band.is_usable(collateral, debt, threshold) for band in self._bands)
        return sum(1 for _ in takewhile(bool, usable))

    def _narrow(self, collateral: Floats, debt: Floats, threshold: float) -> bool:
        """Stand one more band within the innermost; False when that is small already."""
        around = self._bands[-1].table if self._bands else self.table
        if len(around) <= LEAST_ROWS:
            return False
        level = level_of_share(around, collateral, debt, threshold)
        places = around.under(excess_table(collateral, debt, level))
        if 2 * len(places) > len(around):
            return False
        rows = self._bands[-1].rows(places) if self._bands else places
        self._bands.append(Band(rows, around.taken(places), level, collateral, debt))
        return True


def _worst_first(health: Floats) -> Rows:
    return np.argsort(health, kind="stable")
