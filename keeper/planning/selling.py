"""All sales of one head: one outlet a lane, each standing behind what the others sell."""

from collections.abc import Callable, Iterable, Mapping

from keeper.planning.offers import Lane, Offer
from keeper.planning.outlets import Outlet
from keeper.planning.routing import Ranked, Route, Router, Sales
from keeper.ports import Venue
from keeper.units import Address


class Selling:
    """Keeps every outlet's curves true to what is sold elsewhere."""

    def __init__(
        self,
        venues: Mapping[str, Venue],
        sales: Sales,
        router: Router,
        offers: Iterable[Offer],
        per_gas: Callable[[Offer], float],
    ) -> None:
        self._venues = venues
        self._sales = sales
        self._router = router
        self._outlets: dict[Lane, Outlet] = {}
        self._offered: dict[Lane, int] = {}
        largest: dict[Lane, Offer] = {}
        for offer in offers:
            received = offer.seizure.received
            self._offered[offer.lane] = self._offered.get(offer.lane, 0) + received
            held = largest.get(offer.lane)
            if held is None or held.seizure.received < offer.seizure.received:
                largest[offer.lane] = offer
        for lane, offer in largest.items():
            self._outlets[lane] = Outlet(
                self._rank(lane), self._stand, offer.seizure.received, per_gas(offer)
            )

    def __contains__(self, lane: Lane) -> bool:
        """Tell whether a lane has an outlet."""
        return lane in self._outlets

    def __getitem__(self, lane: Lane) -> Outlet:
        """Return a lane's outlet."""
        return self._outlets[lane]

    def best_pools(self) -> frozenset[Address]:
        """Return the pools on the best route of every lane."""
        return frozenset(
            hop.pool for each in self._outlets.values() if each.is_open for hop in each.first
        )

    def pools(self) -> frozenset[Address]:
        """Return the pools on every route that would share in the sale of all that is offered."""
        parts = (
            outlet.deal(self._offered[lane]).parts
            for lane, outlet in self._outlets.items()
            if outlet.is_open
        )
        found = {hop.pool for each in parts for route, _ in each for hop in route}
        return self.best_pools() | found

    def placed_pools(self) -> frozenset[Address]:
        """Return the pools that are sold through."""
        placed = (route for each in self._outlets.values() for route, _ in each.placed)
        return frozenset(hop.pool for route in placed for hop in route)

    def shut(self, pools: frozenset[Address]) -> None:
        """Leave out what goes through pools that lend."""
        for outlet in self._outlets.values():
            outlet.shut(pools)

    def sell(self, lane: Lane, amount: int) -> None:
        """Add an amount to a lane's sale, or take it back."""
        outlet = self._outlets[lane]
        moved = outlet.sell(outlet.total + amount)
        for other in self._outlets.values():
            if other is not outlet:
                other.touch(moved)

    def balance(self) -> None:
        """Divide every sale anew behind the others as they stand now; two rounds settle it."""
        for _ in range(2):
            for outlet in self._outlets.values():
                moved = outlet.balance()
                for other in self._outlets.values():
                    if moved and other is not outlet:
                        other.touch(moved)

    def place(self, totals: Mapping[Lane, int]) -> None:
        """Sell so much of each lane and nothing else."""
        for lane in self._outlets:
            self.sell(lane, totals.get(lane, 0) - self._outlets[lane].total)

    def _rank(self, lane: Lane) -> Callable[[int, frozenset[Address]], list[Ranked]]:
        sold, bought, venues = lane

        def rank(amount: int, shut: frozenset[Address]) -> list[Ranked]:
            return self._router.rank(self._sales, sold, bought, amount, venues, shut)

        return rank

    def _stand(self, outlet: Outlet, route: Route) -> Sales:
        """Return trial sales behind those of all other outlets that touch a route's pools."""
        pools = {hop.pool for hop in route}
        before = [
            each
            for each in self._outlets.values()
            if each is not outlet
            and any(hop.pool in pools for sold, _ in each.placed for hop in sold)
        ]
        if not before:
            return self._sales
        sales = Sales(self._venues)
        for each in before:
            for sold, part in each.placed:
                sales.apply(sold, part)
        return sales
