"""The repay that earns most on the real curve, under what the protocol calls legal.

Within one liquidity range of a constant-product pool the marginal price falls so that its inverse
root is linear in the amount sold, and chains of such pools keep that shape. So the marginal price
is driven to break-even by secant steps on the inverse root, inside a bracket.
"""

import math
from collections.abc import Callable, MutableMapping
from typing import NamedTuple

from keeper.ports import Terms
from keeper.types import Seizure

Sell = Callable[[int], int]
"""What an amount of collateral brings on the state so far; 0 when it cannot be filled."""

_STEPS = 16
_TOLERANCE = 1e-7


class Size(NamedTuple):
    """A legal repay with what it seizes and brings; `profit` is before gas."""

    repay: int
    seizure: Seizure
    proceeds: int
    profit: int


def premium_up(amount: int, fee_ppm: int) -> int:
    """Return a flash premium, rounded up."""
    return -(-amount * fee_ppm // 1_000_000)


def price_size(terms: Terms, repay: int, sell: Sell, fee_ppm: int) -> Size:
    """Return exactly what one legal repay earns."""
    seizure = terms.seize(repay)
    proceeds = sell(seizure.received)
    profit = proceeds - seizure.repaid - premium_up(repay, fee_ppm)
    return Size(repay, seizure, proceeds, profit)


def best_size(
    terms: Terms, largest: int, sell: Sell, fee_ppm: int, turns: MutableMapping[str, int]
) -> Size | None:
    """Return the most profitable legal repay up to `largest`, or None when none is legal.

    It compares the break-even size, taken down to a legal one, with the largest legal one: a full
    close may be legal where everything just below it is not. `turns` remembers break-even amounts
    of this curve by cost, to seven digits: near its top profit is flat.
    """
    upper = terms.legal_down(min(largest, terms.maximum))
    if upper <= 0:
        return None
    best = price_size(terms, upper, sell, fee_ppm)
    received, cost = best.seizure.received, best.seizure.repaid + premium_up(upper, fee_ppm)
    if received == 0:
        return best
    key = f"{cost / received:.7g}"
    sold = turns.get(key, received)
    if sold >= received:
        sold = _break_even(sell, received, best.proceeds, cost / received)
        if sold >= received:
            return best
        turns[key] = sold
    repay = terms.legal_down(sold * upper // received)
    if repay <= 0:
        return best
    return max(price_size(terms, repay, sell, fee_ppm), best, key=lambda size: size.profit)


def _break_even(sell: Sell, most: int, brought: int, cost: float) -> int:
    """Return the amount whose last unit brings what it costs, at most `most`."""
    high, root = most, 1 / math.sqrt(cost)
    step = _step(most)
    slope = (brought - sell(most - step)) / step
    if brought and slope >= cost:
        return most
    steep = 1 / math.sqrt(slope) if brought and slope > 0 else math.inf
    low, shallow = 0, 0.0
    at = max(most >> 3, 1)
    for _ in range(_STEPS):
        step = _step(at)
        out = sell(at + step // 2)
        slope = (out - sell(at + step // 2 - step)) / step if out else 0.0
        inverse = 1 / math.sqrt(slope) if slope > 0 else math.inf
        if inverse <= root:
            low, shallow = at, inverse
        else:
            high, steep = at, inverse
        if high - low <= 1:
            break
        following = _between(low, shallow, high, steep, root)
        if abs(following - at) <= at * _TOLERANCE:
            return following
        at = following
    return at


def _step(at: int) -> int:
    """Return a width to measure a slope over: pools round, so a coarse token needs a wide one."""
    return max(at >> 12, min(at >> 3, 1 << 21), 1)


def _between(low: int, shallow: float, high: int, steep: float, root: float) -> int:
    """Return the secant's point in a bracket, its middle where an end has no slope yet."""
    if steep == math.inf or (low == 0 and shallow == 0):
        return max((low + high) // 2 if low else high >> 3, low + 1)
    share = (root - shallow) / (steep - shallow)
    return min(max(low + int((high - low) * share), low + 1), high - 1)
