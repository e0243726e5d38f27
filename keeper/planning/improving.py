"""Coordinate moves on a plan whose positions share tight pools: each taken again behind the others.

Behind all others a position is offered exactly what it adds to the whole, whatever order it was
first taken in. So sizing it there, or leaving it out, never makes the whole worth less.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, permutations
from typing import Protocol, TypeVar

from keeper.planning.grouping import PositionKey

_SWEEPS = 2
_MOST = 16
"""Positions tried again in one sweep: those at the margin are last in order."""
_ALL = 3
"""Positions of which every order is tried: which of two is left out can matter more than sizes."""
_FEW = 6
"""Positions of which each is tried before all others, so that it may leave others out."""


State = TypeVar("State")


class Arrangement(Protocol[State]):
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

    def keep(self) -> State:
        """Return what is taken, to be restored."""
        ...

    def restore(self, state: State) -> None:
        """Take again what was taken when it was kept, and nothing else."""
        ...


def improve(arrangement: Arrangement[State], order: Sequence[PositionKey]) -> None:
    """Change what is taken, and how much of it, as long as that makes the whole worth more."""
    tight = [key for key in order if arrangement.is_tight(key)]
    if len(order) < 2 or not tight:
        return
    best, most = arrangement.keep(), arrangement.worth()
    for other in _orders(order if len(order) <= _FEW else tight):
        for key in other:
            arrangement.release(key)
        for key in other:
            arrangement.settle(key)
        if (worth := arrangement.worth()) > most:
            best, most = arrangement.keep(), worth
    arrangement.restore(best)
    worth = most
    for _ in range(_SWEEPS):
        tight = [key for key in order if arrangement.is_tight(key)]
        loose = [key for key in reversed(order) if key not in set(tight)]
        for key in [*tight[-_MOST // 2 :], *loose[: _MOST - len(tight[-_MOST // 2 :])]]:
            arrangement.release(key)
            arrangement.settle(key)
        before, worth = most, arrangement.worth()
        if worth > most:
            best, most = arrangement.keep(), worth
        if worth <= before + before // 1_000_000:
            break
    if worth < most:
        arrangement.restore(best)


def _orders(keys: Sequence[PositionKey]) -> Iterator[tuple[PositionKey, ...]]:
    """Yield other orders of a few positions than the one they are in."""
    if len(keys) <= _ALL:
        yield from islice(permutations(keys), 1, None)
    elif len(keys) <= _FEW:
        for key in keys[1:]:
            yield (key, *(other for other in keys if other != key))
