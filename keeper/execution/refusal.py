"""Skips for whole plans: one per opportunity, or one for a sweep, so that none goes missing."""

from collections.abc import Iterable

from keeper.types import Plan, Quote, Reason, Skip
from keeper.units import ZERO_ADDRESS

TREASURY = "treasury"
"""Stands for a strategy where a plan sweeps or converts."""


def skip_for(quote: Quote, reason: Reason, detail: str) -> Skip:
    """Return the skip of one priced opportunity."""
    position = quote.opportunity.position
    return Skip(
        position.market,
        position.protocol,
        position.borrower,
        reason,
        detail,
        quote.opportunity.strategy,
    )


def skips_for(plans: Iterable[Plan], reason: Reason, detail: str) -> list[Skip]:
    """Return a skip for every opportunity of some plans, and one for each plan that sweeps."""
    skips = []
    for plan in plans:
        if plan.sweep is not None:
            skips.append(Skip("", "", ZERO_ADDRESS, reason, detail, TREASURY))
        skips.extend(skip_for(quote, reason, detail) for quote in plan.quotes)
    return skips
