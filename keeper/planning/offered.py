"""Offers made for one amount compete with the routes of a sale as it is planned.

Sizes are chosen on the pools alone: what an offer brings for other amounts nobody knows. A sale that
has an offer makes its call first and sells the rest along its routes; only where one call is all that
sells there, since others would share in what was asked for another size. What the pools alone bring
stays with the quote, for the case that the offer does not hold.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from keeper.planning.appraising import Appraisal, Costs
from keeper.planning.gas import COLD_POOL, SWAP, extra_gas
from keeper.planning.offers import Offer
from keeper.planning.outlets import Outlet
from keeper.planning.routing import Routes, Sales
from keeper.ports import Venue
from keeper.types import Hop, Portion, Quote
from keeper.units import WAD, Address, mul_div_up

_SMALLEST_REST = 1_000_000
"""What is less than a millionth of a sale is left over: a share of it would not be exact."""
_REST_KEPT = 16
"""A rest may shrink to a sixteenth before the share of the call beside it covers the call no more."""


class Offered:
    """The offers of a head, each against the sale that it could be a part of."""

    def __init__(
        self,
        venues: Mapping[str, Venue],
        sales: Sales,
        costs: Costs,
        appraisal: Appraisal,
        trusts: Callable[[Hop], bool],
    ) -> None:
        self._venues = {
            name: (venue, want)
            for name, venue in venues.items()
            if (want := getattr(venue, "want", None)) is not None
        }
        self._sales = sales
        self._costs = costs
        self._appraisal = appraisal
        self._trusts = trusts

    def compete(self, offer: Offer, quote: Quote, outlet: Outlet, taken: set[Address]) -> Quote:
        """Return a quote that has its sale, with the offer in it that brings most more, if any does.

        It is all that its outlet sells. An offer for it is wanted at the heads that follow. The one
        used joins those `taken`, which are no other sale's: two outlets of a pair may have room for it.
        """
        if not self._venues or not quote.routes:
            return quote
        best = outlet.deal(outlet.total).net
        found: Routes | None = None
        for hop in self._hops(offer, outlet.total):
            if hop.pool in taken:
                continue
            brought = self._sales.quote((hop,), hop.least)
            gas = SWAP + COLD_POOL + extra_gas((hop,))
            rest = outlet.total - hop.least
            alone = brought - int((gas - outlet.least_gas) * self._costs.per_gas(offer))
            beside = outlet.deal(rest).net + brought - int(gas * self._costs.per_gas(offer))
            if brought and alone > best:
                best, found = alone, (Portion((hop,)),)
            if brought and rest * _SMALLEST_REST >= outlet.total and beside > best:
                best, found = beside, (*_first(hop, outlet, rest),)
        if found is None:
            return quote
        taken.add(found[0].route[0].pool)
        sold = replace(quote, routes=found, fallback=quote.routes)
        return self._appraisal.priced(sold, best, quote.gas)

    def _hops(self, offer: Offer, amount: int) -> Iterator[Hop]:
        """Yield the offers for a pair that take no more than an amount, and ask for others."""
        sold, bought, allowed = offer.lane
        for name, (venue, want) in self._venues.items():
            if allowed is not None and name not in allowed:
                continue
            want(sold, bought, amount)
            for hop in venue.hops(sold):
                if hop.token_out == bought and 0 < hop.least <= amount and self._trusts(hop):
                    yield hop


def _first(hop: Hop, outlet: Outlet, rest: int) -> Iterator[Portion]:
    """Yield the portions of a sale that makes an offer's call, and sells the rest behind it.

    The call takes exactly its amount, and fails where less is seized than planned if its share was as
    exact. So the share covers it down to a part of the rest, which sells whatever the call leaves.
    """
    share = mul_div_up(hop.least, WAD, hop.least + max(rest // _REST_KEPT, 1))
    yield Portion((hop,), share)
    left = WAD - share
    portions = outlet.sale(rest)
    shares = [portion.share * left // WAD for portion in portions]
    for portion, part in zip(portions, shares, strict=True):
        yield replace(portion, share=part + (left - sum(shares)) * (portion is portions[-1]))
