"""Positions of one market in columns, so that one pass gives every health factor."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keeper.ports import CollateralRow, DebtRow
from keeper.units import BPS, Address

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

BLOCK = 16_384
"""Rows summed at a time, so that what lies between stays in the processor's cache."""
COLLATERAL_WIDTH = 3
DEBT_WIDTH = 2
"""Legs most borrowers stay within."""


class LegTable:
    """Legs of all borrowers, `width` of them side by side in a row; the few with more go on below.

    Asset 0 of the table is none: its factor is zero, whatever could not be read.
    """

    def __init__(self, width: int) -> None:
        self._assets: Integers = np.zeros((width, 1024), np.intp)
        self._weights: Floats = np.zeros((width, 1024), np.float64)
        self._used = np.zeros(1024, np.int8)
        self._below: LegTable | None = None
        self._below_of: dict[int, int] = {}
        self._above: Integers = np.zeros(0, np.intp)

    def replace(self, row: int, legs: Sequence[tuple[int, float]]) -> None:
        """Set the (asset, weight) legs of a row."""
        width = len(self._assets)
        while row >= self._used.size:
            self._assets = np.concatenate([self._assets, np.zeros_like(self._assets)], axis=1)
            self._weights = np.concatenate([self._weights, np.zeros_like(self._weights)], axis=1)
            self._used = np.concatenate([self._used, np.zeros_like(self._used)])
        here = legs[:width]
        for slot in range(max(len(here), int(self._used[row]))):
            asset, weight = here[slot] if slot < len(here) else (-1, 0.0)
            self._assets[slot, row] = asset + 1
            self._weights[slot, row] = weight
        self._used[row] = len(here)
        if len(legs) > width or row in self._below_of:
            self._go_on(row, legs[width:])

    def sums(self, factors: Floats, rows: int) -> Floats:
        """Return Σ weight · factor[asset] by row; a NaN or absent factor makes its holders NaN."""
        return self.sums_padded(np.concatenate([[0.0], factors, [np.nan]]), rows)

    def sums_padded(self, factors: Floats, rows: int) -> Floats:
        """Return `sums` for factors that stand between zero and NaN already."""
        totals = np.empty(rows)
        values = np.empty(min(rows, BLOCK))
        for start in range(0, rows, BLOCK):
            end = min(start + BLOCK, rows)
            total, value = totals[start:end], values[: end - start]
            for slot, (assets, weights) in enumerate(zip(self._assets, self._weights, strict=True)):
                into = value if slot else total
                # Clipping sends an asset beyond the factors to the last, which is NaN.
                factors.take(assets[start:end], out=into, mode="clip")
                into *= weights[start:end]
                if slot:
                    total += value
        if self._below is not None:
            count = len(self._below_of)
            totals[self._above[:count]] += self._below.sums_padded(factors, count)
        return totals

    def _go_on(self, row: int, legs: Sequence[tuple[int, float]]) -> None:
        if self._below is None:
            self._below = LegTable(len(self._assets))
        below = self._below_of.get(row)
        if below is None:
            below = self._below_of[row] = len(self._below_of)
            if below >= self._above.size:
                self._above = np.concatenate([self._above, np.zeros(1024, np.intp)])
            self._above[below] = row
        self._below.replace(below, legs)


class Columns:
    """The float screen of one market; rows are given to borrowers once and kept."""

    def __init__(self) -> None:
        self._row_of: dict[Address, int] = {}
        self._borrowers: list[Address] = []
        self._collateral = LegTable(COLLATERAL_WIDTH)
        self._debt = LegTable(DEBT_WIDTH)

    def __len__(self) -> int:
        return len(self._borrowers)

    def row(self, borrower: Address) -> int:
        """Return a borrower's row; raise KeyError for one that never had one."""
        return self._row_of[borrower]

    def replace(
        self, borrower: Address, collateral: Sequence[CollateralRow], debt: Sequence[DebtRow]
    ) -> None:
        """Take a borrower's rows as they are now; none at all when the debt is gone.

        Debt that nothing stands behind is not held either: there is nothing to seize for it.
        """
        if not debt or not collateral:
            collateral = debt = ()
        row = self._row_of.get(borrower)
        if row is None:
            if not debt:
                return
            row = len(self._borrowers)
            self._row_of[borrower] = row
            self._borrowers.append(borrower)
        self._collateral.replace(
            row,
            [(asset, float(amount) * threshold / BPS) for asset, amount, threshold in collateral],
        )
        self._debt.replace(row, [(asset, float(amount)) for asset, amount in debt])

    def health(self, collateral_factors: Floats, debt_factors: Floats) -> Floats:
        """Return every row's approximate health factor: inf without debt, NaN without a price.

        The relative error is about 1e-12: float64 products and sums of a handful of legs.
        """
        rows = len(self._borrowers)
        collateral = self._collateral.sums(collateral_factors, rows)
        debt = self._debt.sums(debt_factors, rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            health = collateral / debt
        health[debt == 0.0] = np.inf
        return health

    def below(self, health: Floats, threshold: float) -> list[Address]:
        """Return borrowers under a threshold or of unknown health, worst first."""
        rows = np.flatnonzero(~(health >= threshold))
        order = rows[np.argsort(health[rows], kind="stable")]
        return [self._borrowers[row] for row in order]
