"""The pools stand by for offers: a plan whose offer does not hold is proven again without it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic

from keeper.execution.judging import R
from keeper.execution.prove import Prover
from keeper.types import Plan, Skip, View


class Standby(Generic[R]):
    """Proves plans as they are, then those that lost a quote with an offer over pools alone.

    `without_offers` returns such a plan, None when it does not pay. An offer that fails costs two
    more simulations in one head, and no liquidation.
    """

    def __init__(
        self, prover: Prover[R], without_offers: Callable[[Plan, View], Plan | None]
    ) -> None:
        self._prover = prover
        self._without_offers = without_offers

    async def prove(self, plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        """Return the plans that hold and why the rest does not (`Prover.prove`)."""
        proven, skips = await self._prover.prove(plans, view)
        held = {quote.key for plan in proven for quote in plan.quotes}
        changed: list[Plan] = []
        more: list[Skip] = []
        for plan in plans:
            lost = any(quote.fallback and quote.key not in held for quote in plan.quotes)
            other = self._without_offers(plan, view) if lost else None
            if other is None:
                changed.append(plan)
            else:
                changed.append(replace(other, sender=plan.sender))
                more.extend(other.skips)
        if all(one is other for one, other in zip(changed, plans, strict=True)):
            return proven, skips
        proven, skips = await self._prover.prove(changed, view)
        return proven, [*more, *skips]
