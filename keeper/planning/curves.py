"""What a route brings for any amount, and how far it can be sold down to a marginal price.

A route is a black box that quotes amounts exactly. Within one liquidity range of a constant-product
pool the marginal price falls so that its inverse root is linear in the amount sold, chains of such
pools keep that shape, and other pools come close: so inverse roots are what is measured, kept, and
interpolated. Every measurement makes the next search shorter, as long as the pools stand still.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

from keeper.planning.tops import find_top

Sell = Callable[[int], int]
"""What an amount of collateral brings on the state so far; 0 when it cannot be filled."""

_STEPS = 40
_TOLERANCE = 1e-7
_EQUAL = 1e-5
"""How far apart the inverse roots of parallel routes may stay: what is lost goes with its square."""
_ROUNDS = 5
_LEFT = 2e-11
"""The share of proceeds a better division may still bring."""
_WIDE = 1 << 21
_SEEN = 1 << 16
"""Units sold, and bought, between which a slope shows through rounding."""
_FINE = 1_000
"""Units of the token bought that show a price."""


class Curve:
    """One route's proceeds, concave: exact amounts, and the marginal prices measured so far."""

    def __init__(self, sell: Sell) -> None:
        self._sell = sell
        self._outs: dict[int, int] = {0: 0}
        self._amounts: list[int] = []
        self._roots: list[float] = []
        self._reached: dict[float, int] = {}
        self._beyond: dict[float, int] = {}
        self._filled = 0
        self.probe = 0
        self._limit = math.inf
        self._end = math.inf

    def out(self, amount: int) -> int:
        """Return exactly what an amount brings; 0 when it cannot be filled."""
        known = self._outs.get(amount)
        if known is None:
            known = self._outs[amount] = self._sell(amount) if amount < self._limit else 0
            if known:
                self._filled = max(self._filled, amount)
            elif amount > self._filled > 0:
                # Less than what was filled is too little to bring anything.
                self._limit = min(self._limit, amount)
        return known

    def find_end(self) -> None:
        """Close in on the most that can be filled, where something could not."""
        if self._limit == math.inf:
            return
        while self._limit - self._filled > max(self._filled >> 10, 1):
            self.out((self._filled + int(self._limit)) // 2)
        self._end = self._filled

    def spot(self, amount: int) -> float:
        """Return the average price of the first 4,096th of an amount, of more where tokens are coarse."""
        first = max(amount >> 12, 1)
        if self.probe == 0:
            while self.out(first) < _FINE and first < amount:
                first = min(first * 4, amount)
            self.probe = first
        price = self.out(self.probe) / self.probe
        if price > 0 and (not self._amounts or self._amounts[0]):
            root = 1 / math.sqrt(price)
            self._amounts.insert(0, 0)
            self._roots.insert(0, min([root, *self._roots[:1]]))
        return price

    def root(self, amount: int) -> float:
        """Measure the inverse root of the marginal price at an amount; infinite past the end."""
        step = self._step(amount)
        high = self.out(amount + step // 2)
        slope = (high - self.out(amount + step // 2 - step)) / step if high else 0.0
        root = 1 / math.sqrt(slope) if slope > 0 else math.inf
        self._keep(amount, root)
        return root

    def reach(self, cost: float, most: int) -> int:
        """Return the amount, at most `most`, whose last unit brings `cost`."""
        key = float(f"{cost:.7g}")
        known = self._reached.get(key)
        if known is not None:
            return min(known, most)
        if most <= self._beyond.get(key, 0):
            return most
        root = 1 / math.sqrt(key)
        found = self._search(root, most)
        if found < most:
            self._reached[key] = found
        else:
            # Whoever asks next may have sold more by then.
            self._beyond[key] = 2 * most if self.root(2 * most) <= root else most
        return found

    def prepare(self, amount: int) -> float | None:
        """Measure what `line` needs at least, and return the first inverse root; None without any."""
        self.spot(amount)
        for shift in (5, 1):
            if len(self._amounts) == 1:
                self.root(max(amount >> shift, 1))
        return self._roots[0] if len(self._amounts) > 1 else None

    def line(self, root: float, most: float) -> tuple[float, float]:
        """Return the amount with this inverse root, interpolated, at most `most`, and its slope."""
        roots, amounts = self._roots, self._amounts
        place = bisect_left(roots, root)
        if place == 0:
            return 0.0, 0.0
        is_beyond = place == len(roots)
        if is_beyond:
            place -= 1
        low, high = amounts[place - 1], amounts[place]
        rise = roots[place] - roots[place - 1]
        if rise <= 0:
            return (most if is_beyond else float(high)), 0.0
        slope = (high - low) / rise
        found = low + slope * (root - roots[place - 1])
        most = min(most, self._limit, self._end)
        return (found, slope) if found < most else (most, 0.0)

    def _search(self, root: float, most: int) -> int:
        step = self._step(most)
        if (whole := self.out(most)) and (slope := (whole - self.out(most - step)) / step) > 0:
            steep = 1 / math.sqrt(slope)
            if steep <= root:
                return most
        else:
            steep = math.inf
        self.spot(most)
        if self._roots and self._roots[0] >= root:
            return 0
        low, shallow, high = 0, 0.0, most
        for amount, known in zip(self._amounts, self._roots, strict=True):
            if known <= root and low <= amount < high:
                low, shallow = amount, known
            elif known > root and amount < high:
                high, steep = amount, known
                break
        sides = 0
        for _ in range(_STEPS):
            if high - low <= 1:
                break
            at = _between(low, shallow, high, steep, root, halve=abs(sides) > 1)
            found = self.root(at)
            if found <= root:
                low, shallow = at, found
                sides = max(sides, 0) + 1
            else:
                high, steep = at, found
                sides = min(sides, 0) - 1
            if abs(found - root) <= root * _TOLERANCE or high - low <= low * _TOLERANCE:
                return at
        return low

    def _step(self, at: int) -> int:
        """Return a width to measure a slope over: pools round, so coarse tokens need a wide one."""
        brought = self.out(at)
        wide = max(_WIDE, _SEEN * at // brought) if brought else _WIDE
        return max(at >> 12, min(at >> 3, wide), 1)

    def _keep(self, amount: int, root: float) -> None:
        """Keep a measurement that fits between its neighbours: rounding makes some that do not."""
        if root == math.inf:
            return
        place = bisect_left(self._amounts, amount)
        if place < len(self._amounts) and self._amounts[place] == amount:
            return
        below = self._roots[place - 1] if place else 0.0
        above = self._roots[place] if place < len(self._roots) else math.inf
        if below <= root <= above:
            self._amounts.insert(place, amount)
            self._roots.insert(place, root)


class Filling:
    """Curves side by side, an amount divided so that all that sell have the same marginal price."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        self._curves = curves
        self._checked = (0, 0)
        self._root = 0.0

    def divide(self, amount: int) -> tuple[list[int], float]:
        """Return each curve's part and the inverse root of the price they share.

        There are no parts when the curves cannot take the amount together. Prices are measured
        where the amount is far from those it was done for before: between those lines suffice.
        """
        firsts = [curve.prepare(amount) for curve in self._curves]
        known = [first for first in firsts if first is not None]
        if len(known) < len(firsts):
            return [], math.inf
        parts: list[int] = []
        low, high = self._checked
        is_near = low <= amount <= high
        root: float | None = None
        for _ in range(_ROUNDS):
            root = _level(self._curves, amount, min(known), self._root)
            if root is None:
                return [], math.inf
            self._root = root
            parts = [int(curve.line(root, amount)[0]) for curve in self._curves]
            largest = max(range(len(parts)), key=parts.__getitem__)
            parts[largest] += amount - sum(parts)
            if is_near:
                break
            found = [
                curve.root(part)
                for curve, part in zip(self._curves, parts, strict=True)
                if part > 0
            ]
            if max(found) - min(found) <= root * _EQUAL:
                self._checked = (amount * 7 // 8, amount * 5 // 4)
                break
        return parts, root or math.inf


def polish(curves: Sequence[Curve], parts: Sequence[int]) -> list[int]:
    """Move amounts between the largest part and each other, as long as exact proceeds rise."""
    found = list(parts)
    largest = max(range(len(found)), key=found.__getitem__)
    for _ in range(2):
        for other in range(len(found)):
            if other != largest and found[other] > 1:
                moved = _transfer(curves[largest], curves[other], found[largest], found[other])
                found[largest] -= moved
                found[other] += moved
    return found


def _transfer(from_: Curve, to: Curve, has: int, gets: int) -> int:
    """Return how much to move so that both together bring most."""

    def brings(moved: int) -> int | None:
        outs = from_.out(has - moved), to.out(gets + moved)
        return sum(outs) if all(outs) else None

    spread = min(has, gets) >> 7
    return find_top(brings, 0, spread, (1 - gets, has - 1), _LEFT) or 0


def _level(curves: Sequence[Curve], amount: int, first: float, near: float) -> float | None:
    """Return the inverse root at which interpolated curves take an amount together.

    Their sum is made of lines: where one of them leads is the next guess, the first of them `near`.
    """
    low, high, at = first, math.inf, max(first * 1.001, near)
    for _ in range(_STEPS):
        taken = slope = 0.0
        for curve in curves:
            part, steepness = curve.line(at, amount)
            taken += part
            slope += steepness
        if abs(taken - amount) <= amount * 1e-12:
            return at
        if taken < amount:
            low = at
        else:
            high = at
        at = at + (amount - taken) / slope if slope else math.inf
        if not low < at < high:
            at = (low + high) / 2 if high < math.inf else low * 2
            if not low < at < high:
                break
    return high if high < math.inf else None


def _between(low: int, shallow: float, high: int, steep: float, root: float, *, halve: bool) -> int:
    """Return the secant's point in a bracket; its middle where that tells nothing, or creeps."""
    if halve or steep == math.inf or shallow == 0:
        return max((low + high) // 2 if low else high >> 3, low + 1)
    share = (root - shallow) / (steep - shallow) if steep > shallow else 0.5
    return min(max(low + int((high - low) * share), low + 1), high - 1)
