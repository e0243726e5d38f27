"""A pool's whole price ranges in one direction, kept so that a quote only computes the last one.

What it takes to cross a range, and what that gives, does not depend on the amount sold. An amount
that is enough for it is at least what it takes (SwapMath.sol: computeSwapStep), so the ranges an
amount crosses are found by their sums.
"""

from bisect import bisect_left, bisect_right
from itertools import pairwise

from keeper.venues.uniswap_v3.pool import MAX_INPUT, Point, Pool


class Ladder:
    """Quotes in one direction from one point, through at most `steps` ranges."""

    __slots__ = ("_at", "_is_whole", "_outs", "_pool", "_steps", "_sums", "_token0")

    def __init__(self, pool: Pool, at: Point, *, token0: bool, steps: int) -> None:
        self._pool = pool
        self._token0 = token0
        self._steps = steps
        self._sums = [0]
        self._outs = [0]
        self._at = [at]
        self._is_whole = at.price == 0

    def out(self, amount: int) -> int:
        """Return the exact output of a swap; 0 when the pool cannot fill it."""
        if not 0 < amount <= MAX_INPUT:
            return 0
        sums = self._sums
        if amount > sums[-1] and not self._is_whole:
            self._climb(amount)
        place = bisect_right(sums, amount) - 1
        left = amount - sums[place]
        if not left:
            return self._outs[place]
        if place + 1 == len(sums):
            return 0
        at = self._at[place]
        reached, got = self._pool.within(at, left, token0=self._token0)
        end = self._at[place + 1].price
        # Rounding can lead to the end of a range that the amount falls short of by one.
        is_inside = reached > end if self._token0 else reached < end
        return self._outs[place] + got if is_inside else self._outs[place + 1]

    def crossed(self, amount: int) -> tuple[int, int]:
        """Return how many ticks with liquidity an amount crosses, and how many other ranges it leaves."""
        if self.out(amount) == 0:
            return 0, 0
        place = bisect_left(self._sums, amount)
        steps = pairwise(self._at[:place])
        ticks = sum(before.liquidity != after.liquidity for before, after in steps)
        return ticks, max(place - 1, 0) - ticks

    def _climb(self, amount: int) -> None:
        """Add ranges up to the one in which an amount ends."""
        while amount > self._sums[-1]:
            rung = self._pool.rung(self._at[-1], token0=self._token0)
            if rung is None or len(self._at) > self._steps:
                self._is_whole = True
                return
            self._sums.append(self._sums[-1] + rung.spent)
            self._outs.append(self._outs[-1] + rung.out)
            self._at.append(rung.after)
            self._is_whole = rung.is_last
            if rung.is_last:
                return
