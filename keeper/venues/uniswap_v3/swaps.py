"""Trial swaps on copies of where the pools stand."""

from collections.abc import Mapping

from keeper.types import Hop
from keeper.units import Address
from keeper.venues.uniswap_v3.pool import Point, Pool

MOST_STEPS = 200
"""A sale across more ticks and words costs more gas than any batch has to spare."""


class UniswapV3Swaps:
    """Sales tried one after another; ticks are shared with the venue, points are not."""

    def __init__(self, pools: Mapping[Address, Pool]) -> None:
        self._pools = pools
        self._moved: dict[Address, Point] = {}

    def quote(self, hop: Hop, amount_in: int) -> int:
        """Return the exact output of a swap on the state so far; 0 when the pool cannot fill it."""
        pool = self._pools[hop.pool]
        at = self._moved.get(hop.pool, pool.at)
        filled = pool.sell(at, amount_in, token0=hop.token_in == pool.token0, steps=MOST_STEPS)
        return 0 if filled.left else filled.out

    def apply(self, hop: Hop, amount_in: int) -> int:
        """Swap on the scratch state and return the output; a swap that cannot fill moves nothing."""
        pool = self._pools[hop.pool]
        at = self._moved.get(hop.pool, pool.at)
        filled = pool.sell(at, amount_in, token0=hop.token_in == pool.token0, steps=MOST_STEPS)
        if filled.left:
            return 0
        self._moved[hop.pool] = filled.point()
        return filled.out
