"""The repay that earns most on the real curve, under what the protocol calls legal.

Profit rises up to the break-even amount, whose last unit of collateral brings what it costs, and
falls behind it. What is not legal there leaves two candidates: the largest legal repay below, and
the largest of all, since a full close may be legal where everything just below it is not. Costs go
with what is seized, to within rounding: so amounts of collateral are compared on the curve alone,
and only what is best of them is looked up in the rules.
"""

import math
from typing import NamedTuple, Protocol

from keeper.planning.tops import find_top
from keeper.ports import Terms
from keeper.types import Seizure

_SPREAD = 1_024
"""Parts of the first guess between it and the sizes tried on both sides."""
_PARTS = 64
"""Parts of a small repay that are tried before its neighbours."""
_CLOSE = 3e-10
_ROUGH = 1.02
"""How much more than at break-even by slopes could be earned."""
_FEW = 4_096
"""Units of debt that are tried one by one where there are no more."""
_SMALL = 100_000
"""A repay up to which prices show through rounding too badly to be followed alone."""
_COARSE = 2 * 10**6
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


def best_size(
    terms: Terms,
    largest: int,
    proceeds: Proceeds,
    fee_ppm: int,
    least: int = 0,
    price: float = math.inf,
) -> Size | None:
    """Return the most profitable legal repay up to `largest`, or None when none is legal.

    Where the best clearly earns less than `least`, it is only found roughly, and `price`, the most
    that a unit can bring, stands for what is not worth a sale to be tried.
    """
    upper = terms.legal_down(min(largest, terms.maximum))
    if upper <= 0:
        return None
    seizure = terms.seize(upper)
    received, cost = seizure.received, seizure.repaid + premium_up(upper, fee_ppm)
    if received == 0:
        return Size(upper, seizure, 0, -cost)
    if cost <= 0:
        # The call pays by itself; what it gives has to sell all the same.
        paid = price_size(terms, upper, proceeds, fee_ppm)
        return paid if paid.proceeds else Size(upper, seizure, 0, -1)
    sold = proceeds.reach(cost / received, received)
    if sold == 0 and price < math.inf and upper > _SMALL:
        # Not even the first unit brings what it costs.
        brought = min(int(price * received), cost - 1)
        return Size(upper, seizure, brought, brought - cost)
    if _ROUGH * (price - cost / received) * sold < least and upper > _SMALL:
        rough = _roughly(terms, max(sold * upper // received, 1), int(price * sold), fee_ppm)
        if rough is not None:
            return rough
    search = _Search(terms, upper, received, cost, proceeds, fee_ppm)
    if upper > _SMALL and sold >= received:
        return search.take_whole()
    search.near(max(sold, 1), least)
    return search.best or search.take_whole()


def _roughly(terms: Terms, repay: int, brought: int, fee_ppm: int) -> Size | None:
    """Return the size of a repay whose collateral brings about so much; None where it is not legal."""
    if terms.legal_down(repay) < repay:
        return None
    seizure = terms.seize(repay)
    return Size(repay, seizure, brought, brought - seizure.repaid - premium_up(repay, fee_ppm))


class _Search:
    """The best of the sizes tried so far."""

    def __init__(
        self,
        terms: Terms,
        upper: int,
        received: int,
        cost: int,
        proceeds: Proceeds,
        fee_ppm: int,
    ) -> None:
        self._terms = terms
        self._upper = upper
        self._received = received
        self._cost = cost
        self._unit = upper // received
        self._proceeds = proceeds
        self._fee_ppm = fee_ppm
        self._tried: dict[int, Size] = {}
        self.best: Size | None = None

    def take_whole(self) -> Size:
        """Try the largest repay, and return it."""
        whole = self._try(self._upper)
        assert whole is not None
        return whole

    def near(self, sold: int, least: int) -> None:
        """Try an amount of collateral and what lies around it, until no other can be better.

        Better counts from a share of 1e-9 on, and not at all where nothing near earns `least`.
        """
        if self._upper <= _SMALL:
            self.take_whole()
            self._every()
            return
        worth = self._worth(sold)
        # What costs more than gas is no break-even: the guess was wrong.
        if sold == 1 or -least <= worth * _ROUGH < least:
            repay = max(sold * self._upper // self._received, 1)
            self.best = _roughly(self._terms, repay, self._proceeds.out(sold), self._fee_ppm)
            return
        top = find_top(self._worth, sold, sold // _SPREAD, (1, self._received), _CLOSE) or sold
        if not self._take(top) or top == self._received:
            self.take_whole()
        self._round_off()

    def _every(self) -> None:
        """Try every repay, or what is spread over all and then around the best of it."""
        if self._upper <= _FEW:
            for each in range(1, self._upper + 1):
                self._try(each)
            return
        for number in range(1, _PARTS):
            self._try(self._upper * number // _PARTS)
        repay = self._best.repay
        find_top(self._profit, repay, repay // _PARTS, (1, self._upper), _CLOSE)
        self._round_off()

    @property
    def _best(self) -> Size:
        assert self.best is not None
        return self.best

    def _worth(self, received: int) -> int:
        """Return what an amount of collateral earns at the average cost of the whole."""
        brought = self._proceeds.out(received)
        return brought - self._cost * received // self._received

    def _take(self, received: int) -> bool:
        """Try the repay that seizes so much; say whether it is legal."""
        if self._unit > 1:
            # A unit of collateral costs several of debt: each is taken for the least.
            return self._try(self._least(received)) is not None
        repay = max(received * self._upper // self._received, 1)
        if repay < self._upper:
            self._try(repay + 1)
        return self._try(repay) is not None

    def _profit(self, repay: int) -> int | None:
        size = self._try(repay)
        return None if size is None else size.profit

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
        repay, received = self._best.repay, self._best.seizure.received
        if not 0 < self._best.profit <= _COARSE or received == 0:
            return
        if self._unit > 1:
            for each in range(max(received - 4, 1), min(received + 4, self._received) + 1):
                self._try(self._least(each))
            repay = self._best.repay
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
        if self.best is None or size.profit > self.best.profit:
            self.best = size
        return size if legal == repay else None
