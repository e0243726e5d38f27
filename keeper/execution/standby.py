"""The pools stand by for offers: a plan whose offer does not hold is proven again without it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic

from keeper.execution.judging import R
from keeper.execution.prove import Prover
from keeper.types import Plan, Reason, Skip, View
from keeper.units import Usd

_FAILED = frozenset({Reason.SIMULATION_FAILED, Reason.UNPROFITABLE})
"""Why a sale may do better over pools alone: what is merely late is not proven twice."""


class Standby(Generic[R]):
    """Proves plans as they are, then those that lost a quote with an offer over pools alone.

    `without_offers` returns such a plan, None when it does not pay. An offer that fails costs a
    second proof in one head, and no liquidation: what the first one proved stands where the second
    brings less.
    """

    def __init__(
        self, prover: Prover[R], without_offers: Callable[[Plan, View], Plan | None]
    ) -> None:
        self._prover = prover
        self._without_offers = without_offers

    async def prove(self, plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        """Return the plans that hold and why the rest does not (`Prover.prove`)."""
        proven, skips = await self._prover.prove(plans, view)
        failed = {(skip.market, skip.borrower) for skip in skips if skip.reason in _FAILED}
        changed: list[Plan] = []
        more: list[Skip] = []
        for plan in plans:
            lost = any(quote.fallback and quote.opportunity.key in failed for quote in plan.quotes)
            other = self._without_offers(plan, view) if lost else None
            if other is None:
                changed.append(plan)
            else:
                changed.append(replace(other, sender=plan.sender))
                more.extend(other.skips)
        if all(one is other for one, other in zip(changed, plans, strict=True)):
            return proven, skips
        again, why = await self._prover.prove(changed, view)
        if _net(again) < _net(proven):
            return proven, skips
        return again, [*more, *why]


def _net(plans: Sequence[Plan]) -> Usd:
    return Usd(sum(plan.net_usd for plan in plans))
