"""Whether a transaction that waits is still worth its gas, asked of the chain as it is now."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from keeper.execution.judging import Settle
from keeper.execution.simulate import Simulation, Simulator
from keeper.fees import Inclusion
from keeper.types import Fees, Head, Plan
from keeper.units import ZERO_ADDRESS, Usd, Wei, mul_div_up

R = TypeVar("R")

NATIVE_UNIT = 10**18


@dataclass(frozen=True, slots=True)
class Gone:
    """The opportunity does not exist any more, and why."""

    reason: str


Look = Callable[[Plan, Head], Awaitable[Plan | Gone | None]]
"""Simulates a sent plan again: with its figures now, gone, or None when only a part of it holds."""


class Recheck(Generic[R]):
    """Simulate a sent plan's very bytes again at a new head; raises `TransientError` when it cannot."""

    def __init__(
        self,
        simulator: Simulator,
        decode: Callable[[bytes], R],
        settle: Settle[R],
        explain: Callable[[bytes], str],
        block_time: int,
        inclusion: Inclusion = Inclusion.AUCTION,
        refresh: Callable[[Plan], Plan] = lambda plan: plan,
    ) -> None:
        self._simulator = simulator
        self._decode = decode
        self._settle = settle
        self._explain = explain
        self._block_time = block_time
        self._inclusion = inclusion
        self._refresh = refresh

    async def __call__(self, plan: Plan, head: Head) -> Plan | Gone | None:
        """Return the plan with what it would bring in the next block, or that it is gone.

        Where only some of its items still hold, it has those alone, with what they bring at the gas of
        all; None when that cannot be told: it may go through as it is.
        """
        result = await self._simulate(plan, head)
        if isinstance(result, Gone):
            return result
        try:
            decoded = self._decode(result.returndata)
            settled = self._settle(self._refresh(plan), result.gas_used, decoded)
        except ValueError as error:
            return Gone(str(error))
        if settled.plan is not None:
            return settled.plan
        if settled.part is not None:
            return settled.part
        if any(quote.opportunity.key not in settled.failed for quote in plan.quotes):
            return None
        return Gone("; ".join(sorted(set(settled.failed.values()))))

    async def failing(self, plan: Plan, head: Head) -> Gone | None:
        """Return why a plan that answers nothing, a sale of profit, would fail now; None if not."""
        result = await self._simulate(plan, head)
        return result if isinstance(result, Gone) else None

    async def _simulate(self, plan: Plan, head: Head) -> Simulation | Gone:
        at = head.next_block(self._block_time, self._inclusion)
        # the node would refuse to run what does not pay the base fee: that is not the question
        payable = replace(
            plan, bid=replace(plan.bid, max_fee=Wei(max(plan.bid.max_fee, 2 * at.base_fee)))
        )
        (result,) = await self._simulator.simulate([payable], head, at)
        if not result.ok:
            return Gone(self._explain(result.error) if result.error else result.message)
        return result


def most_per_gas_down(plan: Plan, cap: Wei) -> Wei:
    """Return the most a plan may offer per gas: its whole limit never costs more than it brings.

    What it brings is its net before gas less its quotes' minimum profits; 0 when nothing is left or
    the native coin has no price.
    """
    price = plan.prices.get(ZERO_ADDRESS)
    if not price:
        return Wei(0)
    gas_usd = mul_div_up(plan.gas_cost - plan.data_fee, price, NATIVE_UNIT)
    left = plan.net_usd + gas_usd - minimum_usd_up(plan)
    return Wei(min(max(left, 0) * NATIVE_UNIT // (price * plan.gas_limit), cap))


def minimum_usd_up(plan: Plan) -> Usd:
    """Return the least profit a plan's quotes ask for together, in dollars, rounded up."""
    return Usd(
        sum(
            mul_div_up(
                quote.minimum_profit, max(quote.gross_usd, 0), max(quote.proceeds - quote.repaid, 1)
            )
            for quote in plan.quotes
        )
    )


def at_fees(plan: Plan, fees: Fees, next_base_fee: Wei) -> Plan:
    """Return the plan with other fees, its expected net less what its gas costs more."""
    bid = replace(plan.bid, max_fee=fees.max_fee, priority_fee=fees.priority_fee)
    gas_cost = Wei(plan.gas * fees.price(next_base_fee) + plan.data_fee)
    more = mul_div_up(max(gas_cost - plan.gas_cost, 0), plan.prices[ZERO_ADDRESS], NATIVE_UNIT)
    return replace(plan, bid=bid, gas_cost=gas_cost, net_usd=Usd(plan.net_usd - more))
