"""How much of a batch's profit refills the operator's gas: neither a gain nor a loss but its own gas."""

from collections.abc import Sequence

from keeper.planning.costs import Rates
from keeper.types import Quote
from keeper.units import Address, Wei, mul_div_up

REFILL_GAS = 60_000
"""Most gas of a refill: a fresh slot for the day, the unwrapping, and the payment (liquidator.vy: _pay)."""

WORTH = 10
"""Times its gas a refill has to be, or it can wait for a richer batch."""


def choose_refill_down(
    quotes: Sequence[Quote],
    tips: Sequence[int],
    wanted: Wei,
    native: Address,
    gas_price: int,
    rates: Rates,
) -> Wei:
    """Return the native wei to ask for, 0 when the batch cannot give enough.

    The contract pays it from what the batch gained in the wrapped native token, after the tip, so it
    is what liquidations of debt in that token bring. `tips` are native wei, one for each quote. Nothing
    is asked for where its gas would take a liquidation below its minimum.
    """
    if wanted <= 0:
        return Wei(0)
    whole = sum(quote.gas for quote in quotes)
    for quote, tip in zip(quotes, tips, strict=True):
        rate = rates.of(quote)
        spare = quote.net - rate.wei_up(tip) - quote.minimum_profit
        if spare < rate.gas_up(mul_div_up(REFILL_GAS, quote.gas, whole), gas_price):
            return Wei(0)
    gain = sum(
        quote.proceeds - quote.repaid - quote.premium
        for quote in quotes
        if quote.debt.address == native
    )
    refill = min(wanted, max(gain - sum(tips), 0))
    return Wei(refill) if refill >= WORTH * REFILL_GAS * gas_price else Wei(0)
