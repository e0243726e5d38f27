"""From chosen opportunities to quotes: the pairs and sizes that together earn most."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from keeper.planning.costs import Rates
from keeper.planning.crowd import Wanted, bear
from keeper.planning.explain import explain_loss
from keeper.planning.funding import choose_source, funding_pools
from keeper.planning.gas import (
    FUND,
    count_reserves,
    extra_gas,
    group_gas,
    item_gas,
    liquidation_gas,
)
from keeper.planning.grouping import PositionKey, cover_up, cover_up_repay, price_quote
from keeper.planning.improving import improve
from keeper.planning.liquidity import Liquidity
from keeper.planning.offers import Lane, Offer, demands, find_offers, refuse, refuse_toxic
from keeper.planning.outlets import MARGIN, Behind
from keeper.planning.routing import Router, Sales
from keeper.planning.rules import Choice, PlanRules
from keeper.planning.selling import Selling
from keeper.planning.sequels import Call, PairRules, Trial, borrowed, linked, pair_of
from keeper.planning.sequencing import Move, best_sequence
from keeper.planning.sizing import Size, best_size, price_size
from keeper.planning.trust import Trust
from keeper.ports import LendingProtocol, Venue
from keeper.types import FlashKind, FlashSource, Portion, Position, Quote, Reason, Skip, Step, View
from keeper.units import ZERO_ADDRESS, Address, Usd

_GAS = 10**6
"""Gas to price one unit by: a wei of a coarse token is worth more."""
_SEARCHES = 12
"""Choices of one head that sequences are looked for, those that return most first: a search is dear."""


class _Taken(NamedTuple):
    """One claim on a position, with its quote or why it has none, and the calls behind that."""

    offer: Offer
    result: Quote | Skip
    more: tuple[Call, ...] = ()

    @property
    def calls(self) -> tuple[Call, ...]:
        """Return every call in order, none without a quote."""
        if isinstance(self.result, Skip):
            return ()
        return (Call(self.offer, self.result), *self.more)

    @property
    def net_usd(self) -> int:
        """Return what all calls net, marginal costs only."""
        return sum(call.quote.net_usd for call in self.calls)


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
    ) -> None:
        self._rules = rules
        self._venues = venues
        self._markets = markets
        self._rates = Rates(view)
        self._gas_price = view.next_block.base_fee + rules.priority_fee
        self._sales = Sales(venues)
        self._view = view
        self._sources: dict[Address, FlashSource] = {}
        self._lenders: dict[Address, list[FlashSource]] = {}
        self._claims: dict[PositionKey, list[list[Offer]]] = {}
        self._settled: dict[PositionKey, list[_Taken]] = {}
        self._refused: list[Skip] = []
        self._standing: tuple[Call, ...] = ()
        self._moves: dict[int, tuple[Move, ...]] = {}
        self._gas_costs: dict[tuple[str, Address], float] = {}

    def run(self, choices: Sequence[Choice]) -> None:
        """Decide; `quotes` and `skips` tell what."""
        offers = [offer for choice in choices for offer in self._offers(choice)]
        tokens = {each for offer in offers for each in (offer.terms.collateral, offer.terms.debt)}
        rules = self._rules
        self._trust = Trust(self._view, self._sales, rules.deviation, rules.least_depth, tokens)
        router = Router(self._venues, self._rules.max_hops, self._rules.hubs, self._trust)
        self._selling = Selling(self._venues, self._sales, router, offers, self._per_gas)
        self._choose_sources(offers)
        self._liquidity = Liquidity(self._markets, offers, self._sources)
        claims: dict[PositionKey, dict[int, list[Offer]]] = {}
        returns: dict[PositionKey, float] = {}
        for offer in offers:
            key = offer.choice.opportunity.key
            claims.setdefault(key, {}).setdefault(id(offer.choice), []).append(offer)
            returns[key] = max(returns.get(key, -math.inf), self._return(offer))
        self._claims = {key: list(claims[key].values()) for key in claims}
        order = sorted(claims, key=lambda key: -returns[key])
        self._take_crowd(order)
        for key in order:
            if key not in self._settled:
                self.settle(key)
        improve(self, order)
        self._selling.balance()
        self._borrow_cheaper()

    @property
    def quotes(self) -> list[Quote]:
        """Return the quotes, marginal costs only, in the order they were taken."""
        found = []
        sales: dict[Lane, tuple[Portion, ...]] = {}
        for taken in self._settled.values():
            calls = _calls(taken)
            for call in calls if self._fills(calls) else ():
                lane = call.offer.lane
                if lane not in sales:
                    sales[lane] = self._selling[lane].sale()
                found.append(self._funded(replace(call.quote, routes=sales[lane])))
        return found

    @property
    def skips(self) -> list[Skip]:
        """Return why the others were not taken."""
        found = list(self._refused)
        for taken in self._settled.values():
            best = _best(taken)
            for each in taken:
                if isinstance(each.result, Skip):
                    found.append(each.result)
                elif not self._fills(each.calls):
                    why = (
                        f"the pools cannot take all {each.offer.terms.collateral.symbol} of a head"
                    )
                    found.append(refuse(each.offer.choice, Reason.NO_LIQUIDITY, why))
                elif best is not None and each is not best:
                    name = best.offer.choice.opportunity.strategy
                    found.append(refuse(each.offer.choice, Reason.OUTBID, f"{name} nets more"))
        return found

    def _funded(self, quote: Quote) -> Quote:
        """Return a quote that borrows where its token is borrowed in the end."""
        source = self._sources.get(quote.debt.address, quote.flash)
        if source is quote.flash or quote.flash.kind is FlashKind.NONE:
            return quote
        moved = replace(quote, flash=source, premium=source.premium_up(cover_up(quote.steps[0])))
        return price_quote(moved, quote.proceeds, quote.gas, self._rates, self._gas_price)

    def _fills(self, calls: Sequence[Call]) -> bool:
        return all(self._selling[call.offer.lane].fills for call in calls)

    def settle(self, key: PositionKey) -> None:
        """Quote a position for every strategy that wants it; what nets most is sold."""
        self._take(key, [self._quote(offers) for offers in self._claims[key]])

    def _take(self, key: PositionKey, taken: list[_Taken]) -> None:
        self._settled[key] = taken
        for call in _calls(taken):
            self._selling.sell(call.offer.lane, call.quote.steps[0].seizure.received)
            self._liquidity.take(call.quote)

    def release(self, key: PositionKey) -> None:
        """Take a position back out of all sales."""
        for call in _calls(self._settled.pop(key, [])):
            self._selling.sell(call.offer.lane, -call.quote.steps[0].seizure.received)
            self._liquidity.give(call.quote)

    def keep(self) -> Mapping[PositionKey, list[_Taken]]:
        """Return what is taken, to be restored."""
        return dict(self._settled)

    def restore(self, state: Mapping[PositionKey, list[_Taken]]) -> None:
        """Take again what was taken when it was kept, and nothing else."""
        for key in [key for key, taken in self._settled.items() if state.get(key) is not taken]:
            self.release(key)
        for key, taken in state.items():
            if key not in self._settled:
                self._take(key, taken)

    def is_tight(self, key: PositionKey) -> bool:
        """Say whether a position would be taken otherwise if others were not: smaller, or not at all."""
        taken = self._settled[key]
        best = _best(taken)
        if best is not None:
            assert isinstance(best.result, Quote)
            return best.result.steps[0].repay < best.offer.largest
        return any(
            isinstance(each.result, Skip)
            and each.result.reason in {Reason.UNPROFITABLE, Reason.NO_LIQUIDITY}
            and self._bound(each.offer) > 0
            for each in taken
        )

    def worth(self) -> Usd:
        """Return what all that is taken nets together, sold lane by lane, groups and loans paid."""
        total = 0
        lanes: dict[Lane, Offer] = {}
        loans: dict[Address, tuple[Offer, FlashKind]] = {}
        for taken in self._settled.values():
            for call in _calls(taken):
                quote, offer = call.quote, call.offer
                lanes[offer.lane] = offer
                loans[quote.debt.address] = offer, quote.flash.kind
                total += offer.rate.usd_down(-quote.repaid - quote.premium - quote.gas_cost)
        sales = Sales(self._venues) if len(lanes) > 1 else self._sales
        for lane, offer in lanes.items():
            parts = self._selling[lane].placed
            if len(lanes) > 1:
                brought = sum(sales.apply(route, part) for route, part in parts)
            else:
                brought = self._selling[lane].deal(self._selling[lane].total).out
            hops = [hop for route, _ in parts for hop in route]
            gas = group_gas(len(hops), extra_gas(hops))
            total += offer.rate.usd_down(brought - int(gas * self._per_gas(offer)))
        for offer, kind in loans.values():
            total -= offer.rate.usd_down(int(FUND[kind] * self._per_gas(offer)))
        return Usd(total)

    def _take_crowd(self, order: Sequence[PositionKey]) -> None:
        """Take whom the pools bear in full, all at once."""
        drafts: list[tuple[PositionKey, Offer, Quote]] = []
        wanted: list[Wanted] = []
        for key in order:
            found = self._whole(key)
            if found is None:
                continue
            offer, quote = found
            received = offer.seizure.received
            least = quote.repaid + quote.premium + quote.gas_cost + quote.minimum_profit
            drafts.append((key, offer, quote))
            wanted.append(Wanted(offer.lane, received, least / received))
            self._liquidity.take(quote)
        borne = bear(self._selling, wanted)
        for key, offer, quote in drafts[:borne]:
            outlet = self._selling[offer.lane]
            share = outlet.deal(outlet.total).net * offer.seizure.received // outlet.total
            priced = price_quote(quote, share, quote.gas, self._rates, self._gas_price)
            self._settled[key] = [_Taken(offer, priced)]
        for _, _, quote in drafts[borne:]:
            self._liquidity.give(quote)
        for key, offer, quote in drafts[:borne]:
            brings = int(self._selling[offer.lane].price() * offer.seizure.received)
            net = offer.rate.usd_down(brings - quote.repaid - quote.premium)
            (offers,) = self._claims[key]
            if any(self._bound(other) > net for other in offers if other is not offer):
                self.release(key)
                self.settle(key)

    def _whole(self, key: PositionKey) -> tuple[Offer, Quote] | None:
        """Return the pair of a position that returns most, taken in full, and a draft of its quote.

        None where several strategies want the position, several calls may be made on it, or
        something does not let it be taken whole.
        """
        claims = self._claims[key]
        choice = claims[0][0].choice
        if choice.limits.calls > 1 and not choice.limits.whole:
            return None
        offer = max(claims[0], key=self._return)
        source = self._source(offer)
        if len(claims) > 1 or source is None or not self._selling[offer.lane].is_open:
            return None
        if self._liquidity.within(offer) is not offer:
            return None
        available = self._available(offer, source)
        if cover_up_repay(offer.terms, offer.largest) > available or offer.seizure.received <= 0:
            return None
        return offer, self._draft(offer, source, Size(offer.largest, offer.seizure, 0, 0))

    def _offers(self, choice: Choice) -> list[Offer]:
        found = find_offers(choice, self._rates, self._rules)
        if isinstance(found, Skip):
            self._refused.append(found)
            return []
        return found

    def _per_gas(self, offer: Offer) -> float:
        rate = offer.rate
        key = offer.pot[0], offer.terms.debt.address
        known = self._gas_costs.get(key)
        if known is None:
            known = self._gas_costs[key] = rate.gas_up(_GAS, self._gas_price) / _GAS
        return known

    def _choose_sources(self, offers: Sequence[Offer]) -> None:
        used: frozenset[Address] | None = None
        lent = frozenset[Address]()
        # whatever market stands behind the view lends, be it only another one's liquidations
        markets = self._markets.keys() & self._view.prices.keys()
        for token, wanted in demands(offers).items():
            sources = self._lenders[token] = [
                *(s for name in sorted(markets) for s in self._markets[name].flash_sources(token)),
                *(s for venue in self._venues.values() for s in venue.flash_sources(token)),
            ]
            source = choose_source(sources, wanted, lent)
            if source is not None and funding_pools([source]):
                if used is None:
                    used = self._selling.pools()
                source = choose_source(sources, wanted, used | lent)
                if source is None or source.available < wanted:
                    # What a lesser route brings is worth less than the loan.
                    source = choose_source(sources, wanted, self._selling.best_pools() | lent)
            if source is not None:
                self._sources[token] = source
                # A pool lends once at a time, whichever token is asked for.
                lent |= funding_pools([source])
        lending = funding_pools(self._sources.values())
        if lending:
            self._selling.shut(lending)

    def _source(self, offer: Offer) -> FlashSource | None:
        """Return who lends what an offer repays, None when nobody does."""
        if offer.seizure.repaid <= 0:
            token = offer.terms.debt.address
            return FlashSource(FlashKind.NONE, ZERO_ADDRESS, token, offer.largest, 0)
        return self._sources.get(offer.terms.debt.address)

    def _borrow_cheaper(self) -> None:
        """Borrow from pools that no sale goes through after all, where that costs less."""
        wanted: dict[Address, int] = {}
        for taken in self._settled.values():
            for call in _calls(taken):
                token = call.quote.debt.address
                if call.quote.flash.kind is FlashKind.NONE:
                    continue
                wanted[token] = wanted.get(token, 0) + cover_up(call.quote.steps[0])
        used = self._selling.placed_pools() | funding_pools(self._sources.values())
        for token, amount in wanted.items():
            source = choose_source(self._lenders[token], amount, used)
            if source is None or source.available < amount:
                continue
            if source.fee_ppm < self._sources[token].fee_ppm:
                self._sources[token] = source
                used |= funding_pools([source])

    def _bound(self, offer: Offer) -> float:
        """Return at least the dollars a pair can earn before costs, from its best price."""
        outlet = self._selling[offer.lane]
        if not outlet.is_open:
            return -math.inf
        best = MARGIN * outlet.price() * offer.seizure.received
        return float(offer.rate.usd_down(int(best - offer.seizure.repaid)))

    def _return(self, offer: Offer) -> float:
        """Return what a pair brings at its best price for each unit it costs, gas included."""
        outlet = self._selling[offer.lane]
        if not outlet.is_open:
            return -math.inf
        gas = self._per_gas(offer) * item_gas(
            offer.choice.opportunity.position, Step(offer.terms, offer.largest, offer.seizure)
        )
        cost = offer.seizure.repaid + gas
        return outlet.spot() * offer.seizure.received / cost if cost > 0 else math.inf

    def stand(self, calls: Sequence[Call]) -> None:
        """Sell what these calls sell, instead of those told before."""
        kept = 0
        for held, wanted in zip(self._standing, calls, strict=False):
            if held is not wanted:
                break
            kept += 1
        for call in reversed(self._standing[kept:]):
            self._selling.sell(call.offer.lane, -call.quote.steps[0].seizure.received)
            self._liquidity.give(call.quote)
        for call in calls[kept:]:
            self._selling.sell(call.offer.lane, call.quote.steps[0].seizure.received)
            self._liquidity.take(call.quote)
        self._standing = tuple(calls)

    def offer(self, choice: Choice) -> Offer | None:
        """Return the one pair of a choice as far as limits, reserves and loans allow it."""
        found = find_offers(choice, self._rates, self._rules)
        if isinstance(found, Skip):
            return None
        offer = self._liquidity.within(found[0])
        if offer is None or offer.lane not in self._selling:
            return None
        source = self._source(offer)
        if source is None or not self._selling[offer.lane].is_open:
            return None
        available = self._available(offer, source)
        if cover_up_repay(offer.terms, offer.largest) <= available:
            return offer
        largest = offer.terms.legal_down(max(available - available // 50_000, 0))
        if largest <= 0 or offer.whole:
            return None
        return replace(offer, largest=largest, seizure=offer.terms.seize(largest))

    def best(self, offer: Offer) -> int:
        """Return the repay that earns most, 0 for none."""
        source = self._source(offer)
        assert source is not None
        size = self._size(offer, source, self._available(offer, source), hopeless=False)
        return 0 if size is None else size.repay

    def draft(self, offer: Offer, repay: int) -> Quote:
        """Return a legal repay's quote, marginal costs only."""
        outlet = self._selling[offer.lane]
        source = self._source(offer)
        assert source is not None
        proceeds = Behind(outlet, outlet.total)
        size = price_size(offer.terms, repay, proceeds, source.fee_ppm)
        route = (Portion(outlet.first),) if outlet.first else ()
        return replace(self._draft(offer, source, size), routes=route)

    def dollars(self, offer: Offer, gas: int) -> Usd:
        """Return what gas costs."""
        return offer.rate.usd_down(offer.rate.gas_up(gas, self._gas_price))

    def _available(self, offer: Offer, source: FlashSource) -> int:
        lent = self._liquidity.lends_down(offer)
        left = source.available - borrowed(self._standing, offer.terms.debt.address)
        return max(left if lent is None else min(left, lent), 0)

    def _quote(self, offers: Sequence[Offer]) -> _Taken:
        alone = [offer for offer in offers if offer.alone]
        choice = offers[0].choice
        if alone:
            taken = self._single(alone)
        else:
            symbol = offers[0].terms.collateral.symbol
            taken = _Taken(offers[0], refuse_toxic(choice, symbol))
        if choice.limits.calls > 1 and not choice.limits.whole:
            calls = self._sequence(offers)
            if len(calls) > 1:
                found = _Taken(calls[0].offer, calls[0].quote, calls[1:])
                if found.net_usd > taken.net_usd:
                    return found
        return taken

    def _sequence(self, offers: Sequence[Offer]) -> tuple[Call, ...]:
        """Return the calls on one position that together net most, if each of them pays.

        They are looked for once; tried again behind other positions they are only priced anew.
        """
        choice = offers[0].choice
        if id(choice) not in self._moves and len(self._moves) >= _SEARCHES:
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

    def _single(self, offers: Sequence[Offer]) -> _Taken:
        choice = offers[0].choice
        drawn = [found for offer in offers if (found := self._liquidity.within(offer))]
        if not drawn:
            symbol = offers[0].terms.collateral.symbol
            detail = f"others of this head take all {symbol}"
            return _Taken(offers[0], refuse(choice, Reason.NO_LIQUIDITY, detail))
        bounded = sorted(
            ((self._bound(offer), offer) for offer in drawn), key=lambda pair: -pair[0]
        )
        best: Quote | None = None
        of = drawn[0]
        reason, detail = Reason.NO_ROUTE, self._unsold(drawn[0])
        for bound, offer in bounded:
            # Gross leaves the premium out of account, and debts differ in that: compare with net.
            if best is not None and bound <= best.net_usd:
                break
            if not self._selling[offer.lane].is_open:
                continue
            source = self._source(offer)
            if source is None:
                reason, detail = Reason.CAPITAL, f"nobody lends {offer.terms.debt.symbol}"
                continue
            available = self._available(offer, source)
            size = self._size(
                offer, source, available, hopeless=bound < choice.limits.minimum_profit
            )
            if size is None:
                reason = Reason.CAPITAL
                detail = f"{available} {offer.terms.debt.symbol} can be borrowed"
                continue
            quote = self._draft(offer, source, size)
            if best is None or quote.net_usd > best.net_usd:
                best, of = quote, offer
        if best is None:
            return _Taken(of, refuse(choice, reason, detail))
        if best.net < best.minimum_profit:
            why = explain_loss(best, self._rates.of(best))
            return _Taken(of, refuse(choice, Reason.UNPROFITABLE, why))
        return _Taken(of, best)

    def _unsold(self, offer: Offer) -> str:
        terms = offer.terms
        text = f"nothing turns {terms.collateral.symbol} into {terms.debt.symbol}"
        left_out = self._trust.refusals(terms.collateral.address, terms.debt.address)
        return f"{text}; left out: {left_out}" if left_out else text

    def _size(
        self, offer: Offer, source: FlashSource, available: int, *, hopeless: bool
    ) -> Size | None:
        largest = offer.largest
        if cover_up_repay(offer.terms, largest) > available:
            largest = available - available // 50_000
        if offer.whole and largest < offer.terms.maximum:
            return None
        outlet = self._selling[offer.lane]
        if hopeless:
            # Where no size pays, the price the others leave says why, without a search.
            legal = offer.terms.legal_down(largest)
            if legal <= 0:
                return None
            seizure = offer.terms.seize(legal)
            most = int(outlet.price() * seizure.received)
            premium = source.premium_up(legal)
            return Size(legal, seizure, most, most - seizure.repaid - premium)
        proceeds = Behind(outlet, outlet.total)
        if offer.whole:
            legal = offer.terms.legal_down(largest)
            return price_size(offer.terms, legal, proceeds, source.fee_ppm) if legal > 0 else None
        least, price = self._least(offer), MARGIN * outlet.price()
        return best_size(offer.terms, largest, proceeds, source.fee_ppm, least, price)

    def _least(self, offer: Offer) -> int:
        """Return what a size has to earn before gas to be worth anything."""
        reserves = count_reserves(offer.choice.opportunity.position)
        gas = liquidation_gas(reserves) * self._per_gas(offer)
        return int(gas) + offer.rate.from_usd_up(offer.choice.limits.minimum_profit)

    def _draft(self, offer: Offer, source: FlashSource, size: Size) -> Quote:
        step = Step(offer.terms, size.repay, size.seizure)
        opportunity = offer.choice.opportunity
        quote = Quote(
            opportunity=opportunity,
            steps=(step,),
            routes=(),
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


def _best(taken: Sequence[_Taken]) -> _Taken | None:
    """Return the claim whose quotes net most, None when there is no quote."""
    best: _Taken | None = None
    for each in taken:
        if each.calls and (best is None or each.net_usd > best.net_usd):
            best = each
    return best


def _calls(taken: Sequence[_Taken]) -> tuple[Call, ...]:
    """Return the calls of the claim whose quotes net most."""
    best = _best(taken)
    return () if best is None else best.calls
