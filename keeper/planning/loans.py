"""Who lends each debt token of a head, and how much of it is left for one more liquidation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

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

    Own capital that is not enough for all carries what it can of them in the end (`move`).
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
        self._own: dict[Address, FlashSource] = {}
        self._carried: set[CallKey] = set()
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
                self._own[token] = own
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

        How a sale is divided may change once more: what then lends is shut to all of them. What own
        capital can carry of a loan that is larger is not borrowed, where that saves more than its gas.
        """
        wanted: dict[Address, int] = {}
        for call in calls:
            token = call.quote.debt.address
            if call.quote.flash.kind is not FlashKind.NONE:
                wanted[token] = wanted.get(token, 0) + cover_up(call.quote.steps[0])
        used = lending = placed | shut_by(self._sources.values())
        for token, amount in wanted.items():
            gas, held = self._per_gas[token], self._sources[token]
            source = choose_source(self._lenders[token], amount, used, gas)
            if source is None or source.available < amount:
                continue
            if cost_of(source, amount, gas) < cost_of(held, amount, gas):
                self._sources[token] = source
                used |= source.shuts
        if used != lending:
            self._selling.shut(shut_by(self._sources.values()))
        for token in wanted:
            if token in self._own:
                self._carry(token, calls)

    def _carry(self, token: Address, calls: Iterable[Call]) -> None:
        """Give own capital to the largest calls it has enough for, each of them whole."""
        own, other = self._own[token], self._sources[token]
        if other.kind is FlashKind.INVENTORY:
            return
        left, saved = own.available, 0
        carried: set[CallKey] = set()
        borrowing = (
            (cover_up(call.quote.steps[0]), call.quote.key)
            for call in calls
            if call.quote.debt.address == token and call.quote.flash.kind is not FlashKind.NONE
        )
        for amount, key in sorted(borrowing, reverse=True):
            if amount <= left:
                left -= amount
                saved += other.premium_up(amount)
                carried.add(key)
        if saved > FUND[FlashKind.INVENTORY] * self._per_gas[token]:
            self._carried |= carried

    def funded(self, quote: Quote, costs: Costs) -> Quote:
        """Return a quote that borrows where its token is borrowed in the end."""
        source = self._sources.get(quote.debt.address, quote.flash)
        if quote.key in self._carried:
            source = self._own[quote.debt.address]
        if source is quote.flash or quote.flash.kind is FlashKind.NONE:
            return quote
        moved = replace(quote, flash=source, premium=source.premium_up(cover_up(quote.steps[0])))
        return price_quote(moved, quote.proceeds, quote.gas, costs.rates, costs.gas_price)
