"""Who lends each debt token of a head, and how much of it is left for one more liquidation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from keeper.contracts import liquidator
from keeper.planning.appraising import Costs
from keeper.planning.funding import choose_source, cost_of, shut_by
from keeper.planning.gas import FUND
from keeper.planning.grouping import CallKey, cover_up, price_quote
from keeper.planning.liquidity import Liquidity
from keeper.planning.offers import Offer, demands
from keeper.planning.rules import PlanRules
from keeper.planning.selling import Selling
from keeper.planning.sequels import Call, borrowed
from keeper.ports import LendingProtocol, Venue
from keeper.types import FlashKind, FlashSource, Quote, View
from keeper.units import ZERO_ADDRESS, Address


class Loans:
    """One lender for each token: the cheapest that has enough and shuts no pool that sells.

    One more that has too little for all, own capital say, carries what it can in the end (`move`).
    """

    def __init__(
        self,
        rules: PlanRules,
        venues: Mapping[str, Venue],
        markets: Mapping[str, LendingProtocol],
        view: View,
        offers: Sequence[Offer],
        selling: Selling,
        per_gas: Callable[[Offer], float],
    ) -> None:
        self._selling = selling
        self._wanted: dict[Address, dict[CallKey, int]] = {}
        self._carried: dict[CallKey, FlashSource] = {}
        self._lenders: dict[Address, list[FlashSource]] = {}
        self._sources: dict[Address, FlashSource] = {}
        self._per_gas = {offer.terms.debt.address: per_gas(offer) for offer in offers}
        # whatever market stands behind the view lends, be it only another one's liquidations
        names = sorted(markets.keys() & view.prices.keys())
        lenders: list[LendingProtocol | Venue] = [markets[name] for name in names]
        lenders += venues.values()
        used: frozenset[Address] | None = None
        lent = frozenset[Address]()
        for token, wanted in demands(offers).items():
            held = view.inventory.get(token, 0)
            sources = self._lenders[token] = [
                source
                for lender in lenders
                for source in lender.flash_sources(token)
                if rules.lends(source)
            ]
            if held > 0:
                own = FlashSource(FlashKind.INVENTORY, rules.contract, token, held, 0)
                sources.append(own)
            # gas does not count yet: what shuts a pool may cost a sale more than it saves
            source = choose_source(sources, wanted, lent)
            if source is not None and source.shuts:
                if used is None:
                    used = selling.pools()
                source = choose_source(sources, wanted, used | lent)
                if source is None or source.available < wanted:
                    # What a lesser route brings is worth less than the loan.
                    source = choose_source(sources, wanted, selling.best_pools() | lent)
            if source is not None:
                self._sources[token] = source
                # Whoever shuts something lends once at a time, whichever token is asked for.
                lent |= source.shuts
        if lent:
            selling.shut(lent)
        self.liquidity = Liquidity(markets, offers, self._sources)

    def source(self, offer: Offer) -> FlashSource | None:
        """Return who lends what an offer repays, None when nobody does."""
        if offer.seizure.repaid <= 0:
            token = offer.terms.debt.address
            return FlashSource(FlashKind.NONE, ZERO_ADDRESS, token, offer.largest, 0)
        return self._sources.get(offer.terms.debt.address)

    def available(self, offer: Offer, source: FlashSource, standing: Sequence[Call]) -> int:
        """Return how much of a loan is left for an offer, with these calls made."""
        lent = self.liquidity.lends_down(offer)
        left = source.available - borrowed(standing, offer.terms.debt.address)
        return max(left if lent is None else min(left, lent), 0)

    def move(self, calls: Sequence[Call], placed: frozenset[Address]) -> None:
        """Borrow where it costs less, now that it is known how much, and what sales go through.

        How a sale is divided may change once more: what then lends is shut to all of them. All loans
        together fit into one transaction.
        """
        wanted = self._wanted
        for call in calls:
            if call.quote.flash.kind is not FlashKind.NONE:
                amounts = wanted.setdefault(call.quote.debt.address, {})
                amounts[call.quote.key] = cover_up(call.quote.steps[0])
        used = lending = placed | shut_by(self._sources.values())
        for token, amounts in wanted.items():
            amount, gas, held = sum(amounts.values()), self._per_gas[token], self._sources[token]
            source = choose_source(self._open(token), amount, used, gas)
            if source is None or source.available < amount:
                continue
            if cost_of(source, amount, gas) < cost_of(held, amount, gas):
                self._sources[token] = source
                used |= source.shuts
        self._carried = self._carry_all(self._sources, used)
        if used != lending or shut_by(self._carried.values()):
            self._selling.shut(shut_by([*self._sources.values(), *self._carried.values()]))

    def best(self, plain: Sequence[Quote], offered: Sequence[Quote], costs: Costs) -> list[Quote]:
        """Return quotes as they borrow in the end, with offers in their sales or without any.

        What an offer goes through nobody knows: it is used where no loan shuts anything, and if that
        costs more than the offers bring, none is.
        """

        def funded(
            quotes: Sequence[Quote],
            sources: Mapping[Address, FlashSource],
            carried: Mapping[CallKey, FlashSource],
        ) -> list[Quote]:
            return [
                _funded(
                    each,
                    carried.get(each.key) or sources.get(each.debt.address, each.flash),
                    costs,
                )
                for each in quotes
            ]

        found = funded(offered, self._sources, self._carried)
        if not any(quote.fallback for quote in offered) or not shut_by(q.flash for q in found):
            return found
        without = funded(plain, self._sources, self._carried)
        opened = self._opened()
        if opened is None:
            return without
        found = funded(offered, opened, self._carry_all(opened, self._shuts()))
        return max(without, found, key=lambda quotes: _net_of(quotes, costs))

    def _opened(self) -> dict[Address, FlashSource] | None:
        """Return who would lend each token and shuts nothing, None when some have not enough."""
        shuts = self._shuts()
        sources = dict(self._sources)
        for token, amounts in self._wanted.items():
            amount = sum(amounts.values())
            source = choose_source(self._open(token), amount, shuts, self._per_gas[token])
            if source is None or source.available < amount:
                return None
            sources[token] = source
        return sources

    def _shuts(self) -> frozenset[Address]:
        return shut_by(source for each in self._lenders.values() for source in each)

    def _carry_all(
        self, sources: Mapping[Address, FlashSource], used: frozenset[Address]
    ) -> dict[CallKey, FlashSource]:
        """Return the calls that others than these sources had better pay, as far as all fit."""
        found = dict[CallKey, FlashSource]()
        room = liquidator().bounds["max_funds"] - len(self._wanted)
        for token in self._wanted:
            carried = self._carry(token, sources[token], used) if room > 0 else {}
            found |= carried
            used |= shut_by(carried.values())
            room -= bool(carried)
        return found

    def _carry(
        self, token: Address, other: FlashSource, used: frozenset[Address]
    ) -> dict[CallKey, FlashSource]:
        """Return the calls that a lender with too little for all had better pay, each of them whole.

        It is the one that saves most of the premium, its own gas paid; the largest calls come first.
        """
        amounts, gas = self._wanted[token], self._per_gas[token]
        most, best = 0.0, dict[CallKey, FlashSource]()
        for source in self._open(token):
            if source == other or source.shuts & used or source.fee_ppm >= other.fee_ppm:
                continue
            left, saved = source.available, -cost_of(source, 0, gas)
            carried = {}
            for key, amount in sorted(amounts.items(), key=lambda each: -each[1]):
                if amount <= left:
                    left -= amount
                    saved += other.premium_up(amount) - source.premium_up(amount)
                    carried[key] = source
            if saved > most:
                most, best = saved, carried
        return best

    def _open(self, token: Address) -> list[FlashSource]:
        """Return who lends a token, the others beside the one in use with what collateral leaves."""
        held = self._sources[token]
        return [
            each if each == held else self.liquidity.spared(each) for each in self._lenders[token]
        ]


def _funded(quote: Quote, source: FlashSource, costs: Costs) -> Quote:
    """Return a quote that borrows of a source, if it borrows."""
    if source is quote.flash or quote.flash.kind is FlashKind.NONE:
        return quote
    moved = replace(quote, flash=source, premium=source.premium_up(cover_up(quote.steps[0])))
    return price_quote(moved, quote.proceeds, quote.gas, costs.rates, costs.gas_price)


def _net_of(quotes: Sequence[Quote], costs: Costs) -> int:
    """Return what quotes net with the gas of their loans, each taken once."""
    lent = {quote.flash: quote for quote in quotes}
    gas = 0
    for source, quote in lent.items():
        rate = costs.rates.of(quote)
        gas += rate.usd_down(rate.gas_up(FUND[source.kind], costs.gas_price))
    return sum(quote.net_usd for quote in quotes) - gas
