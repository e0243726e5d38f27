"""How a sale is divided among its routes, to the wei as the contract does it."""

from collections.abc import Iterator, Sequence

from keeper.types import Hop, Portion
from keeper.units import WAD


def shares_of_left(routes: Sequence[Portion]) -> list[int]:
    """Return each route's share of what those before it left, in 1e18ths; the last takes all."""
    left, shares = WAD, []
    for portion in routes[:-1]:
        shares.append(portion.share * WAD // left)
        left -= portion.share
    return [*shares, WAD] if routes else []


def divide(routes: Sequence[Portion], amount: int) -> Iterator[int]:
    """Yield what each route sells of an amount (liquidator.vy: run_group, AMOUNT_SHARE).

    An offer's call sells what it was made for, however much of the rest its share lets it take.
    """
    for portion, share in zip(routes, shares_of_left(routes), strict=True):
        part = amount * share // WAD
        least = portion.route[0].least if portion.route else 0
        part = min(part, least) if least else part
        yield part
        amount -= part


def portions(sold: Sequence[tuple[tuple[Hop, ...], int]]) -> tuple[Portion, ...]:
    """Return the portions of a sale from what each route sells, the largest first.

    A part that is no share in 1e18ths is left to the largest.
    """
    total = sum(amount for _, amount in sold)
    parts = sorted(sold, key=lambda part: -part[1])
    shares = [amount * WAD // total for _, amount in parts]
    shares[0] += WAD - sum(shares)
    return tuple(
        Portion(route, share) for (route, _), share in zip(parts, shares, strict=True) if share
    )
