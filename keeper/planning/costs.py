"""Conversions between gas, dollars and a debt token, at the market's own prices."""

from dataclasses import dataclass

from keeper.errors import InvariantError
from keeper.types import Prices, Quote, Token, View, home_of
from keeper.units import USD, Address, Usd, mul_div_down, mul_div_up

_NATIVE_UNIT = 10**18


@dataclass(frozen=True, slots=True)
class Rate:
    """What one debt token is worth in one market; `price` and `native` are in base currency."""

    prices: Prices
    price: int
    native: int
    unit: int

    def gas_up(self, gas: int, gas_price: int) -> int:
        """Return the cost of gas in the debt token, rounded up."""
        return mul_div_up(gas * gas_price * self.native, self.unit, self.price * _NATIVE_UNIT)

    def wei_up(self, wei: int) -> int:
        """Return an amount of native coin in the debt token, rounded up."""
        return self.gas_up(1, wei)

    def wei_down(self, amount: int) -> int:
        """Return an amount of the debt token in native coin, rounded down."""
        return amount * self.price * _NATIVE_UNIT // (self.native * self.unit)

    def from_usd_up(self, value: Usd) -> int:
        """Return the debt tokens worth a sum of dollars, rounded up."""
        return mul_div_up(value * self.prices.unit, self.unit, USD * self.price)

    def from_usd_down(self, value: Usd) -> int:
        """Return the debt tokens worth a sum of dollars, rounded down."""
        return mul_div_down(value * self.prices.unit, self.unit, USD * self.price)

    def usd_down(self, amount: int) -> Usd:
        """Return the dollars an amount of the debt token is worth, rounded down, losses too."""
        return Usd(amount * self.price * USD // (self.unit * self.prices.unit))


def rate(view: View, market: str, token: Token) -> Rate | None:
    """Return a debt token's rate, or None when it or the native coin has no price."""
    prices = view.prices.get(home_of(market))
    if prices is None:
        return None
    price, native = prices.get(token.address), view.price(market, view.native.address)
    if not price or not native:
        return None
    return Rate(prices, price, native, 10**token.decimals)


class Rates:
    """The rates of one view, each worked out once."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: dict[tuple[str, Address], Rate | None] = {}

    def find(self, market: str, token: Token) -> Rate | None:
        """Return a debt token's rate, or None when it or the native coin has no price."""
        key = (market, token.address)
        if key not in self._known:
            self._known[key] = rate(self._view, market, token)
        return self._known[key]

    def of(self, quote: Quote) -> Rate:
        """Return the rate a quote was made with; raise `InvariantError` when the view lost it."""
        market = quote.opportunity.position.market
        found = self.find(market, quote.debt)
        if found is None:
            raise InvariantError(market, f"{quote.debt.symbol} was quoted without a price")
        return found
