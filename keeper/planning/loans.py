"""Who lends each debt token of a head, and how much of it is left for one more liquidation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from keeper.planning.appraising import Costs
from keeper.planning.funding import choose_source, funding_pools
from keeper.planning.grouping import cover_up, price_quote
from keeper.planning.liquidity import Liquidity
from keeper.planning.offers import Offer, demands
from keeper.planning.selling import Selling
from keeper.planning.sequels import Call, borrowed
from keeper.ports import LendingProtocol, Venue
from keeper.types import FlashKind, FlashSource, Quote, View
from keeper.units import ZERO_ADDRESS, Address


class Loans:
    """One lender for each token: the cheapest that has enough and locks no pool that sells."""

    def __init__(
        self,
        venues: Mapping[str, Venue],
        markets: Mapping[str, LendingProtocol],
        view: View,
        offers: Sequence[Offer],
        selling: Selling,
        lends: Callable[[FlashSource], bool],
    ) -> None:
        self._selling = selling
        self._lenders: dict[Address, list[FlashSource]] = {}
        self._sources: dict[Address, FlashSource] = {}
        # whatever market stands behind the view lends, be it only another one's liquidations
        names = sorted(markets.keys() & view.prices.keys())
        lenders: list[LendingProtocol | Venue] = [markets[name] for name in names]
        lenders += venues.values()
        used: frozenset[Address] | None = None
        lent = frozenset[Address]()
        for token, wanted in demands(offers).items():
            sources = self._lenders[token] = [
                source
                for lender in lenders
                for source in lender.flash_sources(token)
                if lends(source)
            ]
            source = choose_source(sources, wanted, lent)
            if source is not None and funding_pools([source]):
                if used is None:
                    used = selling.pools()
                source = choose_source(sources, wanted, used | lent)
                if source is None or source.available < wanted:
                    # What a lesser route brings is worth less than the loan.
                    source = choose_source(sources, wanted, selling.best_pools() | lent)
            if source is not None:
                self._sources[token] = source
                # A pool lends once at a time, whichever token is asked for.
                lent |= funding_pools([source])
        lending = funding_pools(self._sources.values())
        if lending:
            selling.shut(lending)
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

    def move(self, calls: Iterable[Call], placed: frozenset[Address]) -> None:
        """Borrow from pools that no sale goes through after all, where that costs less.

        How a sale is divided may change once more: those pools are shut to all of them.
        """
        wanted: dict[Address, int] = {}
        for call in calls:
            token = call.quote.debt.address
            if call.quote.flash.kind is not FlashKind.NONE:
                wanted[token] = wanted.get(token, 0) + cover_up(call.quote.steps[0])
        used = lending = placed | funding_pools(self._sources.values())
        for token, amount in wanted.items():
            source = choose_source(self._lenders[token], amount, used)
            if source is None or source.available < amount:
                continue
            if source.fee_ppm < self._sources[token].fee_ppm:
                self._sources[token] = source
                used |= funding_pools([source])
        if used != lending:
            self._selling.shut(funding_pools(self._sources.values()))

    def funded(self, quote: Quote, costs: Costs) -> Quote:
        """Return a quote that borrows where its token is borrowed in the end."""
        source = self._sources.get(quote.debt.address, quote.flash)
        if source is quote.flash or quote.flash.kind is FlashKind.NONE:
            return quote
        moved = replace(quote, flash=source, premium=source.premium_up(cover_up(quote.steps[0])))
        return price_quote(moved, quote.proceeds, quote.gas, costs.rates, costs.gas_price)
