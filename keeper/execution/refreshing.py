"""A sent plan valued at the prices of today: those it was made at may be minutes old."""

from collections.abc import Mapping
from dataclasses import replace

from keeper.errors import TransientError
from keeper.execution.pricing import plan_prices
from keeper.types import Plan, Quote, View
from keeper.units import ZERO_ADDRESS, Address, Usd, mul_div_up


def at_prices(plan: Plan, view: View | None) -> Plan:
    """Return the plan with its quotes' dollars, gas and least profits at a view's prices.

    What the quotes repay and bring in tokens stays. Raises `TransientError` without a price it was
    made at: what a plan brings is never a guess.
    """
    if plan.sweep is not None:
        return plan
    now = {} if view is None else plan_prices(plan, view)
    needed = {quote.debt.address for quote in plan.quotes} | {ZERO_ADDRESS}
    if any(not now.get(address) for address in needed):
        raise TransientError("a price the plan was made at cannot be read now")
    if any(not plan.prices.get(address) for address in needed):
        raise TransientError("the plan does not say at which prices it was made")
    quotes = tuple(_at_prices(quote, plan, now) for quote in plan.quotes)
    more = sum(new.net_usd - old.net_usd for new, old in zip(quotes, plan.quotes, strict=True))
    return replace(
        plan,
        quotes=quotes,
        gross_usd=Usd(sum(quote.gross_usd for quote in quotes)),
        net_usd=Usd(plan.net_usd + more),
        prices={**plan.prices, **now},
    )


def _at_prices(quote: Quote, plan: Plan, now: Mapping[Address, Usd]) -> Quote:
    debt, native = quote.debt.address, ZERO_ADDRESS
    gas_cost = mul_div_up(
        quote.gas_cost, now[native] * plan.prices[debt], plan.prices[native] * now[debt]
    )
    data_fee = mul_div_up(
        quote.data_fee, now[native] * plan.prices[debt], plan.prices[native] * now[debt]
    )
    net = quote.net + quote.gas_cost - gas_cost
    gross_usd = quote.gross_usd * now[debt] // plan.prices[debt]
    return replace(
        quote,
        gas_cost=gas_cost,
        data_fee=data_fee,
        net=net,
        minimum_profit=mul_div_up(quote.minimum_profit, plan.prices[debt], now[debt]),
        gross_usd=Usd(gross_usd),
        net_usd=Usd(net * gross_usd // max(quote.proceeds - quote.repaid, 1)),
    )
