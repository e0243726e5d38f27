"""From chosen opportunities to quotes: the pairs and sizes that together earn most."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from keeper.planning.appraising import Appraisal, Costs
from keeper.planning.calling import Calling
from keeper.planning.claiming import Claiming
from keeper.planning.costs import Rates
from keeper.planning.crowd import Wanted, bear
from keeper.planning.grouping import PositionKey
from keeper.planning.improving import improve
from keeper.planning.loans import Loans
from keeper.planning.offered import Offered
from keeper.planning.offers import Lane, Offer, find_offers, refuse
from keeper.planning.routing import Router, Sales
from keeper.planning.rules import Choice, PlanRules
from keeper.planning.selling import Selling
from keeper.planning.sequels import Call
from keeper.planning.taken import Taken, best_of, calls_of, every_call
from keeper.planning.trust import Trust
from keeper.planning.worth import worth
from keeper.ports import LendingProtocol, Venue
from keeper.quick import remade
from keeper.types import Portion, Quote, Reason, Skip, View
from keeper.units import Address, Usd


class Sizing:
    """One view's sizing: who is liquidated, over which pair and how much, all sharing the pools.

    Positions are taken by what they return on their repay, each sized on what is sold already; then
    those where the pools got tight are tried again behind all others (`improve`).
    """

    def __init__(
        self,
        rules: PlanRules,
        venues: Mapping[str, Venue],
        markets: Mapping[str, LendingProtocol],
        view: View,
        choices: Sequence[Choice],
    ) -> None:
        self._refused: list[Skip] = []
        self._settled: dict[PositionKey, list[Taken]] = {}
        rates = Rates(view)
        costs = Costs(rates, view.next_block.base_fee + rules.priority_fee)
        sales = Sales(venues)
        offers = self._offers(choices, rates, rules)
        tokens = {each for offer in offers for each in (offer.terms.collateral, offer.terms.debt)}
        trust = Trust(view, sales, rules.deviation, rules.least_depth, tokens, rules.sells)
        router = Router(venues, rules.max_hops, rules.hubs, trust)
        selling = Selling(venues, sales, router, offers, costs.per_gas)
        loans = Loans(rules, venues, markets, view, offers, selling, costs.per_gas)
        appraisal = Appraisal(costs, selling)
        calling = Calling(rules, markets, view, costs, selling, loans, appraisal)
        self._venues = venues
        self._costs = costs
        self._sales = sales
        self._selling = selling
        self._loans = loans
        self._appraisal = appraisal
        self._claiming = Claiming(costs, trust, selling, loans, appraisal, calling)
        self._offered = Offered(venues, sales, costs, appraisal, trust)
        self._claims, self._order = self._claimed(offers)

    def run(self) -> None:
        """Decide; `quotes` and `skips` tell what."""
        self._take_crowd()
        for key in self._order:
            if key not in self._settled:
                self.settle(key)
        improve(self, self._order)
        self._selling.balance()
        self._loans.move(list(every_call(self._settled)), self._selling.placed_pools())

    @property
    def quotes(self) -> list[Quote]:
        """Return the quotes, marginal costs only, in the order they were taken."""
        plain: list[Quote] = []
        offers: list[Quote] = []
        sales: dict[Lane, tuple[Portion, ...]] = {}
        offered: set[Address] = set()
        sellers = Counter(call.offer.lane for call in every_call(self._settled))
        for taken in self._settled.values():
            calls = calls_of(taken)
            for call in calls if self._fills(calls) else ():
                lane = call.offer.lane
                if lane not in sales:
                    sales[lane] = self._selling[lane].sale()
                sold = remade(call.quote, routes=sales[lane])
                plain.append(sold)
                if sellers[lane] == 1:
                    outlet = self._selling[lane]
                    sold = self._offered.compete(call.offer, sold, outlet, offered)
                offers.append(sold)
        return self._loans.best(plain, offers, self._costs)

    @property
    def skips(self) -> list[Skip]:
        """Return why the others were not taken."""
        found = list(self._refused)
        for taken in self._settled.values():
            best = best_of(taken)
            for each in taken:
                if isinstance(each.result, Skip):
                    found.append(each.result)
                elif not self._fills(each.calls):
                    symbol = each.offer.terms.collateral.symbol
                    why = f"the pools cannot take all {symbol} of a head"
                    found.append(refuse(each.offer.choice, Reason.NO_LIQUIDITY, why))
                elif best is not None and each is not best:
                    name = best.offer.choice.opportunity.strategy
                    found.append(refuse(each.offer.choice, Reason.OUTBID, f"{name} nets more"))
        return found

    def settle(self, key: PositionKey) -> None:
        """Quote a position for every strategy that wants it; what nets most is sold."""
        self._take(key, [self._claiming.quote(offers) for offers in self._claims[key]])

    def release(self, key: PositionKey) -> None:
        """Take a position back out of all sales."""
        for call in calls_of(self._settled.pop(key, [])):
            self._selling.sell(call.offer.lane, -call.quote.steps[0].seizure.received)
            self._loans.liquidity.give(call.quote)

    def keep(self) -> Mapping[PositionKey, list[Taken]]:
        """Return what is taken, to be restored."""
        return dict(self._settled)

    def restore(self, state: Mapping[PositionKey, list[Taken]]) -> None:
        """Take again what was taken when it was kept, and nothing else."""
        for key in [key for key, taken in self._settled.items() if state.get(key) is not taken]:
            self.release(key)
        for key, taken in state.items():
            if key not in self._settled:
                self._take(key, taken)

    def is_tight(self, key: PositionKey) -> bool:
        """Say whether a position would be taken otherwise if others were not: smaller, or not at all."""
        taken = self._settled[key]
        best = best_of(taken)
        if best is not None:
            assert isinstance(best.result, Quote)
            return best.result.steps[0].repay < best.offer.largest
        return any(
            isinstance(each.result, Skip)
            and each.result.reason in {Reason.UNPROFITABLE, Reason.NO_LIQUIDITY}
            and self._appraisal.bound(each.offer) > 0
            for each in taken
        )

    def worth(self) -> Usd:
        """Return what all that is taken nets together, sold lane by lane, groups and loans paid."""
        calls = every_call(self._settled)
        return worth(calls, self._selling, self._costs, self._sales, lambda: Sales(self._venues))

    def _take(self, key: PositionKey, taken: list[Taken]) -> None:
        self._settled[key] = taken
        for call in calls_of(taken):
            self._selling.sell(call.offer.lane, call.quote.steps[0].seizure.received)
            self._loans.liquidity.take(call.quote)

    def _fills(self, calls: Sequence[Call]) -> bool:
        return all(self._selling[call.offer.lane].fills for call in calls)

    def _take_crowd(self) -> None:
        """Take whom the pools bear in full, all at once."""
        drafts: list[tuple[PositionKey, Offer, Quote]] = []
        wanted: list[Wanted] = []
        for key in self._order:
            found = self._claiming.whole(self._claims[key])
            if found is None:
                continue
            offer, quote = found
            received = offer.seizure.received
            least = quote.repaid + quote.premium + quote.gas_cost + quote.minimum_profit
            drafts.append((key, offer, quote))
            wanted.append(Wanted(offer.lane, received, least / received))
            self._loans.liquidity.take(quote)
        borne = bear(self._selling, wanted)
        for key, offer, quote in drafts[:borne]:
            outlet = self._selling[offer.lane]
            share = outlet.deal(outlet.total).net * offer.seizure.received // outlet.total
            self._settled[key] = [Taken(offer, self._appraisal.priced(quote, share, quote.gas))]
        for _, _, quote in drafts[borne:]:
            self._loans.liquidity.give(quote)
        for key, offer, quote in drafts[:borne]:
            brings = int(self._selling[offer.lane].price() * offer.seizure.received)
            net = offer.rate.usd_down(brings - quote.repaid - quote.premium)
            (offers,) = self._claims[key]
            others = (other for other in offers if other is not offer)
            if any(self._appraisal.bound(other) > net for other in others):
                self.release(key)
                self.settle(key)

    def _offers(self, choices: Sequence[Choice], rates: Rates, rules: PlanRules) -> list[Offer]:
        """Return what could be taken of every choice, and note why nothing can of some."""
        offers: list[Offer] = []
        for choice in choices:
            found = find_offers(choice, rates, rules)
            if isinstance(found, Skip):
                self._refused.append(found)
            else:
                offers += found
        return offers

    def _claimed(
        self, offers: Sequence[Offer]
    ) -> tuple[dict[PositionKey, list[list[Offer]]], list[PositionKey]]:
        """Return each position's offers by who wants it, and positions by what they return."""
        claims: dict[PositionKey, dict[int, list[Offer]]] = {}
        returns: dict[PositionKey, float] = {}
        for offer in offers:
            key = offer.choice.opportunity.key
            claims.setdefault(key, {}).setdefault(id(offer.choice), []).append(offer)
            returns[key] = max(returns.get(key, -math.inf), self._appraisal.returns(offer))
        found = {key: list(claims[key].values()) for key in claims}
        return found, sorted(claims, key=lambda key: -returns[key])
