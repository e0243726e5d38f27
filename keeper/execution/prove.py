"""Only what a simulation of the very bytes confirmed is sent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from keeper.errors import TransientError
from keeper.execution.gas import GAS_LIMIT_CAP, gas_limit_up
from keeper.execution.pricing import plan_prices
from keeper.execution.refusal import skip_for, skips_for
from keeper.execution.simulate import Simulation, Simulator
from keeper.types import Plan, Reason, Skip, View
from keeper.units import Address

ROUNDS = 4
"""Simulations of one head: plans still changing after that are left for the next head."""

R = TypeVar("R")


class Settled(Protocol):
    """What a simulated result means for its plan: the plan with true figures, or what to drop."""

    @property
    def plan(self) -> Plan | None:
        """Return the plan with realised net and gas, None when it no longer pays."""
        ...

    @property
    def failed(self) -> Mapping[Address, str]:
        """Return the borrowers whose liquidation failed, each with its reason."""
        ...

    @property
    def skips(self) -> Sequence[Skip]:
        """Return the opportunities given up."""
        ...


Settle = Callable[[Plan, int, R], Settled]
"""Judges a plan by the gas and the decoded result of its simulation."""

Repack = Callable[[Plan, Mapping[Address, str], View], Plan | None]
"""Packs a plan again without the failed borrowers; None when nothing worth sending is left."""


class Prover(Generic[R]):
    """Simulate, drop what fails, and simulate again until the bytes that passed are the bytes sent.

    `decode` and `settle` raise ValueError for return data that is not what the plan's run returns.
    """

    def __init__(
        self,
        simulator: Simulator,
        decode: Callable[[bytes], R],
        settle: Settle[R],
        repack: Repack,
        explain: Callable[[bytes], str],
        rounds: int = ROUNDS,
    ) -> None:
        self._simulator = simulator
        self._decode = decode
        self._settle = settle
        self._repack = repack
        self._explain = explain
        self._rounds = rounds

    async def prove(self, plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        """Return the plans that hold, in the order given, and a skip for everything that does not.

        A plan is proven behind the ones before it, so a change to one means simulating all again;
        when the rounds run out, only those before the first unproven one are kept.
        """
        waiting = [replace(plan, prices=plan_prices(plan, view)) for plan in plans]
        skips: list[Skip] = []
        proven: list[Plan] = []
        for _ in range(self._rounds):
            try:
                results = await self._simulator.simulate(waiting, view.head, view.next_block)
            except TransientError as error:
                return [], [*skips, *skips_for(waiting, Reason.TIMEOUT, f"not simulated: {error}")]
            proven, following = [], []
            unchanged = True
            for plan, simulation in zip(waiting, results, strict=True):
                kept, given_up, holds = self._judge(plan, simulation, view)
                skips.extend(given_up)
                unchanged = unchanged and holds
                if kept is not None:
                    following.append(kept)
                    if unchanged:
                        proven.append(kept)
            if unchanged or not following:
                return proven, skips
            waiting = following
        left = waiting[len(proven) :]
        skips.extend(skips_for(left, Reason.TIMEOUT, "still changing after the last simulation"))
        return proven, skips

    def _judge(
        self, plan: Plan, simulation: Simulation, view: View
    ) -> tuple[Plan | None, list[Skip], bool]:
        """Return the plan to go on with, what is given up, and whether the bytes held as they are."""
        if not simulation.ok:
            why = self._explain(simulation.error) if simulation.error else simulation.message
            return None, skips_for([plan], Reason.SIMULATION_FAILED, why), False
        try:
            result = self._decode(simulation.returndata)
            settled = self._settle(plan, simulation.gas_used, result)
        except ValueError as error:
            return None, skips_for([plan], Reason.SIMULATION_FAILED, str(error)), False
        if settled.failed:
            skips = [*settled.skips, *_missing(plan, settled)]
            again = self._repack(plan, settled.failed, view)
            if again is None:
                return None, [*skips, *_left(plan, settled)], False
            return (
                replace(again, prices=plan.prices, sender=plan.sender),
                [*skips, *again.skips],
                False,
            )
        if settled.plan is None:
            return None, list(settled.skips), False
        kept = _roomy(settled.plan, simulation)
        return kept, list(settled.skips), _same_transaction(plan, kept)


def _roomy(plan: Plan, simulation: Simulation) -> Plan:
    """Give a plan the gas its simulation asks for, when its own estimate is less."""
    needed = gas_limit_up(simulation.gas_used) + plan.data_gas if simulation.measured else 0
    needed = min(needed, GAS_LIMIT_CAP)
    return replace(plan, gas_limit=needed) if needed > plan.gas_limit else plan


def _same_transaction(before: Plan, after: Plan) -> bool:
    return (
        before.calldata == after.calldata
        and before.gas_limit == after.gas_limit
        and before.fees == after.fees
    )


def _left(plan: Plan, settled: Settled) -> list[Skip]:
    """Return a skip for each borrower that held and alone is not worth a transaction."""
    return [
        skip_for(quote, Reason.UNPROFITABLE, "does not pay without those that failed")
        for quote in plan.quotes
        if quote.opportunity.position.borrower not in settled.failed
    ]


def _missing(plan: Plan, settled: Settled) -> list[Skip]:
    """Return a skip for each failed borrower that has none yet."""
    told = {skip.borrower for skip in settled.skips}
    return [
        skip_for(
            quote, Reason.SIMULATION_FAILED, settled.failed[quote.opportunity.position.borrower]
        )
        for quote in plan.quotes
        if quote.opportunity.position.borrower in settled.failed.keys() - told
    ]
