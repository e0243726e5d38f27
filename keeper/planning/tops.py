"""The top of a concave function of integers, closed in from both sides."""

import math
from collections.abc import Callable
from typing import NamedTuple

_STEPS = 40
_BENT = 2e-8
"""The share of a value within which it is taken for a parabola: below it rounding soon shows."""

Value = Callable[[int], int | None]
"""A concave value; None where it is not to be had."""


def find_top(
    value: Value, start: int, spread: int, bounds: tuple[int, int], share: float
) -> int | None:
    """Return where a value is highest, within `share` of itself or one unit; None without a value.

    The search begins with three points `spread` apart, goes where a parabola through the highest
    and its neighbours has its top, and ends when neither that leaves more above the highest, nor
    lines through them much more. What is not to be had next to the highest ends it, too.
    """
    tried: dict[int, int] = {}

    def attempt(at: int) -> bool:
        found = value(at)
        if found is None:
            return False
        tried[at] = found
        return True

    first, last = bounds
    if not attempt(start):
        return None
    spread = max(spread, 1)
    for at in (start - spread, start + spread):
        attempt(min(max(at, first), last))
    for step in range(_STEPS):
        known = sorted(tried)
        middle = max(known, key=tried.__getitem__)
        place = known.index(middle)
        low = known[place - 1] if place else max(middle - spread, first)
        high = known[place + 1] if place + 1 < len(known) else min(middle + spread, last)
        if low not in tried or high not in tried:
            following = high if low in tried else low
            spread *= 4
        elif middle in bounds:
            # Only one side is there: the top is here unless it rises from here, too.
            other = low if middle == last else high
            if abs(other - middle) <= max(spread >> 9, 1):
                break
            following = middle + (other - middle) // abs(other - middle) * max(spread >> 9, 1)
        else:
            arch = _Arch(middle - low, high - middle, *(tried[at] for at in (low, middle, high)))
            slack = max(abs(tried[middle]) * share, 1.0)
            bent = slack + abs(tried[middle]) * _BENT
            spare = arch.spare
            if high - low <= 2 or spare <= slack or (spare <= bent and arch.gain <= slack):
                break
            following = middle + (arch.edge() if step % 4 == 3 else arch.following(slack, bent))
        if following in tried or not attempt(following):
            break
    return max(tried, key=tried.__getitem__)


class _Arch(NamedTuple):
    """Three neighbours, the middle the highest: the way to those beside it, and all values."""

    before: int
    behind: int
    low: int
    middle: int
    high: int

    @property
    def spare(self) -> float:
        """Return at most what lies above the middle: lines bound what is concave."""
        rise = (self.middle - self.low) / self.before * self.behind
        fall = (self.middle - self.high) / self.behind * self.before
        return max(rise, fall)

    @property
    def bend(self) -> int:
        """Return half the curvature, times both ways and their sum."""
        rise, fall = self.middle - self.low, self.middle - self.high
        return rise * self.behind + fall * self.before

    @property
    def shift(self) -> int:
        """Return the way to a parabola's top."""
        rise, fall = self.middle - self.low, self.middle - self.high
        across = rise * self.behind * self.behind - fall * self.before * self.before
        return across // (2 * self.bend) if self.bend else 0

    @property
    def gain(self) -> float:
        """Return what a parabola's top lies above the middle."""
        return self.bend * self.shift**2 / self._ways

    def following(self, slack: float, bent: float) -> int:
        """Return the way to the parabola's top where that is worth it, or to a point beside it.

        A point beside it, on the wider side, is as far off as the value falls by half of `bent`.
        """
        shift = self.shift
        if self.gain > slack and -self.before < shift < self.behind:
            return shift
        width = int(math.sqrt(bent * self._ways / (2 * self.bend))) if self.bend else 0
        left, right = min(shift - width, -1), max(shift + width, 1)
        if -self.before < left and (self.before > self.behind or right >= self.behind):
            return left
        return right if right < self.behind else self.edge()

    def edge(self) -> int:
        """Return a short way into the wider side."""
        if self.behind >= self.before:
            return max(self.behind // 8, 1)
        return -max(self.before // 8, 1)

    @property
    def _ways(self) -> int:
        return self.before * self.behind * (self.before + self.behind)
