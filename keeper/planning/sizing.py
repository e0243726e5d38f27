"""The repay that earns most on the real curve, under what the protocol calls legal.

Profit rises up to the break-even amount, whose last unit of collateral brings what it costs, and
falls behind it. What is not legal there leaves two candidates: the largest legal repay below, and
the largest of all, since a full close may be legal where everything just below it is not.
"""

from typing import NamedTuple, Protocol

from keeper.ports import Terms
from keeper.types import Seizure

_SPREADS = (32, 1024)
"""Parts of the amount sold between three profits that a parabola is laid through."""
_FEW = 256
"""Wei within which a size is looked for one by one: coarse tokens round by more than prices move."""


class Proceeds(Protocol):
    """What collateral brings, concave in the amount."""

    def out(self, amount: int) -> int:
        """Return exactly what an amount brings; 0 when it cannot be filled."""
        ...

    def reach(self, cost: float, most: int) -> int:
        """Return the amount, at most `most`, whose last unit brings `cost`."""
        ...


class Size(NamedTuple):
    """A legal repay with what it seizes and brings; `profit` is before gas."""

    repay: int
    seizure: Seizure
    proceeds: int
    profit: int


def premium_up(amount: int, fee_ppm: int) -> int:
    """Return a flash premium, rounded up."""
    return -(-amount * fee_ppm // 1_000_000)


def price_size(terms: Terms, repay: int, proceeds: Proceeds, fee_ppm: int) -> Size:
    """Return exactly what one legal repay earns."""
    seizure = terms.seize(repay)
    brought = proceeds.out(seizure.received)
    profit = brought - seizure.repaid - premium_up(repay, fee_ppm)
    return Size(repay, seizure, brought, profit)


def best_size(terms: Terms, largest: int, proceeds: Proceeds, fee_ppm: int) -> Size | None:
    """Return the most profitable legal repay up to `largest`, or None when none is legal."""
    upper = terms.legal_down(min(largest, terms.maximum))
    if upper <= 0:
        return None
    whole = price_size(terms, upper, proceeds, fee_ppm)
    received, cost = whole.seizure.received, whole.seizure.repaid + premium_up(upper, fee_ppm)
    if received == 0:
        return whole
    sold = proceeds.reach(cost / received, received)
    if sold >= received:
        return whole
    search = _Search(terms, upper, received, proceeds, fee_ppm, whole)
    search.near(max(sold * upper // received, 1))
    return search.best


class _Search:
    """The best of the sizes tried so far."""

    def __init__(
        self,
        terms: Terms,
        upper: int,
        received: int,
        proceeds: Proceeds,
        fee_ppm: int,
        best: Size,
    ) -> None:
        self._terms = terms
        self._upper = upper
        self._received = received
        self._proceeds = proceeds
        self._fee_ppm = fee_ppm
        self._tried: dict[int, Size] = {}
        self.best = best

    def near(self, repay: int) -> None:
        """Try a repay and what lies around it: on a parabola's top, and wei by wei where few are."""
        if self._try(repay) is None:
            return
        for part in _SPREADS:
            spread = repay // part
            if spread == 0:
                break
            repay = self._top(min(max(repay, 1), self._upper - 1), spread)
        if repay // _FEW < _FEW:
            # Every wei of profit is more than a share of 1e-9 here.
            width = min(_FEW, repay)
            for each in range(max(repay - width, 1), min(repay + width, self._upper) + 1):
                self._try(each)

    def _top(self, middle: int, spread: int) -> int:
        """Return where a parabola through three profits has its top, no further off than they are."""
        low, high = max(middle - spread, 1), min(middle + spread, self._upper)
        sizes = [self._try(each) for each in (low, middle, high)]
        left, here, right = (None if size is None else size.profit for size in sizes)
        if left is None or here is None or right is None or middle in {low, high}:
            return middle
        rise, fall = here - left, here - right
        before, behind = middle - low, high - middle
        bend = rise * behind + fall * before
        if bend <= 0:
            return middle
        top = middle + (rise * behind * behind - fall * before * before) // (2 * bend)
        top = min(max(top, low), high)
        self._try(top)
        return top

    def _try(self, repay: int) -> Size | None:
        """Price the largest legal repay up to one, and return it when it is that very one."""
        known = self._tried.get(repay)
        if known is not None:
            return known
        legal = self._terms.legal_down(repay)
        if legal <= 0:
            return None
        size = self._tried.get(legal) or price_size(
            self._terms, legal, self._proceeds, self._fee_ppm
        )
        self._tried[legal] = size
        if size.profit > self.best.profit:
            self.best = size
        return size if legal == repay else None
