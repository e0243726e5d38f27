"""Who brings a batch down that fails as a whole, or a group that is undone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Generic

from keeper.errors import TransientError
from keeper.execution.bisect import Bisection
from keeper.execution.flight import Key
from keeper.execution.judging import R, Repack, Settle
from keeper.execution.refusal import skip_for, skips_for
from keeper.execution.simulate import Simulation, Simulator
from keeper.types import Plan, Reason, Skip, View

UNKNOWN = "left out of a batch that failed"


class Culprits(Generic[R]):
    """Halve what fails together until the bytes of the rest hold, within the head they are for."""

    def __init__(
        self,
        simulator: Simulator,
        decode: Callable[[bytes], R],
        settle: Settle[R],
        repack: Repack,
        explain: Callable[[bytes], str],
    ) -> None:
        self._simulator = simulator
        self._decode = decode
        self._settle = settle
        self._repack = repack
        self._explain = explain

    async def drop(
        self,
        plan: Plan,
        before: Sequence[Plan],
        simulation: Simulation,
        view: View,
        tries: int,
    ) -> tuple[Plan | None, list[Skip], int] | None:
        """Return what holds of a plan, why the rest does not, and the tries left.

        None when nobody fails together with others, or the return data cannot be read.
        """
        try:
            failed, together, why = self._faults(plan, simulation)
        except ValueError:
            return None
        if len(together) < 2:
            return None
        held: Plan | None = None

        async def holds(some: Sequence[Key]) -> str | None:
            nonlocal held
            others = {who: why for who in together if who not in some}
            part = self._repack(plan, {**failed, **others}, view)
            if part is None:
                return None
            part = replace(part, prices=plan.prices, sender=plan.sender)
            results = await self._simulator.simulate([*before, part], view.head, view.next_block)
            _, still, reason = self._faults(part, results[-1])
            if not still:
                held = part
            return reason if still else ""

        bisection = Bisection(holds, tries)
        try:
            await bisection.search(together, why)
        except (TransientError, ValueError) as error:
            return None, skips_for([plan], Reason.TIMEOUT, f"not simulated: {error}"), 0
        return held, self._skips(plan, held, failed, bisection, why), bisection.tries

    def why(self, simulation: Simulation) -> str:
        """Return why a whole plan fails; never empty."""
        words = self._explain(simulation.error) if simulation.error else simulation.message
        return words or "it fails without a reason"

    def _faults(self, plan: Plan, simulation: Simulation) -> tuple[dict[Key, str], list[Key], str]:
        """Return who fails alone and why, and who fails together and why."""
        everyone = _positions(plan)
        if not simulation.ok:
            return {}, everyone, self.why(simulation)
        settled = self._settle(plan, simulation.gas_used, self._decode(simulation.returndata))
        together = [who for who in everyone if who in settled.undone]
        alone = {who: why for who, why in settled.failed.items() if who not in settled.undone}
        return alone, together, settled.failed[together[0]] if together else ""

    def _skips(
        self,
        plan: Plan,
        held: Plan | None,
        failed: Mapping[Key, str],
        bisection: Bisection,
        why: str,
    ) -> list[Skip]:
        """Return a skip for everyone who is not in the plan that holds."""
        if held is None:
            return skips_for([plan], Reason.SIMULATION_FAILED, why)
        known = {**failed, **bisection.culprits}
        skips = list(held.skips)
        for quote in plan.quotes:
            who = quote.opportunity.key
            if who in known:
                skips.append(skip_for(quote, Reason.SIMULATION_FAILED, known[who]))
            elif who in bisection.left:
                skips.append(skip_for(quote, Reason.TIMEOUT, f"{UNKNOWN}: {why}"))
        return skips


def _positions(plan: Plan) -> list[Key]:
    return list(dict.fromkeys(quote.opportunity.key for quote in plan.quotes))
