"""The repay that earns most on the real curve, under what the protocol calls legal.

Profit rises up to the break-even amount, whose last unit of collateral brings what it costs, and
falls behind it. What is not legal there leaves two candidates: the largest legal repay below, and
the largest of all, since a full close may be legal where everything just below it is not.
"""

import math
from typing import NamedTuple, Protocol

from keeper.planning.tops import find_top
from keeper.ports import Terms
from keeper.types import Seizure

_SPREAD = 64
"""Parts of the first guess between it and the sizes tried on both sides."""
_CLOSE = 3e-10
_FEW = 4_096
"""Units of debt that are tried one by one where there are no more."""
_SMALL = 100_000
"""A repay up to which prices show through rounding too badly to be followed alone."""
_COARSE = 4 * 10**9
"""Profit under which a single unit of debt is worth rounding for."""


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
    if upper > _SMALL and sold >= received:
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
        self._unit = upper // received
        self._proceeds = proceeds
        self._fee_ppm = fee_ppm
        self._tried: dict[int, Size] = {}
        self.best = best

    def near(self, repay: int) -> None:
        """Try a repay and what lies around it, until nothing near can be better by a share of 1e-9."""
        if self._upper <= _FEW:
            for each in range(1, self._upper + 1):
                self._try(each)
            return
        if self._upper > _SMALL and repay == 1:
            # Nothing pays.
            self._try(1)
            return
        if self._upper <= _SMALL:
            for number in range(1, _SPREAD):
                self._try(self._upper * number // _SPREAD)
            repay = self.best.repay
        if self._unit > 1:
            # A unit of collateral costs several of debt: each is taken for the least.
            sold = self._terms.seize(repay).received
            find_top(self._profit_of, sold, sold // _SPREAD, (1, self._received), _CLOSE)
        else:
            find_top(self._profit, repay, repay // _SPREAD, (1, self._upper), _CLOSE)
        self._round_off()

    def _profit(self, repay: int) -> int | None:
        size = self._try(repay)
        return None if size is None else size.profit

    def _profit_of(self, received: int) -> int | None:
        return self._profit(self._least(received))

    def _least(self, received: int) -> int:
        """Return the least repay that seizes so much, to a share of 1e-12."""
        around = received * self._upper // self._received
        low, high = max(around - 4 * self._unit, 0), min(around + 4 * self._unit, self._upper)
        close = max(around // 10**12, 1)
        while high - low > close:
            middle = (low + high) // 2
            if self._terms.seize(middle).received >= received:
                high = middle
            else:
                low = middle
        return high

    def _round_off(self) -> None:
        """Try the repays at which roundings fall well, where a wei of profit is a share worth it."""
        repay, received = self.best.repay, self.best.seizure.received
        if not 0 < self.best.profit <= _COARSE or received == 0:
            return
        if self._unit > 1:
            for each in range(max(received - 4, 1), min(received + 4, self._received) + 1):
                self._try(self._least(each))
            repay = self.best.repay
        width = min(_FEW, 4 * math.isqrt(repay)) if self._upper <= _SMALL else 4
        period = 1_000_000 // math.gcd(self._fee_ppm, 1_000_000) if self._fee_ppm else 1
        whole = repay // period * period
        near = [] if self._upper <= _SMALL else [whole - period, whole, whole + period]
        for each in (*range(repay - width, repay + width + 1), *near, *(n - 1 for n in near)):
            if 0 < each <= self._upper:
                self._try(each)

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
