"""How far a market's positions are from their threshold, from the screen's columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeper.book.columns import Columns
from keeper.book.legs import Floats, Rows, factor_table

FALLS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Falls of everything held against everything owed; after the last one every position is under.

A position of health h is liquidatable after a fall of more than 1 - 1/h, whatever it holds.
"""
PIECE = 16_384
"""Rows weighed at a time, in a few milliseconds; a million take half a second in all."""
LARGEST, SPACED = 8, 24
"""Rows of which the exact debt is asked, to learn what the screen's unit is worth."""
SAME = 1e-3
"""Relative difference of two debts' units from which on a market has several."""


@dataclass(frozen=True, slots=True)
class Spread:
    """For each of `FALLS` how many positions are liquidatable after it, and what they owe.

    Debts are in the market's base currency; None when its positions owe in units of their own.
    """

    positions: tuple[int, ...]
    debts: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Weighed:
    """Rows with debt, what they owe in the screen's unit, and their health; no price is NaN."""

    rows: Rows
    owed: Floats
    health: Floats


def weigh(columns: Columns, first: int, collateral: Floats, debt: Floats) -> Weighed:
    """Weigh `PIECE` rows from one on, or those that are left; may run beside the event loop."""
    rows = np.arange(first, min(first + PIECE, len(columns.table)))
    owed = columns.table.sums(rows, factor_table(np.zeros(len(collateral)), debt))
    health = columns.table.health(rows, collateral, debt)
    with_debt = owed != 0.0
    return Weighed(rows[with_debt], owed[with_debt], health[with_debt])


def joined(pieces: Sequence[Weighed]) -> Weighed:
    """Return all pieces as one."""
    if not pieces:
        none = np.zeros(0)
        return Weighed(np.zeros(0, np.intp), none, none)
    return Weighed(
        np.concatenate([piece.rows for piece in pieces]),
        np.concatenate([piece.owed for piece in pieces]),
        np.concatenate([piece.health for piece in pieces]),
    )


def measured(weighed: Weighed) -> list[int]:
    """Return places of the rows to ask the exact debt of: the largest, and some evenly between."""
    known = np.flatnonzero(weighed.owed > 0.0)
    if not len(known):
        return []
    largest = known[np.argsort(weighed.owed[known])[-LARGEST:]]
    spaced = known[:: max(len(known) // SPACED, 1)]
    return sorted({*largest.tolist(), *spaced.tolist()})


def unit(owed: Sequence[float], exact: Sequence[int]) -> float | None:
    """Return what the screen's unit is in the base currency's smallest; None when there are several."""
    units = [value / owes for owes, value in zip(owed, exact, strict=True) if owes > 0.0]
    if not units:
        return None
    middle = float(np.median(units))
    return middle if all(abs(each - middle) <= SAME * middle for each in units) else None


def spread(weighed: Weighed, worth: float | None) -> Spread:
    """Count positions and debts by the fall that takes them; those without a price by none but all."""
    # a position at exactly one is safe; one without a price is under after everything fell to nothing
    health = np.where(np.isnan(weighed.health), np.inf, weighed.health)
    order = np.argsort(health)
    with np.errstate(divide="ignore"):
        levels = 1.0 / (1.0 - np.array(FALLS))
    ends = [int(end) for end in np.searchsorted(health[order], levels[:-1], side="left")]
    ends.append(len(order))
    owed = np.concatenate([[0.0], np.cumsum(np.nan_to_num(weighed.owed[order]))])
    debts = None if worth is None else tuple(float(owed[end]) * worth for end in ends)
    return Spread(tuple(ends), debts)
