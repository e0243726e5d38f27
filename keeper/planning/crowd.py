"""How many positions, best first, the pools bear in full."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from keeper.planning.offers import Lane
from keeper.planning.selling import Selling

_UNITS = 100_000


class Wanted(NamedTuple):
    """A position's largest sale, and the price for the last unit at which it still pays."""

    lane: Lane
    amount: int
    floor: float


def bear(selling: Selling, wanted: Sequence[Wanted]) -> int:
    """Sell for the first positions, as many as pay at the prices they leave; return how many.

    Prices only fall with each more, so the number is found by halving. Whoever pays in full at the
    last unit's price is best taken in full, whatever the others do.
    """
    if _is_borne(selling, wanted):
        return len(wanted)
    low, high = 0, len(wanted)
    while high - low > 1:
        middle = (low + high) // 2
        if _is_borne(selling, wanted[:middle]):
            low = middle
        else:
            high = middle
    _is_borne(selling, wanted[:low])
    return low


def _is_borne(selling: Selling, wanted: Sequence[Wanted]) -> bool:
    totals: dict[Lane, int] = {}
    floors: dict[Lane, float] = {}
    for lane, amount, floor in wanted:
        totals[lane] = totals.get(lane, 0) + amount
        # Where few units are bought, rounding hides the price.
        least = floor if floor <= 0 or amount * floor > _UNITS else math.inf
        floors[lane] = max(floors.get(lane, 0.0), least)
    selling.place(totals)
    prices = ((selling[lane].last_price(), floor) for lane, floor in floors.items())
    # Zero is what a lane brings that its pools cannot fill.
    return all(price >= floor and price > 0 for price, floor in prices)
