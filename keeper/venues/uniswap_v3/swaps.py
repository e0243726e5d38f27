"""Trial swaps on copies of where the pools stand."""

from collections.abc import Mapping

from keeper.types import Hop
from keeper.units import Address
from keeper.venues.uniswap_v3.ladder import Ladder
from keeper.venues.uniswap_v3.pool import Point, Pool

MOST_STEPS = 200
"""A sale across more ticks and words costs more gas than any batch has to spare."""
TICK_GAS = 43_000
"""Crossing a tick for the first time writes what it has seen (Tick.sol: cross)."""
WORD_GAS = 9_000


class UniswapV3Swaps:
    """Sales tried one after another; ticks are shared with the venue, points are not."""

    def __init__(self, pools: Mapping[Address, Pool]) -> None:
        self._pools = pools
        self._moved: dict[Address, Point] = {}
        self._ladders: dict[tuple[Address, Address], Ladder] = {}

    def quote(self, hop: Hop, amount_in: int) -> int:
        """Return the exact output of a swap on the state so far; 0 when the pool cannot fill it."""
        ladder = self._ladders.get((hop.pool, hop.token_in))
        return (ladder or self._ladder(hop)).out(amount_in)

    def extra_gas(self, hop: Hop, amount_in: int) -> int:
        """Return the gas of the ticks and bitmap words a swap crosses."""
        ticks, words = self._ladder(hop).crossed(amount_in)
        return TICK_GAS * ticks + WORD_GAS * words

    def apply(self, hop: Hop, amount_in: int) -> int:
        """Swap on the scratch state and return the output; a swap that cannot fill moves nothing."""
        pool = self._pools[hop.pool]
        at = self._moved.get(hop.pool, pool.at)
        filled = pool.sell(at, amount_in, token0=hop.token_in == pool.token0, steps=MOST_STEPS)
        if filled.left:
            return 0
        self._moved[hop.pool] = filled.point()
        for token in (hop.token_in, hop.token_out):
            self._ladders.pop((hop.pool, token), None)
        return filled.out

    def _ladder(self, hop: Hop) -> Ladder:
        key = hop.pool, hop.token_in
        ladder = self._ladders.get(key)
        if ladder is None:
            pool = self._pools[hop.pool]
            at = self._moved.get(hop.pool, pool.at)
            ladder = Ladder(pool, at, token0=hop.token_in == pool.token0, steps=MOST_STEPS)
            self._ladders[key] = ladder
        return ladder
