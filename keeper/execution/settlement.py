"""A transaction's receipt as a noun, valued by the plan's own prices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from keeper.chain.parse import blob, logs, quantity
from keeper.execution.pricing import gain_usd_down, native_usd_up
from keeper.execution.rollup import beside_gas
from keeper.execution.sweeping import swept
from keeper.types import Cancelled, Included, ItemOutcome, Log, Plan, Reverted
from keeper.units import BPS, Address, Hash, Usd, Wei


class Ran(Protocol):
    """The contract's own account of a run: indexes of items that held, gains after tip and refill."""

    @property
    def items(self) -> Sequence[int]:
        """Return which items held, numbered as the plan's quotes."""
        ...

    @property
    def gains(self) -> Mapping[Address, int]:
        """Return what each listed token gained."""
        ...

    @property
    def tip(self) -> int:
        """Return the wei paid to the block's builder."""
        ...

    @property
    def refill(self) -> int:
        """Return the wei paid to the operator."""
        ...


DecodeRuns = Callable[[Sequence[Log], Address], Sequence[Ran]]
"""Reads the runs of a contract out of a receipt's logs."""


def item_outcomes(plan: Plan, ran: Ran) -> tuple[ItemOutcome, ...]:
    """Share each debt token's gain among the items that held, as planned, to the wei."""
    held = set(ran.items)
    planned = {
        index: max(quote.proceeds - quote.repaid - quote.premium, 0)
        for index, quote in enumerate(plan.quotes)
        if index in held
    }
    shares: dict[int, int] = {}
    for token in {plan.quotes[index].debt.address for index in planned}:
        same = [index for index in planned if plan.quotes[index].debt.address == token]
        gain = ran.gains.get(token, 0)
        total = max(sum(planned[index] for index in same), 1)
        shares.update((index, gain * planned[index] // total) for index in same)
        shares[same[0]] += gain - sum(shares[index] for index in same)
    return tuple(
        ItemOutcome.of(
            quote,
            index in held,
            shares.get(index, 0),
            "" if index in held else "it or its group failed on the chain",
        )
        for index, quote in enumerate(plan.quotes)
    )


@dataclass(frozen=True, slots=True)
class Booked:
    """A valued receipt, the wei refilled, and the gained tokens that no price was known for.

    Revenue does not hold the unpriced ones: it is what is known to have come in at least.
    """

    receipt: Included
    refill: Wei
    unpriced: frozenset[Address]


def included(plan: Plan, receipt: Mapping[str, Any], timestamp: int, decode: DecodeRuns) -> Booked:
    """Value a successful receipt; raises ValueError without a run's event, unless it is a sweep's.

    Tip and refill left the gains as native coin: both are revenue, the tip a cost beside the gas.
    """
    if plan.sweep is not None:
        gas = native_usd_up(plan, gas_paid(receipt))
        moved = swept(plan, plan.sweep, receipt, timestamp, gas)
        return Booked(moved, moved.refill, frozenset())
    runs = decode(logs(receipt["logs"]), plan.contract)
    if len(runs) != 1:
        raise ValueError(f"{len(runs)} runs in its logs")
    ran = runs[0]
    gained, unpriced = gain_usd_down(plan, ran.gains)
    tip = native_usd_up(plan, ran.tip)
    refill = native_usd_up(plan, ran.refill)
    gas = native_usd_up(plan, gas_paid(receipt))
    revenue = Usd(gained + tip + refill)
    outcome = Included(
        plan_id=plan.id,
        tx_hash=Hash(blob(receipt["transactionHash"])),
        block_number=quantity(receipt["blockNumber"]),
        block_hash=Hash(blob(receipt["blockHash"])),
        timestamp=timestamp,
        gas_used=quantity(receipt["gasUsed"]),
        gas_price=Wei(quantity(receipt["effectiveGasPrice"])),
        gains=dict(ran.gains),
        items=item_outcomes(plan, ran),
        revenue_usd=revenue,
        gas_cost_usd=gas,
        tip_usd=tip,
        net_usd=Usd(revenue - gas - tip),
        refill=Wei(ran.refill),
        data_fee=beside_gas(receipt),
    )
    return Booked(outcome, Wei(ran.refill), unpriced)


def unreadable(plan: Plan, receipt: Mapping[str, Any], timestamp: int, why: str) -> Booked:
    """Book a successful receipt that tells nothing: its gas was paid, nothing is known to be won."""
    gas = native_usd_up(plan, gas_paid(receipt))
    outcome = Included(
        plan_id=plan.id,
        tx_hash=Hash(blob(receipt["transactionHash"])),
        block_number=quantity(receipt["blockNumber"]),
        block_hash=Hash(blob(receipt["blockHash"])),
        timestamp=timestamp,
        gas_used=quantity(receipt["gasUsed"]),
        gas_price=Wei(quantity(receipt["effectiveGasPrice"])),
        items=tuple(ItemOutcome.of(quote, False, 0, why) for quote in plan.quotes),
        gas_cost_usd=gas,
        net_usd=Usd(-gas),
        data_fee=beside_gas(receipt),
    )
    return Booked(outcome, Wei(0), frozenset())


def reverted(plan: Plan, receipt: Mapping[str, Any], reason: str) -> Reverted:
    """Value a failed receipt: its gas is all it cost."""
    return Reverted(
        plan_id=plan.id,
        tx_hash=Hash(blob(receipt["transactionHash"])),
        block_number=quantity(receipt["blockNumber"]),
        gas_used=quantity(receipt["gasUsed"]),
        gas_price=Wei(quantity(receipt["effectiveGasPrice"])),
        reason=reason,
        gas_cost_usd=native_usd_up(plan, gas_paid(receipt)),
        data_fee=beside_gas(receipt),
    )


def cancelled(plan: Plan, receipt: Mapping[str, Any]) -> Cancelled:
    """Value the receipt of an empty transaction that took a plan's nonce back."""
    tx_hash = Hash(blob(receipt["transactionHash"]))
    return Cancelled(
        plan_id=plan.id,
        tx_hash=tx_hash,
        by=tx_hash,
        block_number=quantity(receipt["blockNumber"]),
        gas_used=quantity(receipt["gasUsed"]),
        gas_price=Wei(quantity(receipt["effectiveGasPrice"])),
        gas_cost_usd=native_usd_up(plan, gas_paid(receipt)),
        data_fee=beside_gas(receipt),
    )


def gas_paid(receipt: Mapping[str, Any]) -> Wei:
    """Return what the transaction paid for gas, and what a rollup charged beside it."""
    own = quantity(receipt["gasUsed"]) * quantity(receipt["effectiveGasPrice"])
    return Wei(own + beside_gas(receipt))


def error_bps(realised: Usd, expected: Usd) -> int:
    """Return how far a realised profit is from the expected one, rounded towards minus infinity."""
    return (realised - expected) * BPS // max(abs(expected), 1)
