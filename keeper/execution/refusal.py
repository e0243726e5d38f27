"""Skips for whole plans: one per opportunity, so that none goes missing."""

from collections.abc import Iterable

from keeper.types import Plan, Quote, Reason, Skip


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
    """Return a skip for every opportunity of some plans."""
    return [skip_for(quote, reason, detail) for plan in plans for quote in plan.quotes]
