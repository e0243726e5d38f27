"""What all that is taken of a head nets together."""

from collections.abc import Callable, Iterable

from keeper.planning.appraising import Costs
from keeper.planning.gas import FUND, extra_gas, group_gas
from keeper.planning.offers import Lane, Offer
from keeper.planning.routing import Sales
from keeper.planning.selling import Selling
from keeper.planning.sequels import Call
from keeper.types import FlashKind
from keeper.units import Address, Usd


def worth(
    calls: Iterable[Call],
    selling: Selling,
    costs: Costs,
    sales: Sales,
    begin: Callable[[], Sales],
) -> Usd:
    """Return what calls net, sold lane by lane behind each other, groups and loans paid.

    `sales` are trial sales nothing was sold in, `begin` makes others for lanes that may meet.
    """
    total = 0
    lanes: dict[Lane, Offer] = {}
    shared: dict[Lane, int] = {}
    loans: dict[Address, tuple[Offer, FlashKind]] = {}
    for call in calls:
        quote, offer = call.quote, call.offer
        lanes[offer.lane] = offer
        once = quote.steps[0].seizure.shared_gas
        shared[offer.lane] = max(shared.get(offer.lane, 0), once)
        if quote.flash.kind is not FlashKind.NONE:
            loans[quote.debt.address] = offer, quote.flash.kind
        total += offer.rate.usd_down(-quote.repaid - quote.premium - quote.gas_cost)
    if len(lanes) > 1:
        sales = begin()
    for lane, offer in lanes.items():
        parts = selling[lane].placed
        if len(lanes) > 1:
            brought = sum(sales.apply(route, part) for route, part in parts)
        else:
            brought = selling[lane].deal(selling[lane].total).out
        hops = [hop for route, _ in parts for hop in route]
        gas = group_gas(len(hops), extra_gas(hops) + shared[lane])
        total += offer.rate.usd_down(brought - int(gas * costs.per_gas(offer)))
    for offer, kind in loans.values():
        total -= offer.rate.usd_down(int(FUND[kind] * costs.per_gas(offer)))
    return Usd(total)
