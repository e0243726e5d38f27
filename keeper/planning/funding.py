"""Who lends the debt token: the cheapest source that can, none that a sale would find shut."""

from collections.abc import Iterable

from keeper.planning.gas import FUND
from keeper.types import FlashSource
from keeper.units import Address


def choose_source(
    sources: Iterable[FlashSource], wanted: int, used: frozenset[Address], per_gas: float = 0.0
) -> FlashSource | None:
    """Return the cheapest source of a loan, or the largest when none lends so much; None for none.

    `used` are the pools of the best routes: borrowing from what shuts one would shut that route.
    `per_gas` is what one gas costs in the token lent.
    """
    open_sources = [
        source for source in sources if source.available > 0 and not source.shuts & used
    ]
    enough = [source for source in open_sources if source.available >= wanted]
    if enough:
        return min(enough, key=lambda source: _rank(source, wanted, per_gas))
    return max(open_sources, key=lambda source: (source.available, -source.fee_ppm), default=None)


def cost_of(source: FlashSource, amount: int, per_gas: float) -> float:
    """Return what a loan costs in its own token: the premium, and the gas of taking it."""
    return source.premium_up(amount) + FUND[source.kind] * per_gas


def shut_by(sources: Iterable[FlashSource]) -> frozenset[Address]:
    """Return what nothing of the batch may trade on while these lend."""
    return frozenset[Address]().union(*(source.shuts for source in sources))


def _rank(source: FlashSource, wanted: int, per_gas: float) -> tuple[float, bool, int, int]:
    """Order by cost; of equal ones what shuts a route comes last, then what takes more gas."""
    cost = cost_of(source, wanted, per_gas)
    return cost, bool(source.shuts), FUND[source.kind], -source.available
