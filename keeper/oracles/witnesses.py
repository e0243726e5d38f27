"""Which pools tell what a token is worth: deep ones, on the way to a dollar along which all are."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from keeper.ports import Swaps, Venue
from keeper.types import Hop, Token
from keeper.units import BPS, WAD, Address

DEEP = 1_000 * WAD
"""What a pool has to take both ways at every head, losing no more than `LOSS` against a tenth of it."""
TRIAL = 10
LOSS = 200
WAY_BACK = 600
"""What selling and buying back may cost, fees included."""
DEEPER = tuple(4**step for step in range(7))
"""Times `DEEP` that a pool is tried for, to tell how deep it is."""
WITNESSES = 3
"""Pools kept for each token, the deepest: another tells when one is left by who filled it."""
DOLLAR = WAD // 50
"""How far a dollar's feed may be from one."""


@dataclass(frozen=True, slots=True)
class Way:
    """A pool that tells what a token is worth, there and back; `depth` is one of `DEEPER`."""

    venue: Venue
    there: Hop
    back: Hop
    depth: int
    cost: int


def is_dollar(price: int) -> bool:
    """Say whether a feed's price is that of a dollar."""
    return abs(price - WAD) <= DOLLAR


def ways(found: Iterable[Way], feeds: Mapping[Address, int]) -> dict[Address, tuple[Way, ...]]:
    """Return the pools that lead each token to a dollar, or to the token most pools have.

    Those along which the shallowest is deepest, as from a token to another the way is one of those
    that were reached before it: nobody's own pool to a dollar is nearer than the market's to ether.
    Of as deep ones those with fewer pools to go, and then what costs least there and back.
    """
    leading: defaultdict[Address, list[Way]] = defaultdict(list)
    beside: defaultdict[Address, list[Way]] = defaultdict(list)
    for way in found:
        if way.there.token_in in feeds and way.there.token_out in feeds:
            beside[way.there.token_in].append(way)
            leading[way.there.token_out].append(way)
    ends = {token for token, price in feeds.items() if is_dollar(price)}
    if not ends & beside.keys():
        often = Counter({token: len(each) for token, each in beside.items()})
        ends = {token for token, _ in often.most_common(1)}
    reached: dict[Address, tuple[int, int]] = {}
    heap = sorted((-DEEPER[-1], 0, token) for token in ends)
    while heap:
        shallowest, hops, token = heappop(heap)
        if token in reached:
            continue
        reached[token] = shallowest, hops
        for way in leading[token]:
            heappush(heap, (max(shallowest, -way.depth), hops + 1, way.there.token_in))
    order = {token: place for place, token in enumerate(reached)}

    def rank(way: Way) -> tuple[int, int, int, Address]:
        shallowest, hops = reached[way.there.token_out]
        return max(shallowest, -way.depth), hops, way.cost, way.there.pool

    chosen: dict[Address, tuple[Way, ...]] = {}
    for token, place in order.items():
        nearer = [
            way
            for way in beside[token]
            if (other := way.there.token_out) in ends or order.get(other, place) < place
        ]
        if nearer:
            chosen[token] = tuple(sorted(nearer, key=rank)[:WITNESSES])
    return chosen


def pools(
    venues: Iterable[Venue], priced: Mapping[Address, int]
) -> Iterator[tuple[Venue, Hop, Hop]]:
    """Yield every way from one priced token to another, with the way back through the same pool."""
    for venue in venues:
        hops = {
            (hop.pool, hop.token_in, hop.token_out): hop
            for token in priced
            for hop in venue.hops(token)
            if hop.token_out in priced and not hop.least
        }
        for (pool, sold, bought), there in hops.items():
            back = hops.get((pool, bought, sold))
            if back is not None:
                yield venue, there, back


def deep(venue: Venue, swaps: Swaps, there: Hop, back: Hop, price: int, sold: Token) -> Way | None:
    """Return a pool that takes the whole probe both ways and how deep it is, None for any other."""
    amount = DEEP * 10**sold.decimals // price
    try:
        part = swaps.quote(there, amount // TRIAL) * TRIAL
        found: Way | None = None
        for depth in DEEPER if part else ():
            whole = swaps.quote(there, amount * depth)
            if whole * BPS < part * depth * (BPS - LOSS):
                break
            returned = swaps.quote(back, whole)
            cost = BPS - returned * BPS // (amount * depth)
            if cost > WAY_BACK:
                break
            found = Way(venue, there, back, depth, cost if found is None else found.cost)
    except LookupError:  # a reorg dropped the pool while others were tried
        return None
    return found
