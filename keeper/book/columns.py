"""Positions of one market in columns, so that one pass gives every health factor."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keeper.ports import CollateralRow, DebtRow
from keeper.units import BPS, Address

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]


class LegTable:
    """Legs of all borrowers: row, asset and weight, in segments that are appended or reused."""

    def __init__(self) -> None:
        self._rows: Integers = np.zeros(1024, np.int32)
        self._assets: Integers = np.zeros(1024, np.int32)
        self._weights: Floats = np.zeros(1024, np.float64)
        self._size = 0
        self._live = 0
        self._segments: dict[int, tuple[int, int, int]] = {}

    def replace(self, row: int, legs: Sequence[tuple[int, float]]) -> None:
        """Set the (asset, weight) legs of a row."""
        start, room, used = self._segments.get(row, (0, 0, 0))
        if len(legs) > room:
            self._weights[start : start + used] = 0.0
            room = len(legs)
            start = self._append(room)
        else:
            self._weights[start : start + room] = 0.0
        self._live += len(legs) - used
        if room:
            self._segments[row] = (start, room, len(legs))
        for position, (asset, weight) in enumerate(legs, start):
            self._rows[position] = row
            self._assets[position] = asset
            self._weights[position] = weight
        if self._size > 4096 and self._size > 2 * self._live:
            self._compact()

    def sums(self, factors: Floats, rows: int) -> Floats:
        """Return Σ weight · factor[asset] by row; a NaN factor makes its holders NaN."""
        end = self._size
        values = factors.take(self._assets[:end])
        weights = self._weights[:end]
        # A freed leg has weight zero; 0 · NaN would spread an unread price to rows that gave it up.
        np.multiply(values, weights, out=values, where=weights != 0.0)
        values[weights == 0.0] = 0.0
        return np.bincount(self._rows[:end], weights=values, minlength=rows).astype(
            np.float64, copy=False
        )

    def _append(self, count: int) -> int:
        start = self._size
        while start + count > self._rows.size:
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            self._assets = np.concatenate([self._assets, np.zeros_like(self._assets)])
            self._weights = np.concatenate([self._weights, np.zeros_like(self._weights)])
        self._size += count
        return start

    def _compact(self) -> None:
        keep = np.flatnonzero(self._weights[: self._size])
        order = keep[np.argsort(self._rows[keep], kind="stable")]
        rows = self._rows[order]
        capacity = max(1024, 2 * rows.size)
        for name in ("_rows", "_assets", "_weights"):
            column = getattr(self, name)
            packed = np.zeros(capacity, column.dtype)
            packed[: rows.size] = column[order]
            setattr(self, name, packed)
        self._size = self._live = rows.size
        distinct, starts, counts = np.unique(rows, return_index=True, return_counts=True)
        self._segments = {
            int(row): (int(start), int(count), int(count))
            for row, start, count in zip(distinct, starts, counts, strict=True)
        }


class Columns:
    """The float screen of one market; rows are given to borrowers once and kept."""

    def __init__(self) -> None:
        self._row_of: dict[Address, int] = {}
        self._borrowers: list[Address] = []
        self._collateral = LegTable()
        self._debt = LegTable()

    def __len__(self) -> int:
        return len(self._borrowers)

    def replace(
        self, borrower: Address, collateral: Sequence[CollateralRow], debt: Sequence[DebtRow]
    ) -> None:
        """Take a borrower's rows as they are now; none at all when the debt is gone."""
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
