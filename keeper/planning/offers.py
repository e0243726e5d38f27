"""What could be sold for each chosen pair: the largest legal repay, its rate and its routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from keeper.planning.costs import Rate, Rates
from keeper.planning.gas import FEE_ROUNDING
from keeper.planning.routing import KEPT, Ranked, Route, Router, Sales
from keeper.planning.rules import Choice, PlanRules
from keeper.ports import Terms
from keeper.types import Position, Reason, Seizure, Skip
from keeper.units import Address

Lane = tuple[Address, Address, frozenset[str] | None]
"""Collateral, debt and the venues allowed: what decides a ranking of routes."""

_HALVINGS = 20
_PROBE = 12
_MARGIN = 1.0005
"""How far the price of a lane's probe may lie under that of its first unit."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One pair of one choice with its largest legal repay and what that seizes.

    `whole` says that nothing less than the protocol's maximum will do.
    """

    choice: Choice
    terms: Terms
    rate: Rate
    largest: int
    seizure: Seizure
    whole: bool = False

    @property
    def pot(self) -> tuple[str, Address]:
        """Return the market and token whose reserve the collateral is withdrawn from."""
        return self.choice.opportunity.position.market, self.terms.collateral.address

    @property
    def lane(self) -> Lane:
        """Return the key of its routes."""
        venues = self.choice.limits.venues
        return self.terms.collateral.address, self.terms.debt.address, venues


def refuse(choice: Choice, reason: Reason, detail: str) -> Skip:
    """Return a skip of a choice, in its strategy's name."""
    opportunity = choice.opportunity
    position = opportunity.position
    return Skip(
        position.market,
        position.protocol,
        position.borrower,
        reason,
        detail,
        opportunity.strategy,
    )


def find_offers(choice: Choice, rates: Rates, rules: PlanRules) -> list[Offer] | Skip:
    """Return the pairs of a choice that may be touched, priced and repaid, or why there is none.

    The operator's `rules` bound the repay beside the strategy's own limit. Where taking a part would
    leave the position less healthy, only what ends it is offered, unless they say otherwise.
    """
    offers, unpriced, denied, toxic = [], 0, "", ""
    position = choice.opportunity.position
    protocol = position.protocol
    for terms in choice.opportunity.pairs:
        if why := rules.excluded(protocol, terms.collateral, terms.debt):
            denied = why
            continue
        rate = rates.find(position.market, terms.debt)
        if rate is None:
            unpriced += 1
            continue
        most = terms.maximum
        for bound in (choice.limits.largest_repay, rules.largest_repay):
            if bound is not None:
                most = min(most, rate.from_usd_down(bound))
        largest = terms.legal_down(most)
        if choice.limits.whole and largest < terms.maximum:
            continue
        if largest <= 0:
            continue
        seizure = terms.seize(largest)
        whole = choice.limits.whole
        if not rules.toxic_parts and position.worsens(terms.collateral):
            if largest < terms.maximum or not ends(position, terms, seizure):
                toxic = terms.collateral.symbol
                continue
            whole = True
        offers.append(Offer(choice, terms, rate, largest, seizure, whole))
    if offers:
        return offers
    if toxic and not unpriced:
        detail = f"a part against {toxic} would leave it less healthy, and no call takes all"
        return refuse(choice, Reason.TOXIC, detail)
    if denied and not unpriced:
        return refuse(choice, Reason.DENIED, denied)
    if unpriced:
        return refuse(choice, Reason.NO_PRICE, "the debt token or the native coin has no price")
    return refuse(choice, Reason.DUST, "no repay within the limits is legal")


def ends(position: Position, terms: Terms, seizure: Seizure) -> bool:
    """Tell whether a call takes the last collateral, or repays the last debt."""
    taken = seizure.received + seizure.protocol_fee + FEE_ROUNDING
    return not any(
        leg.amount > taken * (leg.token == terms.collateral) for leg in position.collateral
    ) or not any(leg.amount > seizure.repaid * (leg.token == terms.debt) for leg in position.debt)


