"""Legs of many borrowers, side by side, so that one pass weighs every row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from keeper.ports import LegArrays, LegRow

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Kinds = NDArray[np.uint16]

BLOCK = 32_768
"""Rows weighed at a time, so that what lies between stays in the processor's cache."""
WIDTH = 5
"""Legs most borrowers stay within, collateral and debt together."""
FEW = 1_024
"""Rows that are looked up in the wider table one by one."""


def factor_table(collateral: Floats, debt: Floats) -> Floats:
    """Return factors by kind of leg: none, then a collateral and a debt class by turns, then NaN.

    The last one is for every class beyond the factors.
    """
    table = np.full(2 * max(len(collateral), len(debt)) + 2, np.nan)
    table[0] = 0.0
    table[1 : 2 * len(collateral) : 2] = collateral
    table[2 : 2 * len(debt) + 1 : 2] = debt
    return table


def excess_table(collateral: Floats, debt: Floats, threshold: float) -> Floats:
    """Return factors whose sum is negative for a row of health under the threshold."""
    return factor_table(collateral, debt * -threshold)


class LegTable:
    """Legs by row, `width` of them side by side; the few rows with more stand in a wider table.

    A leg is its kind (see `factor_table`) and its amount; kind 0 is no leg. Blocks of rows are
    added as the table grows, so that growing copies nothing.
    """

    def __init__(self, width: int = WIDTH) -> None:
        self._width = width
        self._rows = 0
        self._kinds: list[Kinds] = []
        self._amounts: list[Floats] = []
        self._wide: LegTable | None = None
        self._wide_of: dict[int, int] = {}
        self._wide_rows: Rows = np.zeros(0, np.intp)

    @classmethod
    def filled(cls, legs: LegArrays) -> Self:
        """Build a table of all rows at once; rows without both collateral and debt stay empty."""
        return cls._of(
            len(legs.borrowers),
            _Side(legs.collateral_rows, legs.collateral_classes, legs.collateral_amounts),
            _Side(legs.debt_rows, legs.debt_classes, legs.debt_amounts),
            WIDTH,
        )

    @classmethod
    def _of(cls, rows: int, collateral: "_Side", debt: "_Side", width: int) -> Self:
        """Build block by block: NumPy holds the interpreter while it picks from millions."""
        table = cls(width)
        table._grow(rows)
        over: list[Rows] = []
        wide: tuple[list[_Side], list[_Side]] = [], []
        for start, kinds, amounts in table._blocks():
            have, owe = collateral.within(start), debt.within(start)
            held = np.bincount(have.rows, minlength=BLOCK)
            owed = np.bincount(owe.rows, minlength=BLOCK)
            counts = np.where((held > 0) & (owed > 0), held + owed, 0)
            fits = (counts > 0) & (counts <= width)
            have.store(kinds, amounts, fits, 1, _places(have.rows, held))
            owe.store(kinds, amounts, fits, 2, _places(owe.rows, owed) + held[owe.rows])
            more = np.flatnonzero(counts > width)
            if more.size:
                place = np.full(BLOCK, -1)
                place[more] = np.arange(len(more)) + sum(map(len, over))
                over.append(more + start)
                for side, parts in zip((have, owe), wide, strict=True):
                    parts.append(side.moved(place))
        if over:
            found = np.concatenate(over)
            wider = cls._of(len(found), _joined(wide[0]), _joined(wide[1]), 2 * width)
            table._widen(found, wider)
        return table

    def __len__(self) -> int:
        return self._rows

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays a pass reads."""
        return sum(array.nbytes for array in self.arrays())

    def arrays(self) -> Iterator[NDArray[np.generic]]:
        """Yield exactly the arrays a pass over all rows reads."""
        for start, kinds, amounts in self._blocks():
            used = min(BLOCK, self._rows - start)
            yield kinds[:, :used]
            yield amounts[:, :used]
        if self._wide is not None:
            yield from self._wide.arrays()

    def replace(self, row: int, collateral: Sequence[LegRow], debt: Sequence[LegRow]) -> None:
        """Set the legs of a row; a row past the end becomes the last."""
        legs = [(1 + 2 * held, float(amount)) for held, amount in collateral]
        legs += [(2 + 2 * owed, float(amount)) for owed, amount in debt]
        self._replace(row, legs)

    def under(self, excess: Floats) -> Rows:
        """Return the rows whose sum of amount times factor is negative or NaN, ascending."""
        found = []
        size = min(BLOCK, self._rows)
        total, value, kind = np.empty(size), np.empty(size), np.empty(size, np.intp)
        for start, kinds, amounts in self._blocks():
            used = min(BLOCK, self._rows - start)
            if used < size:
                total, value, kind = total[:used], value[:used], kind[:used]
            into = total
            # What a call costs counts for small tables: no wrappers of Python, no new arrays.
            for held, amount in zip(kinds[:, :used], amounts[:, :used], strict=True):
                kind[...] = held
                excess.take(kind, None, into, "clip")
                into *= amount
                if into is value:
                    total += value
                into = value
            # The least is NaN where one is, and most blocks have no row to be looked for.
            if not np.minimum.reduce(total, initial=0.0) >= 0.0:
                found.append((~(total >= 0.0)).nonzero()[0] + start)
        if self._wide is not None:
            found.append(self._wide_rows[self._wide.under(excess)])
            return np.sort(np.concatenate(found))
        return np.concatenate(found) if found else np.zeros(0, np.intp)

    def sums(self, rows: Rows, factors: Floats) -> Floats:
        """Return the sum of amount times factor of some rows, ascending."""
        sums = np.zeros(len(rows))
        for chosen, block, columns in self._split(rows):
            kinds = self._kinds[block][:, columns]
            values = factors.take(kinds, mode="clip")
            values *= self._amounts[block][:, columns]
            sums[chosen] = values.sum(axis=0)
        if self._wide is not None:
            places, wide = self._wide_among(rows)
            sums[places] += self._wide.sums(wide, factors)
        return sums

    def health(self, rows: Rows, collateral: Floats, debt: Floats) -> Floats:
        """Return the approximate health factor of some rows: inf without debt, NaN without a price.

        The relative error is about 1e-12: float64 products and sums of a handful of legs.
        """
        have = self.sums(rows, factor_table(collateral, np.zeros(len(debt))))
        owe = self.sums(rows, factor_table(np.zeros(len(collateral)), debt))
        with np.errstate(divide="ignore", invalid="ignore"):
            health: Floats = have / owe
        health[owe == 0.0] = np.inf
        return health

    def taken(self, rows: Rows) -> "LegTable":
        """Return a table of copies of some rows, ascending, in their order."""
        table = LegTable(self._width)
        table._grow(len(rows))
        for chosen, block, columns in self._split(rows):
            kinds = self._kinds[block][:, columns]
            amounts = self._amounts[block][:, columns]
            start = chosen.start
            while start < chosen.stop:
                into, at = divmod(start, BLOCK)
                count = min(BLOCK - at, chosen.stop - start)
                source = slice(start - chosen.start, start - chosen.start + count)
                table._kinds[into][:, at : at + count] = kinds[:, source]
                table._amounts[into][:, at : at + count] = amounts[:, source]
                start += count
        if self._wide is not None:
            places, wide = self._wide_among(rows)
            table._widen(places, self._wide.taken(wide))
        return table

    def _replace(self, row: int, legs: Sequence[tuple[int, float]]) -> None:
        if row >= self._rows:
            self._grow(row + 1)
        wide = self._wide_of.get(row)
        if len(legs) > self._width or wide is not None:
            if self._wide is None:
                self._wide = LegTable(2 * self._width)
            if wide is None:
                wide = self._wide_of[row] = len(self._wide_of)
                self._wide_rows = np.append(self._wide_rows, row)
            self._wide._replace(wide, legs if len(legs) > self._width else ())
        here = legs if len(legs) <= self._width else ()
        block, column = divmod(row, BLOCK)
        kinds, amounts = self._kinds[block], self._amounts[block]
        kinds[:, column] = 0
        amounts[:, column] = 0.0
        for slot, (kind, amount) in enumerate(here):
            kinds[slot, column] = kind
            amounts[slot, column] = amount

    def _widen(self, rows: Rows, wide: "LegTable") -> None:
        """Let the rows of a wider table stand for some rows of this one, ascending."""
        self._wide = wide
        self._wide_rows = rows
        self._wide_of = {row: place for place, row in enumerate(rows.tolist())}

    def _grow(self, rows: int) -> None:
        while len(self._kinds) * BLOCK < rows:
            self._kinds.append(np.zeros((self._width, BLOCK), np.uint16))
            self._amounts.append(np.zeros((self._width, BLOCK), np.float64))
        self._rows = rows

    def _blocks(self) -> Iterator[tuple[int, Kinds, Floats]]:
        for number, (kinds, amounts) in enumerate(zip(self._kinds, self._amounts, strict=True)):
            yield number * BLOCK, kinds, amounts

    def _split(self, rows: Rows) -> Iterator[tuple[slice, int, Rows]]:
        """Yield by block which of the rows are in it, and their columns there."""
        bounds = np.searchsorted(rows, np.arange(len(self._kinds) + 1) * BLOCK).tolist()
        for block, (start, stop) in enumerate(pairwise(bounds)):
            if start < stop:
                yield slice(start, stop), block, rows[start:stop] - block * BLOCK

    def _wide_among(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return which places of `rows` stand in the wider table, and their rows there, ascending."""
        of = self._wide_of
        if len(rows) > FEW:
            # One call that lets the event loop run, rather than a Python loop over a band.
            at = np.minimum(np.searchsorted(rows, self._wide_rows), len(rows) - 1)
            wide = np.flatnonzero(rows[at] == self._wide_rows)
            return at[wide], wide
        found = [(of[row], place) for place, row in enumerate(rows.tolist()) if row in of]
        found.sort()
        pairs = np.array(found, np.intp).reshape(-1, 2)
        return pairs[:, 1], pairs[:, 0]


