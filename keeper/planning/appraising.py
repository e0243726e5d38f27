"""What one pair is worth at the prices that others leave: bounds, sizes, and drafts of quotes."""

import math

from keeper.planning.costs import Rates
from keeper.planning.gas import count_reserves, item_gas, liquidation_gas
from keeper.planning.grouping import cover_up, cover_up_repay, price_quote
from keeper.planning.offers import Offer
from keeper.planning.outlets import MARGIN, Behind
from keeper.planning.selling import Selling
from keeper.planning.sizing import Size, best_size, price_size
from keeper.types import FlashSource, Quote, Step
from keeper.units import Address, Usd

_GAS = 10**6
"""Gas to price one unit by: a wei of a coarse token is worth more."""


class Costs:
    """The rates of a head and its gas price (wei), and what gas comes to in debt tokens."""

    def __init__(self, rates: Rates, gas_price: int) -> None:
        self.rates = rates
        self.gas_price = gas_price
        self._per_gas: dict[tuple[str, Address], float] = {}

    def per_gas(self, offer: Offer) -> float:
        """Return what one gas costs in the debt token of an offer."""
        key = offer.pot[0], offer.terms.debt.address
        known = self._per_gas.get(key)
        if known is None:
            known = self._per_gas[key] = offer.rate.gas_up(_GAS, self.gas_price) / _GAS
        return known

    def dollars(self, offer: Offer, gas: int) -> Usd:
        """Return what gas costs in dollars."""
        return offer.rate.usd_down(offer.rate.gas_up(gas, self.gas_price))


class Appraisal:
    """Sizes and quotes of one offer on what is sold so far, its own costs counted and no shared ones."""

    def __init__(self, costs: Costs, selling: Selling) -> None:
        self._costs = costs
        self._selling = selling

    def bound(self, offer: Offer) -> float:
        """Return at least the dollars a pair can earn before costs, from its best price."""
        outlet = self._selling[offer.lane]
        if not outlet.is_open:
            return -math.inf
        best = MARGIN * outlet.price() * offer.seizure.received
        return float(offer.rate.usd_down(int(best - offer.seizure.repaid)))

    def returns(self, offer: Offer) -> float:
        """Return what a pair brings at its best price for each unit it costs, gas included."""
        outlet = self._selling[offer.lane]
        if not outlet.is_open:
            return -math.inf
        gas = self._costs.per_gas(offer) * item_gas(
            offer.choice.opportunity.position, Step(offer.terms, offer.largest, offer.seizure)
        )
        cost = offer.seizure.repaid + gas
        return outlet.spot() * offer.seizure.received / cost if cost > 0 else math.inf

    def size(
        self, offer: Offer, source: FlashSource, available: int, *, hopeless: bool
    ) -> Size | None:
        """Return the size that earns most within a loan, None when none is legal.

        Where no size pays (`hopeless`), the price the others leave says why, without a search.
        """
        largest = offer.largest
        if cover_up_repay(offer.terms, largest) > available:
            largest = available - available // 50_000
        if offer.whole and largest < offer.terms.maximum:
            return None
        outlet = self._selling[offer.lane]
        if hopeless:
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

    def draft(self, offer: Offer, source: FlashSource, size: Size) -> Quote:
        """Return the quote of a size, without its routes."""
        step = Step(offer.terms, size.repay, size.seizure)
        opportunity = offer.choice.opportunity
        rate = offer.rate
        gas = item_gas(opportunity.position, step)
        gas_cost = rate.gas_up(gas, self._costs.gas_price)
        premium = source.premium_up(cover_up(step))
        net = size.proceeds - size.seizure.repaid - premium - gas_cost
        return Quote(
            opportunity=opportunity,
            steps=(step,),
            routes=(),
            flash=source,
            debt=offer.terms.debt,
            gas=gas,
            proceeds=size.proceeds,
            repaid=size.seizure.repaid,
            premium=premium,
            gas_cost=gas_cost,
            net=net,
            net_usd=rate.usd_down(net),
            minimum_profit=max(rate.from_usd_up(offer.choice.limits.minimum_profit), 1),
            gross_usd=rate.usd_down(size.proceeds - size.seizure.repaid),
        )

    def priced(self, quote: Quote, proceeds: int, gas: int) -> Quote:
        """Return a quote with other proceeds and gas."""
        return price_quote(quote, proceeds, gas, self._costs.rates, self._costs.gas_price)

    def _least(self, offer: Offer) -> int:
        """Return what a size has to earn before gas to be worth anything."""
        reserves = count_reserves(offer.choice.opportunity.position)
        gas = liquidation_gas(reserves) * self._costs.per_gas(offer)
        return int(gas) + offer.rate.from_usd_up(offer.choice.limits.minimum_profit)
