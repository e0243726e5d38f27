"""What pools give for each token in dollars: the middle of both ways, along the deepest pools.

A dollar is a token whose own feed says about one: from there on a token is worth what pools give for
it, whatever its feed says. Amounts are in 1e18ths of a dollar for one whole token.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isqrt

from keeper.oracles.witnesses import DEEP, WAY_BACK, Way, deep, is_dollar, pools, ways
from keeper.ports import Swaps, Venue
from keeper.types import Hop, Token
from keeper.units import BPS, WAD, Address

EVERY_HEADS = 50
"""Heads between two beginnings of a look for the deepest pools."""
HOPS_PER_HEAD = 32
"""Ways through pools that are tried at one head: each is a fifth of a millisecond or so."""


class PoolPrices:
    """Prices tokens by pools; which pools those are is looked for now and then, a little at a head."""

    def __init__(self, venues: Callable[[], Iterable[Venue]]) -> None:
        self._venues = venues
        self._ways: dict[Address, tuple[Way, ...]] = {}
        self._asked: frozenset[Address] = frozenset()
        self._due: deque[tuple[Venue, Hop, Hop]] = deque()
        self._found: dict[Hop, Way] = {}
        self._fresh: dict[Hop, Way] = {}
        self._begun: int | None = None

    def look(
        self, head: int, feeds: Mapping[Address, int], tokens: Mapping[Address, Token]
    ) -> None:
        """Go on looking for the deepest pools: of all tokens when that is due, else of new ones."""
        priced = {token: price for token, price in feeds.items() if token in tokens and price}
        is_time = self._begun is None or abs(head - self._begun) >= EVERY_HEADS
        if is_time and not self._due:
            self._begun, self._asked, self._fresh = head, frozenset(priced), {}
            self._due.extend(pools(self._venues(), priced))
        elif new := priced.keys() - self._asked:
            if not self._due:
                self._fresh = dict(self._found)
            self._asked |= new
            self._due.extend(
                each
                for each in pools(self._venues(), priced)
                if each[1].token_in in new or each[1].token_out in new
            )
        if self._due:
            self._try(priced, tokens)

    @property
    def is_looking(self) -> bool:
        """Say whether a look has begun that is not at its end."""
        return bool(self._due)

    def at(self, feeds: Mapping[Address, int], tokens: Mapping[Address, Token]) -> "Quoted":
        """Return the pools' prices as they stand now, each computed when it is asked for."""
        running = {id(venue) for venue in self._venues()}
        usable = {
            token: kept
            for token, found in self._ways.items()
            if feeds.get(token)
            and (
                kept := [
                    way
                    for way in found
                    if id(way.venue) in running and feeds.get(way.there.token_out)
                ]
            )
        }
        return Quoted(usable, feeds, tokens)

    def _try(self, priced: Mapping[Address, int], tokens: Mapping[Address, Token]) -> None:
        """Try the next pools; when the last one was, all that were found take over."""
        started = {id(venue): venue.begin() for venue in self._venues()}
        for _ in range(min(HOPS_PER_HEAD, len(self._due))):
            venue, there, back = self._due.popleft()
            swaps, price = started.get(id(venue)), priced.get(there.token_in)
            if swaps is None or price is None:
                # what is gone for a while is not forgotten for it
                way = self._found.get(there)
            else:
                way = deep(venue, swaps, there, back, price, tokens[there.token_in])
            if way is not None:
                self._fresh[there] = way
        if not self._due:
            self._found = self._fresh
            self._ways = ways(self._found.values(), priced)


class Quoted:
    """What pools give for tokens, as the pools stand."""

    def __init__(
        self,
        usable: Mapping[Address, Iterable[Way]],
        feeds: Mapping[Address, int],
        tokens: Mapping[Address, Token],
    ) -> None:
        self._ways = usable
        self._feeds = feeds
        self._tokens = tokens
        self._swaps: dict[int, Swaps] = {}
        self._ratios: dict[Hop, int | None] = {}
        self._deepest: dict[Address, int | None] = {}
        self._every: dict[Address, tuple[int, ...]] = {}

    def price(self, token: Address) -> int | None:
        """Return what the deepest pools give for a token, None where none is deep enough now."""
        if token not in self._deepest:
            self._deepest[token] = None
            self._deepest[token] = next(self._worths(token, self._one), None)
        return self._deepest[token]

    def prices(self, token: Address) -> tuple[int, ...]:
        """Return what its pools give for a token, the deepest first, then the least and the most."""
        if token not in self._every:
            self._every[token] = ()
            found = list(self._worths(token, self.prices))
            ends = (found[0], min(found), max(found)) if found else ()
            self._every[token] = tuple(dict.fromkeys(ends))
        return self._every[token]

    def rate(self, token: Address, other: Address) -> int | None:
        """Return how much of another token pools give for one, in 1e18ths; None where none tells."""
        return next(iter(self._rates(self._one(token), self._one(other), other)), None)

    def rates(self, token: Address, other: Address) -> tuple[int, ...]:
        """Return how much of another token each of their pools gives for one, in 1e18ths."""
        return self._rates(self.prices(token), self.prices(other), other)

    def _one(self, token: Address) -> tuple[int, ...]:
        price = self.price(token)
        return () if price is None else (price,)

    def _rates(
        self, prices: tuple[int, ...], worths: tuple[int, ...], other: Address
    ) -> tuple[int, ...]:
        feed = self._feeds.get(other)
        if not feed:
            return ()
        told = (feed,) if is_dollar(feed) or not worths else worths
        return tuple(price * WAD // worth for price in prices for worth in told if worth)

    def _worths(self, token: Address, of: Callable[[Address], tuple[int, ...]]) -> Iterator[int]:
        for way in self._ways.get(token, ()):
            other = way.there.token_out
            # A dollar beside another one, and the last token of a way, are worth what their feeds say.
            is_end = other not in self._ways or is_dollar(self._feeds[other])
            worths = (self._feeds[other],) if is_end else of(other)
            ratio = self._ratio(way) if worths else None
            if ratio:
                yield from (ratio * worth // WAD for worth in worths)

    def _ratio(self, way: Way) -> int | None:
        if way.there not in self._ratios:
            swaps = self._swaps.get(id(way.venue))
            if swaps is None:
                swaps = self._swaps[id(way.venue)] = way.venue.begin()
            price = self._feeds[way.there.token_in]
            self._ratios[way.there] = middle(swaps, way, price, self._tokens)
        return self._ratios[way.there]


def middle(swaps: Swaps, way: Way, price: int, tokens: Mapping[Address, Token]) -> int | None:
    """Return whole tokens bought for one sold, between what the pool asks and gives.

    Selling gives m·(1 - f) for each and buying back (1 - f)² of what was sold, so that both tell m.
    None where that costs more than `WAY_BACK` by now: who filled a pool may have left it.
    """
    sold, bought = tokens[way.there.token_in], tokens[way.there.token_out]
    amount = max(DEEP * 10**sold.decimals // price, 1)
    try:
        out = swaps.quote(way.there, amount)
        back = swaps.quote(way.back, out) if out else 0
    except LookupError:  # a reorg dropped the pool after it was found
        return None
    if back * BPS < amount * (BPS - WAY_BACK):
        return None
    scale_in, scale_out = int(10**sold.decimals), int(10**bought.decimals)
    return isqrt((out * WAD * scale_in) ** 2 // (amount * back * scale_out**2))
