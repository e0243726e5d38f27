"""The coin's price as the system reads it: PriceFeed.fetchPrice at every head."""

from keeper.chain.words import read
from keeper.oracles.lone_feed import LoneFeed
from keeper.units import Address


def coin_feed(market: str, feed: Address, coin: Address, debt: Address) -> LoneFeed:
    """Return the coin's price in dollars; the system's own token is worth one.

    The feed refuses an answer that is more than a minute old: then the price is absent.
    """
    return LoneFeed(market, read(feed, "fetchPrice()"), lambda price: price, coin, debt)
