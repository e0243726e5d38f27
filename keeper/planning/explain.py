"""Say in dollars why a quote does not pay."""

from keeper.planning.costs import Rate
from keeper.types import Quote
from keeper.units import USD


def explain_loss(quote: Quote, rate: Rate) -> str:
    """Return bonus, slippage, gas and premium beside the minimum; dollars, for people to read."""
    step = quote.steps[0]
    collateral = step.terms.collateral
    price = rate.prices.get(collateral.address)
    gas, premium, minimum = (
        rate.usd_down(amount) / USD
        for amount in (quote.gas_cost, quote.premium, quote.minimum_profit)
    )
    net = quote.net_usd / USD
    costs = f"gas {gas:.2f}, premium {premium:.2f}, net {net:.2f} < minimum {minimum:.2f} USD"
    if price is None:
        return f"sale less repay {quote.gross_usd / USD:.2f}, {costs}"
    value = rate.prices.usd(step.seizure.received * price // 10**collateral.decimals)
    bonus = (value - rate.usd_down(quote.repaid)) / USD
    slippage = (value - rate.usd_down(quote.proceeds)) / USD
    return f"bonus {bonus:.2f}, slippage {slippage:.2f}, {costs}"