class Lanes:
    """Rankings of routes by lane; the best few are compared, the rest asked when those fall back."""

    def __init__(self, router: Router, sales: Sales, offers: Iterable[Offer]) -> None:
        self._router = router
        self._sales = sales
        self._spots: dict[Route, float] = {}
        self._best_spots: dict[Lane, float] = {}
        self._ranked: dict[Lane, list[Ranked]] = {}
        self._amounts: dict[Lane, int] = {}
        largest: dict[Lane, int] = {}
        for offer in offers:
            largest[offer.lane] = max(largest.get(offer.lane, 0), offer.seizure.received)
        for lane, amount in largest.items():
            self._rank(lane, amount)
        self._turns: dict[Route, dict[str, int]] = {}

    def pools(self) -> frozenset[Address]:
        """Return the pools on the best route of every lane."""
        return frozenset(
            hop.pool for ranked in self._ranked.values() if ranked for hop in ranked[0].route
        )

    def is_open(self, lane: Lane) -> bool:
        """Say whether any route connects a lane."""
        return bool(self._ranked[lane])

    def spot(self, lane: Lane) -> float:
        """Return at least what one unit of collateral can bring now."""
        known = self._best_spots.get(lane)
        if known is None:
            known = max(self._spot(lane, entry.route) for entry in self._ranked[lane][:KEPT])
            self._best_spots[lane] = known
        return known

    def _spot(self, lane: Lane, route: Route) -> float:
        known = self._spots.get(route)
        if known is None:
            amount = max(self._amounts[lane] >> _PROBE, 1)
            # A sale rounds down, by most of its worth where the token bought is coarse.
            out = (self._sales.quote(route, amount) + 1) / amount
            known = self._spots[route] = out * _MARGIN
        return known

    def sold(self, route: Route) -> None:
        """Forget what a sale along a route has changed.

        A price only falls by selling the same way, so as a bound it stands.
        """
        moved = {hop.pool: hop.token_out for hop in route}
        for known in [*self._turns]:
            if any(hop.pool in moved for hop in known):
                del self._turns[known]
        for known in [*self._spots]:
            if any(moved.get(hop.pool) == hop.token_in for hop in known):
                del self._spots[known]
                self._best_spots = {}

    def turns(self, route: Route) -> dict[str, int]:
        """Return the break-even amounts found on a route since a sale last touched it."""
        return self._turns.setdefault(route, {})

    def close(self, pools: frozenset[Address], router: Router) -> None:
        """Leave out routes through pools that lend, and rank again where none is left."""
        self._router = router
        self._best_spots = {}
        for lane, ranked in self._ranked.items():
            free = [entry for entry in ranked if all(hop.pool not in pools for hop in entry.route)]
            self._ranked[lane] = free
            if ranked and not free:
                self._rank(lane, self._amounts[lane])

    def first(self, lane: Lane) -> Route:
        """Return the route that was best when last ranked."""
        return self._ranked[lane][0].route

    def best(self, lane: Lane, amount: int) -> Ranked:
        """Return the best route for an amount now; its output is 0 when nothing can fill it."""
        found = self._compare(lane, amount)
        ranked = self._ranked[lane]
        if len(ranked) > KEPT and found.out * self._amounts[lane] < ranked[KEPT].out * amount:
            self._rank(lane, amount)
            found = self._compare(lane, amount)
        return found

    def _compare(self, lane: Lane, amount: int) -> Ranked:
        first = self._ranked[lane][0].route
        best = Ranked(self._sales.quote(first, amount), first)
        for _, route in self._ranked[lane][1:KEPT]:
            if self._spot(lane, route) * amount > best.out:
                out = self._sales.quote(route, amount)
                best = max(best, Ranked(out, route), key=lambda quote: quote.out)
        return best

    def _rank(self, lane: Lane, amount: int) -> None:
        sold, bought, venues = lane
        for _ in range(_HALVINGS):
            ranked = self._router.rank(self._sales, sold, bought, amount, venues)
            if ranked:
                self._ranked[lane], self._amounts[lane] = ranked, amount
                self._spots = {}
                self._best_spots = {}
                return
            if amount <= 1:
                break
            amount //= 2
        self._ranked.setdefault(lane, [])
        self._amounts.setdefault(lane, 1)


def demands(offers: Iterable[Offer]) -> Mapping[Address, int]:
    """Return the most each debt token could be asked for, one offer for each choice."""
    most: dict[tuple[int, Address], int] = {}
    for offer in offers:
        key = (id(offer.choice), offer.terms.debt.address)
        most[key] = max(most.get(key, 0), offer.largest)
    totals: dict[Address, int] = {}
    for (_, token), amount in most.items():
        totals[token] = totals.get(token, 0) + amount
    return totals
