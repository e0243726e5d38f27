"""Who lends the debt token: the cheapest source that can, not a pool the sales go through."""

from collections.abc import Iterable

from keeper.types import FlashKind, FlashSource
from keeper.units import Address

POOL_KINDS = frozenset({FlashKind.UNISWAP_V3})
"""Sources that are themselves pools, locked against swaps while they lend."""


def choose_source(
    sources: Iterable[FlashSource], wanted: int, used: frozenset[Address]
) -> FlashSource | None:
    """Return the cheapest source of a loan, or the largest when none lends so much; None for none.

    `used` are the pools of the best routes: borrowing from one would shut that route.
    """
    open_sources = [
        source
        for source in sources
        if source.available > 0 and not (source.kind in POOL_KINDS and source.source in used)
    ]
    enough = [source for source in open_sources if source.available >= wanted]
    if enough:
        return min(enough, key=_price)
    return max(open_sources, key=lambda source: (source.available, -source.fee_ppm), default=None)


def funding_pools(sources: Iterable[FlashSource]) -> frozenset[Address]:
    """Return the pools that no route of the batch may pass through."""
    return frozenset(source.source for source in sources if source.kind in POOL_KINDS)


def _price(source: FlashSource) -> tuple[int, bool, int]:
    """Order by fee; of equal ones a pool comes last, since borrowing from it shuts a route."""
    return source.fee_ppm, source.kind in POOL_KINDS, -source.available
