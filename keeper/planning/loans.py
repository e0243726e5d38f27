"""Who lends each debt token of a head, and how much of it is left for one more liquidation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from keeper.contracts import liquidator
from keeper.planning.appraising import Costs
from keeper.planning.funding import choose_source, cost_of, shut_by
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
            held, gas = view.inventory.get(token, 0), self._per_gas[token]
            sources = self._lenders[token] = [
                source
                for lender in lenders
                for source in lender.flash_sources(token)
                if rules.lends(source)
            ]
            if held > 0:
                own = FlashSource(FlashKind.INVENTORY, rules.contract, token, held, 0)
                sources.append(own)
            source = choose_source(sources, wanted, lent, gas)
            if source is not None and source.shuts:
                if used is None:
                    used = selling.pools()
                source = choose_source(sources, wanted, used | lent, gas)
                if source is None or source.available < wanted:
                    # What a lesser route brings is worth less than the loan.
                    source = choose_source(sources, wanted, selling.best_pools() | lent, gas)
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
        wanted: dict[Address, dict[CallKey, int]] = {}
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
        room = liquidator().bounds["max_funds"] - len(wanted)
        for token, amounts in wanted.items():
            carried = self._carry(token, amounts, used) if room > 0 else {}
            self._carried |= carried
            used |= shut_by(carried.values())
            room -= bool(carried)
        if used != lending:
            self._selling.shut(shut_by([*self._sources.values(), *self._carried.values()]))

    def _carry(
        self, token: Address, amounts: Mapping[CallKey, int], used: frozenset[Address]
    ) -> dict[CallKey, FlashSource]:
        """Return the calls that a lender with too little for all had better pay, each of them whole.

        It is the one that saves most of the premium, its own gas paid; the largest calls come first.
        """
        other, gas = self._sources[token], self._per_gas[token]
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

    def funded(self, quote: Quote, costs: Costs) -> Quote:
        """Return a quote that borrows where its token is borrowed in the end."""
        source = self._carried.get(quote.key) or self._sources.get(quote.debt.address, quote.flash)
        if source is quote.flash or quote.flash.kind is FlashKind.NONE:
            return quote
        moved = replace(quote, flash=source, premium=source.premium_up(cover_up(quote.steps[0])))
        return price_quote(moved, quote.proceeds, quote.gas, costs.rates, costs.gas_price)
