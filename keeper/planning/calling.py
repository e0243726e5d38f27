"""Several calls on one position: tried behind each other, on the sales and loans of a head."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from keeper.planning.appraising import Appraisal, Costs
from keeper.planning.grouping import cover_up_repay
from keeper.planning.loans import Loans
from keeper.planning.offers import Offer, find_offers
from keeper.planning.outlets import Behind
from keeper.planning.rules import Choice, PlanRules
from keeper.planning.selling import Selling
from keeper.planning.sequels import Call, PairRules, Trial, linked, pair_of
from keeper.planning.sequencing import Move, best_sequence
from keeper.planning.sizing import price_size
from keeper.ports import LendingProtocol
from keeper.types import Portion, Position, Quote, Skip, View
from keeper.units import Usd

_SEARCHES = 12
"""Choices of one head that sequences are looked for, those that return most first: a search is dear."""
_SIZINGS = 800
"""Sizes sought on one head after which no other search begins: each takes up to a millisecond."""


class Calling:
    """The desk at which calls are tried (`sequels.Desk`), and what was found there before."""

    def __init__(
        self,
        rules: PlanRules,
        markets: Mapping[str, LendingProtocol],
        view: View,
        costs: Costs,
        selling: Selling,
        loans: Loans,
        appraisal: Appraisal,
    ) -> None:
        self._rules = rules
        self._markets = markets
        self._view = view
        self._costs = costs
        self._selling = selling
        self._loans = loans
        self._appraisal = appraisal
        self._standing: tuple[Call, ...] = ()
        self._moves: dict[int, tuple[Move, ...]] = {}
        self._sizings = 0

    def sequence(self, offers: Sequence[Offer]) -> tuple[Call, ...]:
        """Return the calls on one position that together net most, if each of them pays.

        They are looked for once; tried again behind other positions they are only priced anew.
        """
        choice = offers[0].choice
        spent = len(self._moves) >= _SEARCHES or self._sizings >= _SIZINGS
        if spent and id(choice) not in self._moves:
            return ()
        position = choice.opportunity.position
        rules = PairRules(
            self._markets[position.home],
            self._view.prices[position.home],
            self._view.next_block,
            frozenset(pair_of(offer.terms) for offer in offers),
        )

        def allowed(end: Position) -> bool:
            healthier = end.health >= position.health or not end.debt or not end.collateral
            return self._rules.toxic_parts or healthier

        trial = Trial(self, choice)
        try:
            moves = self._moves.get(id(choice))
            if moves is None:
                moves = best_sequence(position, rules, trial, choice.limits.calls, allowed)
                self._moves[id(choice)] = moves
            calls = linked(trial, moves)
        finally:
            self.stand(())
        if any(call.quote.net < call.quote.minimum_profit for call in calls):
            return ()
        return calls

    def stand(self, calls: Sequence[Call]) -> None:
        """Sell what these calls sell, instead of those told before."""
        kept = 0
        for held, wanted in zip(self._standing, calls, strict=False):
            if held is not wanted:
                break
            kept += 1
        for call in reversed(self._standing[kept:]):
            self._selling.sell(call.offer.lane, -call.quote.steps[0].seizure.received)
            self._loans.liquidity.give(call.quote)
        for call in calls[kept:]:
            self._selling.sell(call.offer.lane, call.quote.steps[0].seizure.received)
            self._loans.liquidity.take(call.quote)
        self._standing = tuple(calls)

    def offer(self, choice: Choice) -> Offer | None:
        """Return the one pair of a choice as far as limits, reserves and loans allow it."""
        found = find_offers(choice, self._costs.rates, self._rules)
        if isinstance(found, Skip):
            return None
        offer = self._loans.liquidity.within(found[0])
        if offer is None or offer.lane not in self._selling:
            return None
        source = self._loans.source(offer)
        if source is None or not self._selling[offer.lane].is_open:
            return None
        available = self._loans.available(offer, source, self._standing)
        if cover_up_repay(offer.terms, offer.largest) <= available:
            return offer
        largest = offer.terms.legal_down(max(available - available // 50_000, 0))
        if largest <= 0 or offer.whole:
            return None
        return replace(offer, largest=largest, seizure=offer.terms.seize(largest))

    def bound(self, offer: Offer) -> int:
        """Return at least the dollars an offer can earn before costs."""
        bound = self._appraisal.bound(offer)
        return math.ceil(bound) if math.isfinite(bound) else 0

    def best(self, offer: Offer) -> int:
        """Return the repay that earns most, 0 for none."""
        self._sizings += 1
        source = self._loans.source(offer)
        assert source is not None
        available = self._loans.available(offer, source, self._standing)
        size = self._appraisal.size(offer, source, available, hopeless=False)
        return 0 if size is None else size.repay

    def draft(self, offer: Offer, repay: int) -> Quote:
        """Return a legal repay's quote, marginal costs only."""
        outlet = self._selling[offer.lane]
        source = self._loans.source(offer)
        assert source is not None
        proceeds = Behind(outlet, outlet.total)
        size = price_size(offer.terms, repay, proceeds, source.fee_ppm)
        route = (Portion(outlet.first),) if outlet.first else ()
        return replace(self._appraisal.draft(offer, source, size), routes=route)

    def dollars(self, offer: Offer, gas: int) -> Usd:
        """Return what gas costs."""
        return self._costs.dollars(offer, gas)
