"""What prices of one market are once tokens are worth something else, and what tokens are worth."""

from collections.abc import Iterable
from dataclasses import replace

from keeper.ports import Derived, LendingProtocol, Rating
from keeper.stress.shapes import Multiples
from keeper.types import Prices
from keeper.units import WAD, Address, at_multiple


def moved(protocol: LendingProtocol, prices: Prices, multiples: Multiples) -> Prices:
    """Return a market's prices when each token is worth a multiple of what it is.

    Every price is its token's own, or the market says itself what follows from tokens' worth.
    """
    if isinstance(protocol, Derived):
        return protocol.moved(prices, multiples)
    values = {
        asset: at_multiple(price, multiples.get(asset, 1.0))
        for asset, price in prices.values.items()
    }
    return replace(prices, values=values)


def unexplained(protocol: LendingProtocol, prices: Prices) -> list[Address]:
    """Return the prices that are no token's and of which the market does not say what moves them."""
    if isinstance(protocol, Derived):
        return []
    return [asset for asset in prices.values if asset not in protocol.tokens()]


def dollars(protocol: LendingProtocol, prices: Prices) -> dict[Address, float]:
    """Return what a whole of each token of a market is worth.

    Where no price is a token's own, what a place's oracle gives of a priced token for it.
    """
    known = protocol.tokens()
    found = {asset: price / prices.unit for asset, price in prices.values.items() if asset in known}
    if isinstance(protocol, Rating):
        for token, loan, rate in protocol.rates(prices).values():
            if token.address not in found and loan.address in prices.values:
                found[token.address] = rate / WAD * (prices.values[loan.address] / prices.unit)
    return found


def together(markets: Iterable[tuple[LendingProtocol, Prices]]) -> dict[Address, float]:
    """Return what tokens are worth by all markets; a price of a token's own comes first."""
    implied, own = dict[Address, float](), dict[Address, float]()
    for protocol, prices in markets:
        for asset, worth in dollars(protocol, prices).items():
            (own if asset in prices.values else implied)[asset] = worth
    return implied | own
