"""From chosen opportunities to quotes: best pair, best size, one after another on shared pools."""

import math
from collections.abc import Mapping, Sequence

from keeper.planning.costs import Rates
from keeper.planning.explain import explain_loss
from keeper.planning.funding import choose_source, funding_pools
from keeper.planning.gas import item_gas
from keeper.planning.grouping import cover_up, cover_up_repay, price_quote
from keeper.planning.liquidity import Liquidity
from keeper.planning.offers import Lanes, Offer, demands, find_offers, refuse
from keeper.planning.routing import Route, Router, Sales
from keeper.planning.rules import Choice, PlanRules
from keeper.planning.sizing import Size, best_size, price_size
from keeper.ports import LendingProtocol, Venue
from keeper.types import FlashSource, Portion, Quote, Reason, Skip, Step, View
from keeper.units import Address, Usd


class Sizing:
    """One view's sizing: each position on the state that those of higher value left."""

    def __init__(
        self,
        rules: PlanRules,
        venues: Mapping[str, Venue],
        markets: Mapping[str, LendingProtocol],
        view: View,
    ) -> None:
        self._rules = rules
        self._venues = venues
        self._markets = markets
        self._rates = Rates(view)
        self._gas_price = view.next_block.base_fee + rules.priority_fee
        self._sales = Sales(venues)
        self._sources: dict[Address, FlashSource] = {}
        self.quotes: list[Quote] = []
        self.skips: list[Skip] = []

    def run(self, choices: Sequence[Choice]) -> None:
        """Fill `quotes`, marginal costs only, and `skips`."""
        offers = [offer for choice in choices for offer in self._offers(choice)]
        self._lanes = Lanes(self._router(), self._sales, offers)
        self._choose_sources(offers)
        self._liquidity = Liquidity(self._markets, offers, self._sources)
        claims: dict[tuple[str, Address], dict[int, list[Offer]]] = {}
        values: dict[tuple[str, Address], float] = {}
        for offer in offers:
            key = offer.choice.opportunity.key
            claims.setdefault(key, {}).setdefault(id(offer.choice), []).append(offer)
            values[key] = max(values.get(key, -math.inf), self._bound(offer))
        for key in sorted(claims, key=lambda key: -values[key]):
            self._settle(list(claims[key].values()))

    def _offers(self, choice: Choice) -> list[Offer]:
        found = find_offers(choice, self._rates, self._rules)
        if isinstance(found, Skip):
            self.skips.append(found)
            return []
        return found

    def _router(self, excluded: frozenset[Address] = frozenset()) -> Router:
        return Router(self._venues, self._rules.max_hops, self._rules.hubs, excluded)

    def _choose_sources(self, offers: Sequence[Offer]) -> None:
        used = self._lanes.pools()
        markets = {offer.choice.opportunity.position.market for offer in offers}
        for token, wanted in demands(offers).items():
            sources = [
                *(s for name in sorted(markets) for s in self._markets[name].flash_sources(token)),
                *(s for venue in self._venues.values() for s in venue.flash_sources(token)),
            ]
            source = choose_source(sources, wanted, used)
            if source is not None:
                self._sources[token] = source
                # A pool lends once at a time, whichever token is asked for.
                used |= funding_pools([source])
        lending = funding_pools(self._sources.values())
        if lending:
            self._lanes.close(lending, self._router(lending))

    def _bound(self, offer: Offer) -> float:
        """Return at least the dollars a pair can earn before costs, from its lane's best price."""
        if not self._lanes.is_open(offer.lane):
            return -math.inf
        best = self._lanes.spot(offer.lane) * offer.seizure.received
        return float(offer.rate.usd_down(int(best - offer.seizure.repaid)))

    def _settle(self, claims: Sequence[Sequence[Offer]]) -> None:
        """Quote one position for every strategy that wants it; the best is sold, the others lose."""
        found = [(offers[0].choice, self._quote(offers)) for offers in claims]
        quotes = [result for _, result in found if isinstance(result, Quote)]
        self.skips.extend(result for _, result in found if isinstance(result, Skip))
        if not quotes:
            return
        best = max(quotes, key=lambda quote: quote.net_usd)
        self._sales.apply_split(best.routes, best.steps[0].seizure.received)
        self._lanes.sold(best.hops)
        self._liquidity.take(best)
        self.quotes.append(best)
        name = best.opportunity.strategy
        self.skips.extend(
            refuse(choice, Reason.OUTBID, f"{name} nets more")
            for choice, result in found
            if isinstance(result, Quote) and result is not best
        )

    def _quote(self, offers: Sequence[Offer]) -> Quote | Skip:
        choice = offers[0].choice
        drawn = [found for offer in offers if (found := self._liquidity.within(offer))]
        if not drawn:
            symbol = offers[0].terms.collateral.symbol
            return refuse(choice, Reason.NO_LIQUIDITY, f"others of this head take all {symbol}")
        bounded = sorted(
            ((self._bound(offer), offer) for offer in drawn), key=lambda pair: -pair[0]
        )
        best: Quote | None = None
        reason, detail = Reason.NO_ROUTE, "no pool connects collateral and debt"
        for bound, offer in bounded:
            # Gross leaves the premium out of account, and debts differ in that: compare with net.
            if best is not None and bound <= best.net_usd:
                break
            if not self._lanes.is_open(offer.lane):
                continue
            source = self._sources.get(offer.terms.debt.address)
            if source is None:
                reason, detail = Reason.CAPITAL, f"nobody lends {offer.terms.debt.symbol}"
                continue
            lent = self._liquidity.lends_down(offer)
            available = source.available if lent is None else min(source.available, lent)
            size, route = self._size(
                offer, source, available, hopeless=bound < choice.limits.minimum_profit
            )
            if size is None:
                reason = Reason.CAPITAL
                detail = f"{available} {offer.terms.debt.symbol} can be borrowed"
                continue
            quote = self._draft(offer, source, size, route)
            if best is None or quote.net_usd > best.net_usd:
                best = quote
        if best is None:
            return refuse(choice, reason, detail)
        if best.net < best.minimum_profit:
            return refuse(choice, Reason.UNPROFITABLE, explain_loss(best, self._rates.of(best)))
        return best

    def _size(
        self, offer: Offer, source: FlashSource, available: int, *, hopeless: bool
    ) -> tuple[Size | None, Route]:
        largest = offer.largest
        is_whole = offer.whole
        if cover_up_repay(offer.terms, largest) > available:
            largest = available - available // 50_000
        if is_whole and largest < offer.terms.maximum:
            return None, self._lanes.first(offer.lane)
        if is_whole and not hopeless:
            route = self._lanes.best(offer.lane, offer.seizure.received).route
            return self._priced(offer, largest, source, route), route
        if hopeless:
            # No size pays: the figures of the largest say why, without a search.
            route = self._lanes.first(offer.lane)
            legal = offer.terms.legal_down(largest)
            if legal <= 0:
                return None, route
            return self._priced(offer, legal, source, route), route
        first = self._lanes.best(offer.lane, offer.seizure.received)
        size = self._size_on(offer, largest, source, first.route)
        if size is None or size.seizure.received == offer.seizure.received:
            return size, first.route
        # A smaller sale may do better elsewhere than the largest one would.
        second = self._lanes.best(offer.lane, size.seizure.received)
        if second.route == first.route or second.out <= size.proceeds:
            return size, first.route
        other = self._size_on(offer, largest, source, second.route)
        if other is not None and other.profit > size.profit:
            return other, second.route
        return size, first.route

    def _priced(self, offer: Offer, repay: int, source: FlashSource, route: Route) -> Size:
        return price_size(
            offer.terms, repay, lambda amount: self._sales.quote(route, amount), source.fee_ppm
        )

    def _size_on(
        self, offer: Offer, largest: int, source: FlashSource, route: Route
    ) -> Size | None:
        def sell(amount: int) -> int:
            return self._sales.quote(route, amount)

        return best_size(offer.terms, largest, sell, source.fee_ppm, self._lanes.turns(route))

    def _draft(self, offer: Offer, source: FlashSource, size: Size, route: Route) -> Quote:
        step = Step(offer.terms, size.repay, size.seizure)
        opportunity = offer.choice.opportunity
        quote = Quote(
            opportunity=opportunity,
            steps=(step,),
            routes=(Portion(route),) if route else (),
            flash=source,
            debt=offer.terms.debt,
            gas=0,
            proceeds=size.proceeds,
            repaid=size.seizure.repaid,
            premium=source.premium_up(cover_up(step)),
            gas_cost=0,
            net=0,
            net_usd=Usd(0),
            minimum_profit=max(offer.rate.from_usd_up(offer.choice.limits.minimum_profit), 1),
            gross_usd=Usd(0),
        )
        gas = item_gas(opportunity.position, step)
        return price_quote(quote, size.proceeds, gas, self._rates, self._gas_price)
