"""Coordinate moves on a plan whose positions share tight pools: each taken again behind the others.

Behind all others a position is offered exactly what it adds to the whole, whatever order it was
first taken in. So sizing it there, or leaving it out, never makes the whole worth less.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Protocol

from keeper.planning.grouping import PositionKey

_SWEEPS = 2
_MOST = 16
"""Positions tried again in one sweep: those at the margin are last in order."""
_FEW = 3
"""Positions of which every order is tried: which of two is left out can matter more than sizes."""


class Arrangement(Protocol):
    """Positions taken one after another on shared pools."""

    def settle(self, key: PositionKey) -> None:
        """Size a position behind what is taken, and take it when it pays."""
        ...

    def release(self, key: PositionKey) -> None:
        """Take a position back out."""
        ...

    def is_tight(self, key: PositionKey) -> bool:
        """Say whether a position would be taken otherwise if others were not."""
        ...

    def worth(self) -> int:
        """Return what all that is taken is worth together."""
        ...


def improve(arrangement: Arrangement, order: Sequence[PositionKey]) -> None:
    """Change what is taken, and how much of it, as long as that makes the whole worth more."""
    if len(order) < 2 or not any(arrangement.is_tight(key) for key in order):
        return
    if len(order) <= _FEW:
        _try_orders(arrangement, order)
    worth = arrangement.worth()
    for _ in range(_SWEEPS):
        tight = [key for key in order if arrangement.is_tight(key)]
        loose = [key for key in reversed(order) if key not in set(tight)]
        for key in [*tight[-_MOST // 2 :], *loose[: _MOST - len(tight[-_MOST // 2 :])]]:
            arrangement.release(key)
            arrangement.settle(key)
        before, worth = worth, arrangement.worth()
        if worth <= before + before // 1_000_000:
            break


def _try_orders(arrangement: Arrangement, order: Sequence[PositionKey]) -> None:
    """Take positions in every order and leave them in the one that is worth most."""
    best, most = tuple(order), arrangement.worth()
    now = best
    for other in permutations(order):
        if other == best:
            continue
        _retake(arrangement, other)
        now, worth = other, arrangement.worth()
        if worth > most:
            best, most = other, worth
    if now != best:
        _retake(arrangement, best)


def _retake(arrangement: Arrangement, order: Sequence[PositionKey]) -> None:
    for key in order:
        arrangement.release(key)
    for key in order:
        arrangement.settle(key)
