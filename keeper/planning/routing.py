"""The best ways from one token to another, on the state earlier sales leave."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from keeper.planning.shares import divide
from keeper.ports import Swaps, Venue
from keeper.types import Hop, Portion, hops_of
from keeper.units import Address

Route = tuple[Hop, ...]
"""Hops in order; none when what is received is already the debt token."""

Routes = tuple[Portion, ...]
"""A sale's routes with their shares; none when what is received is already the debt token."""


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

    def extra_gas(self, routes: Routes, amount: int) -> int:
        """Return the gas an amount takes on its way through pools beyond a swap that hardly moves them."""
        gas = 0
        for portion, part in zip(routes, divide(routes, amount), strict=True):
            left = part
            for hop in portion.route:
                swaps = self._swaps[hop.venue]
                # Asking a protocol (`Metered`) takes longer than a quote.
                extra_gas = getattr(swaps, "extra_gas", None)
                if extra_gas is not None:
                    gas += extra_gas(hop, left)
                left = swaps.quote(hop, left)
        return gas

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
    """Routes over every venue; pools that are not trusted, and offers, are left out."""

    def __init__(
        self,
        venues: Mapping[str, Venue],
        max_hops: int,
        hubs: frozenset[Address] | None,
        trusts: Callable[[Hop], bool] = lambda _: True,
    ) -> None:
        self._venues = venues
        self._max_hops = max_hops
        self._hubs = hubs
        self._trusts = trusts
        self._edges: dict[Address, dict[Address, list[Hop]]] = {}

    def rank(
        self,
        sales: Sales,
        sold: Address,
        bought: Address,
        amount: int,
        allowed: frozenset[str] | None = None,
        shut: frozenset[Address] = frozenset(),
    ) -> list[Ranked]:
        """Return routes that can fill an amount, best first.

        A path of tokens takes the best pool of each leg. The pools of two legs differ, and more of
        an intermediate token never brings less, so that is the best of the path's combinations.
        """
        if sold == bought:
            return [Ranked(amount, ())]
        search = _Search(self, sales, bought, allowed, shut)
        search.walk(sold, amount, self._max_hops, (), frozenset())
        search.found.sort(key=lambda ranked: -ranked.out)
        return search.found

    def is_hub(self, token: Address) -> bool:
        """Say whether a route may pass through a token."""
        return self._hubs is None or token in self._hubs

    def trusts(self, hop: Hop) -> bool:
        """Say whether a pool's price and depth are to be believed."""
        return self._trusts(hop)

    def out_of(self, token: Address) -> Mapping[Address, Sequence[Hop]]:
        """Return the pools that buy a token, by what they give."""
        edges = self._edges.get(token)
        if edges is None:
            edges = self._edges[token] = {}
            for venue in self._venues.values():
                for hop in venue.hops(token):
                    if hop.least:
                        # An offer has no price for other amounts: it competes with whole sales.
                        continue
                    edges.setdefault(hop.token_out, []).append(hop)
        return edges


class _Search:
    """One search: every path of tokens, each leg tried with what the leg before brought."""

    def __init__(
        self,
        router: Router,
        sales: Sales,
        bought: Address,
        allowed: frozenset[str] | None,
        shut: frozenset[Address],
    ) -> None:
        self._router = router
        self._sales = sales
        self._bought = bought
        self._allowed = allowed
        self._shut = shut
        self.found: list[Ranked] = []

    def walk(
        self, token: Address, amount: int, hops: int, behind: Route, seen: frozenset[Address]
    ) -> None:
        seen |= {token}
        for following, leg in self._router.out_of(token).items():
            if following == self._bought:
                pools = self._ranked(leg, amount)
                # Alone a pool is a route; behind others only the best one is looked at.
                for out, hop in pools if not behind else pools[:1]:
                    self.found.append(Ranked(out, (*behind, hop)))
            elif hops > 1 and following not in seen and self._router.is_hub(following):
                for out, hop in self._ranked(leg, amount)[:1]:
                    self.walk(following, out, hops - 1, (*behind, hop), seen)

    def _ranked(self, leg: Sequence[Hop], amount: int) -> list[tuple[int, Hop]]:
        """Return the leg's pools that can fill an amount, best first."""
        found = []
        for hop in leg:
            if self._allowed is not None and hop.venue not in self._allowed:
                continue
            if hop.pool in self._shut:
                continue
            out = self._sales.quote((hop,), amount)
            if out and self._router.trusts(hop):
                found.append((out, hop))
        found.sort(key=lambda pair: -pair[0])
        return found
