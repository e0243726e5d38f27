"""The best ways from one token to another, on the state earlier sales leave."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from keeper.planning.shares import divide
from keeper.ports import Swaps, Venue
from keeper.types import Hop, Portion, hops_of
from keeper.units import Address

Route = tuple[Hop, ...]
"""Hops in order; none when what is received is already the debt token."""

Routes = tuple[Portion, ...]
"""A sale's routes with their shares; none when what is received is already the debt token."""

KEPT = 3
"""Routes compared for every position of a pair; the rest wait until these fall behind."""


class Ranked(NamedTuple):
    """A route and what it brought for the amount it was ranked at."""

    out: int
    route: Route


class Sales:
    """Trial sales over all venues, one after another."""

    def __init__(self, venues: Mapping[str, Venue]) -> None:
        self._venues = venues
        self._swaps: dict[str, Swaps] = {name: venue.begin() for name, venue in venues.items()}
        self._made: list[tuple[Hop, int]] = []
        # Who asked for a route's best amount usually asks for it once more.
        self._last: tuple[Route | None, int, int] = (None, 0, 0)

    def quote(self, route: Route, amount: int) -> int:
        """Return what a sale along a route brings; 0 when a pool cannot fill it."""
        tried, sold, brought = self._last
        if tried is route and sold == amount:
            return brought
        out = amount
        for hop in route:
            out = self._swaps[hop.venue].quote(hop, out)
            if out == 0:
                break
        self._last = route, amount, out
        return out

    def apply(self, route: Route, amount: int) -> int:
        """Sell along a route and return what it brings; a route that cannot fill moves nothing."""
        if len(route) > 1 and self.quote(route, amount) == 0:
            return 0
        self._last = None, 0, 0
        for hop in route:
            self._made.append((hop, amount))
            amount = self._swaps[hop.venue].apply(hop, amount)
        return amount

    def quote_split(self, routes: Routes, amount: int) -> int:
        """Return what a sale over several routes brings; 0 when one of them cannot fill its part."""
        if len(routes) == 1:
            return self.quote(routes[0].route, amount)
        if not routes:
            return amount
        hops = hops_of(routes)
        if len({hop.pool for hop in hops}) < len(hops):
            return self.fork(hops).apply_split(routes, amount)
        out = 0
        for portion, part in zip(routes, divide(routes, amount), strict=True):
            brought = self.quote(portion.route, part) if part else 0
            if brought == 0:
                return 0
            out += brought
        return out

    def apply_split(self, routes: Routes, amount: int) -> int:
        """Sell over several routes, one after another, and return what they bring.

        What a route cannot fill brings nothing and moves nothing.
        """
        if not routes:
            return amount
        return sum(
            self.apply(portion.route, part) if part else 0
            for portion, part in zip(routes, divide(routes, amount), strict=True)
        )

    def fork(self, hops: Iterable[Hop]) -> "Sales":
        """Return other trial sales that stand, in the pools of these hops, where these do."""
        other = Sales(self._venues)
        pools = {hop.pool for hop in hops}
        for hop, amount in self._made:
            if hop.pool in pools:
                other._swaps[hop.venue].apply(hop, amount)
                other._made.append((hop, amount))
        return other


class Router:
    """Routes over every venue; pools that fund the batch are left out."""

    def __init__(
        self,
        venues: Mapping[str, Venue],
        max_hops: int,
        hubs: frozenset[Address] | None,
        excluded: frozenset[Address] = frozenset(),
    ) -> None:
        self._venues = venues
        self._max_hops = max_hops
        self._hubs = hubs
        self._excluded = excluded
        self._edges: dict[Address, dict[Address, list[Hop]]] = {}

    def rank(
        self,
        sales: Sales,
        sold: Address,
        bought: Address,
        amount: int,
        allowed: frozenset[str] | None = None,
    ) -> list[Ranked]:
        """Return routes that can fill an amount, best first.

        A path of tokens takes the best pool of each leg. The pools of two legs differ, and more of
        an intermediate token never brings less, so that is the best of the path's combinations.
        """
        if sold == bought:
            return [Ranked(amount, ())]
        found = []
        for path in self._paths(sold, bought, self._max_hops):
            if len(path) == 1:
                routes: Sequence[Route] = [(hop,) for hop in path[0]]
            else:
                routes = [_best_pools(sales, path, amount, allowed)]
            for route in routes:
                if not route or (allowed is not None and route[0].venue not in allowed):
                    continue
                out = sales.quote(route, amount)
                if out:
                    found.append(Ranked(out, route))
        found.sort(key=lambda ranked: -ranked.out)
        return found

    def _paths(
        self, sold: Address, bought: Address, hops: int, seen: frozenset[Address] = frozenset()
    ) -> Iterator[tuple[list[Hop], ...]]:
        seen |= {sold}
        for token, leg in self._out_of(sold).items():
            if token == bought:
                yield (leg,)
            elif hops > 1 and token not in seen and (self._hubs is None or token in self._hubs):
                for rest in self._paths(token, bought, hops - 1, seen):
                    yield (leg, *rest)

    def _out_of(self, token: Address) -> dict[Address, list[Hop]]:
        edges = self._edges.get(token)
        if edges is None:
            edges = self._edges[token] = {}
            for venue in self._venues.values():
                for hop in venue.hops(token):
                    if hop.pool not in self._excluded:
                        edges.setdefault(hop.token_out, []).append(hop)
        return edges


def _best_pools(
    sales: Sales, path: Sequence[Sequence[Hop]], amount: int, allowed: frozenset[str] | None
) -> Route:
    route: list[Hop] = []
    for leg in path:
        best, brought = None, 0
        for hop in leg:
            if allowed is not None and hop.venue not in allowed:
                continue
            out = sales.quote((hop,), amount)
            if out > brought:
                best, brought = hop, out
        if best is None:
            return ()
        route.append(best)
        amount = brought
    return tuple(route)