@dataclass(frozen=True, slots=True)
class _Side:
    """Collateral or debt of some rows, which ascend."""

    rows: Rows
    classes: Rows
    amounts: Floats

    def within(self, start: int) -> "_Side":
        """Return the legs of the block that starts at a row, numbered from there."""
        first, last = np.searchsorted(self.rows, (start, start + BLOCK)).tolist()
        rows = self.rows[first:last] - start
        return _Side(rows, self.classes[first:last], self.amounts[first:last])

    def store(
        self, kinds: Kinds, amounts: Floats, fits: NDArray[np.bool_], first: int, slots: Rows
    ) -> None:
        """Write the legs of the rows that fit; `first` is the kind of class 0."""
        kept = fits[self.rows]
        slots, rows, found = slots[kept], self.rows[kept], first + 2 * self.classes
        if found.size and int(found.max()) > np.iinfo(np.uint16).max:
            raise OverflowError("more classes than the screen's columns number")
        kinds[slots, rows] = found[kept]
        amounts[slots, rows] = self.amounts[kept]

    def moved(self, place: Rows) -> "_Side":
        """Return the legs of the rows that have a place elsewhere, numbered as there."""
        rows = place[self.rows]
        kept = rows >= 0
        return _Side(rows[kept], self.classes[kept], self.amounts[kept])


def _joined(parts: Sequence[_Side]) -> _Side:
    return _Side(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.amounts for part in parts]),
    )


def _places(rows: Rows, counts: Rows) -> Rows:
    """Number the legs of each row from 0; `rows` ascend and `counts` says how many each has."""
    begins = np.cumsum(counts) - counts
    return np.arange(len(rows)) - begins[rows]
