"""Pools under stress: what sales bring, where prices stand after them, and arbitrage to a price."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

from keeper.planning.routing import Route, Router, Sales
from keeper.types import Hop
from keeper.units import Address

_PROBE = 1e-3
"""Of a trade's size: how much is tried to read a price off a pool."""
_SPLITS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((8,),),
    ((7, 1), (6, 2), (5, 3), (4, 4)),
    ((6, 1, 1), (5, 2, 1), (4, 3, 1), (4, 2, 2), (3, 3, 2)),
)
"""Eighths of a sale over one, two and three routes that share no pool, the best route first."""
_MOST = 1 << 40
_CLOSE = 1e-7


class Sale(NamedTuple):
    """What a sale brings, and what of it goes over which route; none for what needs no sale."""

    out: int
    parts: tuple[tuple[Route, int], ...]


class Pools:
    """All venues of a chain as they would stand after the trades made here."""

    def __init__(self, sales: Sales, router: Router) -> None:
        self._sales = sales
        self._router = router

    def best(self, sold: Address, bought: Address, amount: int) -> Sale | None:
        """Return the best way to sell an amount now, over up to three routes; None for no way."""
        if sold == bought:
            return Sale(amount, ())
        ranked = self._router.rank(self._sales, sold, bought, amount) if amount else []
        apart: list[Route] = []
        used: set[Address] = set()
        for each in ranked:
            pools = {hop.pool for hop in each.route}
            if not pools & used and len(apart) < len(_SPLITS):
                apart.append(each.route)
                used |= pools
        best: Sale | None = None
        for routes in range(len(apart)):
            for split in _SPLITS[routes]:
                sale = self._split(apart, split, amount)
                if sale is not None and (best is None or sale.out > best.out):
                    best = sale
        return best

    def sell(self, sale: Sale) -> None:
        """Make a sale; the pools stand behind it from now on."""
        for route, part in sale.parts:
            self._sales.apply(route, part)

    def _split(self, routes: Sequence[Route], split: Sequence[int], amount: int) -> Sale | None:
        parts, out, left = [], 0, amount
        for k, (route, eighths) in enumerate(zip(routes, split, strict=False)):
            part = left if k == len(split) - 1 else amount * eighths // 8
            left -= part
            brought = self._sales.quote(route, part) if part else 0
            if not brought:
                return None
            out += brought
            parts.append((route, part))
        return Sale(out, tuple(parts))

    def price(self, sold: Address, bought: Address, size: int) -> float | None:
        """Return how many units the other token gives for one, between bid and ask; None for none.

        Of several pools the deepest one's: that which a sale of `size` moves least.
        """
        best: tuple[float, float] | None = None
        for hop in self._router.out_of(sold).get(bought, ()):
            mid, after = self._mid(self._sales, hop, size), self._after(hop, size, size)
            if mid is not None and after is not None:
                best = max(best or (0.0, 0.0), (after / mid, mid))
        return None if best is None else best[1]

    def arbitrage(self, values: Mapping[Address, float], size: Mapping[Address, int]) -> int:
        """Trade every pool to where its tokens' values say, and return how many were moved.

        `values` are dollars of one unit, `size` an amount of each token that a usual trade takes.
        """
        moved = 0
        for token, worth in values.items():
            for other, hops in self._router.out_of(token).items():
                if other not in values:
                    continue
                for hop in hops:
                    moved += self._align(hop, worth / values[other], size[token])
        return moved

    def _align(self, hop: Hop, fair: float, size: int) -> bool:
        """Sell into a pool that pays too much until it pays what is fair."""
        spot = self._mid(self._sales, hop, size)
        if spot is None or spot <= fair * (1 + _CLOSE):
            return False
        probe = max(int(size * _PROBE), 1)
        # What the next little sale gives is the price less the fee, whatever was sold before it.
        target = self._sales.quote((hop,), probe) / probe * fair / spot
        low, high = 0, size
        while self._next(hop, high, probe) > target:
            if high > _MOST * size or (low and self._next(hop, low, probe) >= spot * (1 - _CLOSE)):
                return False  # It has one price, whatever is sold, or no end.
            low, high = high, 2 * high
        while high - low > max(high * _CLOSE, 1):
            middle = (low + high) // 2
            if self._next(hop, middle, probe) > target:
                low = middle
            else:
                high = middle
        return low > 0 and self._sales.apply((hop,), low) > 0

    def _next(self, hop: Hop, sold: int, probe: int) -> float:
        """Return what a little more brings after a sale; 0 where the pool has no more."""
        more = self._sales.quote((hop,), sold + probe)
        return (more - self._sales.quote((hop,), sold)) / probe if more else 0.0

    def _after(self, hop: Hop, amount: int, size: int) -> float | None:
        tried = self._sales.fork((hop,))
        return self._mid(tried, hop, size) if tried.apply((hop,), amount) else None

    def _mid(self, sales: Sales, hop: Hop, size: int) -> float | None:
        """Return the price between selling and buying a little; fees cancel."""
        probe = max(int(size * _PROBE), 1)
        out = sales.quote((hop,), probe)
        if out < 1:
            return None
        for back in self._router.out_of(hop.token_out).get(hop.token_in, ()):
            if (back.venue, back.pool) == (hop.venue, hop.pool):
                returned = sales.quote((back,), out)
                return sqrt(out / probe * (out / returned)) if returned else None
        return out / probe
