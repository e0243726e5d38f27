"""What pools give for each token in dollars: the middle of both ways, along the deepest pools.

A dollar is a token whose own feed says about one: from there on a token is worth what pools give for
it, whatever its feed says. Amounts are in 1e18ths of a dollar for one whole token.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isqrt

from keeper.ports import Swaps, Venue
from keeper.types import Hop, Token
from keeper.units import BPS, WAD, Address

DEEP = 1_000 * WAD
"""What a pool has to take both ways, each losing no more than `LOSS` against a tenth of it."""
TRIAL = 10
LOSS = 200
WAY_BACK = 600
"""What selling and buying back may cost, fees included; the least of them is the way to a token."""
DOLLAR = WAD // 50
"""How far a dollar's feed may be from one."""
EVERY_HEADS = 50
"""Heads between two looks for the deepest pools."""


@dataclass(frozen=True, slots=True)
class Way:
    """The pool that tells what a token is worth, there and back."""

    venue: Venue
    there: Hop
    back: Hop
    cost: int


class PoolPrices:
    """Prices tokens by pools; which pools those are is looked for now and then."""

    def __init__(self, venues: Callable[[], Iterable[Venue]]) -> None:
        self._venues = venues
        self._ways: dict[Address, Way] = {}
        self._tokens: frozenset[Address] = frozenset()
        self._looked: int | None = None

    def look(
        self, head: int, feeds: Mapping[Address, int], tokens: Mapping[Address, Token]
    ) -> None:
        """Look for the deepest pools, when that is due or other tokens are priced."""
        known = frozenset(feeds) & frozenset(tokens)
        is_due = self._looked is None or abs(head - self._looked) >= EVERY_HEADS
        if is_due or known != self._tokens:
            self._looked, self._tokens = head, known
            self._ways = ways(self._venues(), {each: feeds[each] for each in known}, tokens)

    def at(self, feeds: Mapping[Address, int], tokens: Mapping[Address, Token]) -> "Quoted":
        """Return the pools' prices as they stand now, each computed when it is asked for."""
        running = {id(venue) for venue in self._venues()}
        usable = {
            token: way
            for token, way in self._ways.items()
            if id(way.venue) in running and token in feeds and way.there.token_out in feeds
        }
        return Quoted(usable, feeds, tokens)


class Quoted:
    """What pools give for tokens, as the pools stand."""

    def __init__(
        self,
        usable: Mapping[Address, Way],
        feeds: Mapping[Address, int],
        tokens: Mapping[Address, Token],
    ) -> None:
        self._ways = usable
        self._feeds = feeds
        self._tokens = tokens
        self._swaps: dict[int, Swaps] = {}
        self._found: dict[Address, int | None] = {}

    def price(self, token: Address) -> int | None:
        """Return what pools give for a token, None where none is deep enough."""
        if token not in self._found:
            self._found[token] = None
            self._found[token] = self._along(token)
        return self._found[token]

    def rate(self, token: Address, other: Address) -> int | None:
        """Return how much of another token pools give for one, in 1e18ths; None where none tells."""
        price, feed = self.price(token), self._feeds.get(other)
        if price is None or not feed:
            return None
        worth = feed if is_dollar(feed) else self.price(other) or feed
        return price * WAD // worth

    def _along(self, token: Address) -> int | None:
        way, feed = self._ways.get(token), self._feeds.get(token)
        if way is None or not feed:
            return None
        other = way.there.token_out
        through = self._ways.get(other)
        # A dollar beside another one, and the last token of a way, are worth what their feeds say.
        is_end = through is None or is_dollar(self._feeds[other])
        worth = self._feeds.get(other) if is_end else self.price(other)
        swaps = self._swaps.get(id(way.venue))
        if swaps is None:
            swaps = self._swaps[id(way.venue)] = way.venue.begin()
        ratio = middle(swaps, way, feed, self._tokens)
        return None if ratio is None or not worth else ratio * worth // WAD


def is_dollar(price: int) -> bool:
    """Say whether a feed's price is that of a dollar."""
    return abs(price - WAD) <= DOLLAR


def middle(swaps: Swaps, way: Way, price: int, tokens: Mapping[Address, Token]) -> int | None:
    """Return whole tokens bought for one sold, between what the pool asks and gives.

    Selling gives m·(1 - f) for each and buying back (1 - f)² of what was sold, so that both tell m.
    """
    sold, bought = tokens[way.there.token_in], tokens[way.there.token_out]
    amount = max(DEEP // TRIAL * 10**sold.decimals // price, 1)
    out = swaps.quote(way.there, amount)
    back = swaps.quote(way.back, out) if out else 0
    if not back:
        return None
    scale_in, scale_out = int(10**sold.decimals), int(10**bought.decimals)
    return isqrt((out * WAD * scale_in) ** 2 // (amount * back * scale_out**2))


def ways(
    venues: Iterable[Venue], feeds: Mapping[Address, int], tokens: Mapping[Address, Token]
) -> dict[Address, Way]:
    """Return the pool that leads each token nearer to a dollar, or to the token most pools have.

    Of as many pools to go the one that costs least there and back.
    """
    started = [(venue, venue.begin()) for venue in venues]
    found = {
        token: [
            way
            for venue, swaps in started
            for hop in venue.hops(token)
            if hop.token_out in feeds and not hop.least
            if (way := _deep(venue, swaps, hop, price, tokens)) is not None
        ]
        for token, price in feeds.items()
    }
    ends = {token for token, price in feeds.items() if is_dollar(price)}
    if not any(found[token] for token in ends):
        ends = {max(found, key=lambda token: len(found[token]))} if found else set()
    chosen = {
        token: min(beside, key=lambda way: way.cost)
        for token in ends
        if (beside := [way for way in found[token] if way.there.token_out in ends])
    }
    reached = set(ends)
    while True:
        nearer = {
            token: min(leading, key=lambda way: way.cost)
            for token, each in found.items()
            if token not in reached
            and (leading := [way for way in each if way.there.token_out in reached])
        }
        if not nearer:
            return chosen
        chosen |= nearer
        reached |= nearer.keys()


def _deep(
    venue: Venue, swaps: Swaps, hop: Hop, price: int, tokens: Mapping[Address, Token]
) -> Way | None:
    """Return a pool that takes the whole probe both ways, None for any other."""
    amount = DEEP * 10 ** tokens[hop.token_in].decimals // price if price else 0
    part = swaps.quote(hop, amount // TRIAL) * TRIAL
    whole = swaps.quote(hop, amount)
    if not part or whole * BPS < part * (BPS - LOSS):
        return None
    for back in venue.hops(hop.token_out):
        if (back.pool, back.token_out) == (hop.pool, hop.token_in):
            returned = swaps.quote(back, whole)
            cost = (amount - returned) * BPS // amount
            if cost <= WAY_BACK:
                return Way(venue, hop, back, cost)
    return None
