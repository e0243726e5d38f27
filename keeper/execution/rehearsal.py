"""Dry mode: what would have been sent, told once per position and then held back for a while."""

from collections.abc import Sequence

from keeper.execution.flight import Key
from keeper.execution.refusal import skip_for, skips_for
from keeper.execution.tracker import Observe
from keeper.ports import Admission, Journal
from keeper.types import Dropped, Plan, Quote, Reason, Skip
from keeper.units import Usd

HOLD = 25
"""Heads for which a position told of is held back: the chain still shows it as liquidatable."""


class Rehearsal:
    """Take plans to the moment before signing; never signs, never sends."""

    def __init__(
        self, journal: Journal, admission: Admission, observe: Observe, hold: int = HOLD
    ) -> None:
        self._journal = journal
        self._admission = admission
        self._observe = observe
        self._hold = hold
        self._told: dict[Key, int] = {}

    async def rehearse(self, plans: Sequence[Plan]) -> list[Skip]:
        """Report each plan's profit and return skips for what is refused or was told before."""
        skips: list[Skip] = []
        for plan in plans:
            fresh = [quote for quote in plan.quotes if not self._is_told(quote, plan.head.number)]
            skips.extend(
                skip_for(quote, Reason.COOLDOWN, "dry: already told")
                for quote in plan.quotes
                if quote not in fresh
            )
            if fresh:
                skips.extend(await self._tell(plan, fresh))
        return skips

    def cooling(self, number: int) -> frozenset[Key]:
        """Return the positions held back at a head."""
        return frozenset(key for key, told in self._told.items() if 0 <= number - told < self._hold)

    async def _tell(self, plan: Plan, fresh: Sequence[Quote]) -> list[Skip]:
        refusal = self._admission.admit(plan)
        if refusal is not None:
            return skips_for([plan], refusal.reason, refusal.detail)
        dropped = Dropped(plan.id, None, "dry")
        await self._journal.planned(plan)
        await self._journal.settled(dropped)
        self._admission.settle(dropped)
        net = plan.net_usd
        if len(fresh) < len(plan.quotes):
            net = Usd(sum(quote.net_usd for quote in fresh))
        self._observe("plan.dry", {"plan": plan, "net_usd": net, "items": len(fresh)})
        number = plan.head.number
        held = self.cooling(number)
        self._told = {key: told for key, told in self._told.items() if key in held}
        self._told.update((quote.opportunity.key, number) for quote in fresh)
        return []

    def _is_told(self, quote: Quote, number: int) -> bool:
        return quote.opportunity.key in self.cooling(number)
