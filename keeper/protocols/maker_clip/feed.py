"""The collateral's price at an aggregator of 8 decimals, read at every head."""

from keeper.chain.words import read
from keeper.oracles.lone_feed import LoneFeed
from keeper.units import Address

SPOT = Address(b"spot".rjust(20, b"\0"))
"""Where imagined prices hold what the Vat would count a unit of collateral for, in ray."""
_TO_WAD = 10**10


def collateral_feed(market: str, feed: Address, collateral: Address, debt: Address) -> LoneFeed:
    """Return the collateral's price in dollars of 18 decimals; the stablecoin is worth one."""
    return LoneFeed(market, read(feed, "latestAnswer()"), _worth, collateral, debt)


def _worth(answer: int) -> int:
    """Return dollars; none where the answer, an int256, is not above zero."""
    return answer * _TO_WAD if answer < 1 << 255 else 0
