"""The top of a concave function of integers, closed in from both sides."""

import math
from collections.abc import Callable

_STEPS = 40

Value = Callable[[int], int | None]
"""A concave value; None where it is not to be had."""


def find_top(
    value: Value, start: int, spread: int, bounds: tuple[int, int], share: float
) -> int | None:
    """Return where a value is highest, within `share` of itself or one unit; None without a value.

    The search begins with three points `spread` apart, goes where a parabola through the highest
    and its neighbours has its top, and ends when no line through them leaves more above it. What is
    not to be had next to the highest ends it, too.
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
        else:
            points = (low, middle, high)
            slack = max(abs(tried[middle]) * share, 1.0)
            if high - low <= 2 or _spare(tried, *points) <= slack:
                break
            following = _next(tried, *points, slack, creeps=step % 4 == 3)
        if following in tried or not attempt(following):
            break
    return max(tried, key=tried.__getitem__)


def _spare(tried: dict[int, int], low: int, middle: int, high: int) -> float:
    """Return at most what lies above the middle: lines bound what is concave."""
    rise = (tried[middle] - tried[low]) / max(middle - low, 1) * (high - middle)
    fall = (tried[middle] - tried[high]) / max(high - middle, 1) * (middle - low)
    return max(rise, fall)


def _next(
    tried: dict[int, int], low: int, middle: int, high: int, slack: float, *, creeps: bool
) -> int:
    """Return a parabola's top; where that is the middle, a point beside it on the wider side.

    The point is as far off as lets lines through both sides leave `slack` above the top.
    """
    before, behind = middle - low, high - middle
    rise, fall = tried[middle] - tried[low], tried[middle] - tried[high]
    bend = rise * behind + fall * before
    if bend > 0:
        shift = (rise * behind * behind - fall * before * before) // (2 * bend)
        width = int(math.sqrt(slack * before * behind * (before + behind) / (2 * bend)))
        if not creeps and abs(shift) > width and -before < shift < behind:
            return middle + shift
        beside = (middle + min(shift - width, -1), middle + max(shift + width, 1))
        for at in reversed(beside) if behind >= before else beside:
            if low < at < high and not creeps:
                return at
    if behind >= before:
        return middle + max(behind // 8, 1)
    return middle - max(before // 8, 1)
