"""Only what a simulation of the very bytes confirmed is sent."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic

from keeper.errors import TransientError
from keeper.execution.allowance import Allowance, is_too_much
from keeper.execution.culprits import Culprits
from keeper.execution.gas import GAS_LIMIT_CAP, gas_limit_up
from keeper.execution.judging import R, Repack, Settle, Settled
from keeper.execution.pricing import plan_prices
from keeper.execution.refusal import skip_for, skips_for
from keeper.execution.simulate import REQUEST_GAS, Simulation, Simulator, Way
from keeper.types import Plan, Reason, Skip, View

ROUNDS = 4
"""Simulations of one head: plans still changing after that are left for the next head."""

TRIES = 12
"""Simulations of one head to find out whose fault it is when a batch fails as a whole."""


class Prover(Generic[R]):
    """Simulate, drop what fails, and simulate again until the bytes that passed are the bytes sent.

    `decode` and `settle` raise ValueError for return data that is not what the plan's run returns.
    With an `allowance` plans are made no larger than the node simulates them.
    """

    def __init__(
        self,
        simulator: Simulator,
        decode: Callable[[bytes], R],
        settle: Settle[R],
        repack: Repack,
        explain: Callable[[bytes], str],
        rounds: int = ROUNDS,
        tries: int = TRIES,
        allowance: Allowance | None = None,
    ) -> None:
        self._simulator = simulator
        self._decode = decode
        self._settle = settle
        self._repack = repack
        self._culprits = Culprits(simulator, decode, settle, repack, explain)
        self._rounds = rounds
        self._tries = tries
        self._allowance = allowance

    async def prove(self, plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        """Return the plans that hold, in the order given, and a skip for everything that does not.

        A plan is proven behind the ones before it, so a change to one means simulating all again;
        when the rounds run out, only those before the first unproven one are kept. One that fails as a
        whole is halved until those are found who make it fail (`Culprits`), within this head.
        """
        fitting, late = _in_one_block(plans, view)
        waiting = [replace(plan, prices=plan_prices(plan, view)) for plan in fitting]
        skips = skips_for(late, Reason.TIMEOUT, "no room is left for it in the next block")
        proven: list[Plan] = []
        tries = self._tries
        for _ in range(self._rounds):
            if self._allowance is not None:
                together = self._simulator.way is Way.SIMULATE
                waiting, cut_off = self._allowance.cut(waiting, view, together=together)
                skips.extend(cut_off)
                if not waiting:
                    return [], skips
            try:
                results = await self._simulator.simulate(waiting, view.head, view.next_block)
            except TransientError as error:
                if is_too_much(error) and await self._is_starved(waiting, view):
                    continue
                return [], [*skips, *skips_for(waiting, Reason.TIMEOUT, f"not simulated: {error}")]
            judged = [
                self._judge(plan, simulation, view)
                for plan, simulation in zip(waiting, results, strict=True)
            ]
            is_failing = any(
                not holds and (given_up or not kept) for kept, given_up, holds in judged
            )
            if is_failing and await self._is_starved(waiting, view):
                continue
            proven = []
            following: list[Plan] = []
            unchanged = True
            for plan, simulation, verdict in zip(waiting, results, judged, strict=True):
                kept, given_up, holds = verdict
                if not holds and tries:
                    dropped = await self._culprits.drop(plan, following, simulation, view, tries)
                    kept, given_up, tries = dropped or (kept, given_up, tries)
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

    async def _is_starved(self, plans: Sequence[Plan], view: View) -> bool:
        """Whether the node turns out to give less gas than plans may take: nobody is to blame then."""
        if self._allowance is None:
            return False
        together = self._simulator.way is Way.SIMULATE
        return await self._allowance.explains(plans, view.head, together=together)

    def _judge(
        self, plan: Plan, simulation: Simulation, view: View
    ) -> tuple[Plan | None, list[Skip], bool]:
        """Return the plan to go on with, what is given up, and whether the bytes held as they are."""
        if not simulation.ok:
            skips = skips_for([plan], Reason.SIMULATION_FAILED, self._culprits.why(simulation))
            return None, skips, False
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


def _in_one_block(plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Plan]]:
    """Return the plans that one block holds behind each other, and those that wait for another.

    What a request or a block has no gas left for would fail for no fault of its own.
    """
    most = min(view.head.gas_limit, REQUEST_GAS)
    fitting: list[Plan] = []
    used = 0
    for plan in plans:
        if fitting and used + plan.gas_limit > most:
            break
        fitting.append(plan)
        used += plan.gas
    return fitting, list(plans[len(fitting) :])


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
    """Return a skip for each position that held and alone is not worth a transaction."""
    return [
        skip_for(quote, Reason.UNPROFITABLE, "does not pay without those that failed")
        for quote in plan.quotes
        if quote.opportunity.key not in settled.failed
    ]


def _missing(plan: Plan, settled: Settled) -> list[Skip]:
    """Return a skip for each failed position that has none yet."""
    told = {(skip.market, skip.borrower) for skip in settled.skips}
    return [
        skip_for(quote, Reason.SIMULATION_FAILED, settled.failed[quote.opportunity.key])
        for quote in plan.quotes
        if quote.opportunity.key in settled.failed.keys() - told
    ]
