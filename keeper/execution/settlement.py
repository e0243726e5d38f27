"""A transaction's receipt as a noun, valued by the plan's own prices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keeper.chain.parse import blob, logs, quantity
from keeper.execution.pricing import gain_usd_down, native_usd_up
from keeper.types import Included, ItemOutcome, Log, Plan, Reverted
from keeper.units import BPS, Address, Hash, Usd, Wei


@dataclass(frozen=True, slots=True)
class Realised:
    """What a run did, from its event: gains per token after tip and refill, and each borrower."""

    gains: Mapping[Address, int]
    items: tuple[ItemOutcome, ...]
    tip: Wei
    refill: Wei


Realise = Callable[[Plan, Sequence[Log]], Realised]
"""Reads the contract's event out of a receipt's logs; raises ValueError when it is not there."""


def included(
    plan: Plan, receipt: Mapping[str, Any], timestamp: int, realise: Realise
) -> tuple[Included, Wei]:
    """Value a successful receipt, and return the refill; raises ValueError without a run's event.

    Tip and refill left the gains as native coin: both are revenue, the tip a cost beside the gas.
    """
    realised = realise(plan, logs(receipt["logs"]))
    gained, _ = gain_usd_down(plan, realised.gains)
    tip = native_usd_up(plan, realised.tip)
    refill = native_usd_up(plan, realised.refill)
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
        gains=dict(realised.gains),
        items=realised.items,
        revenue_usd=revenue,
        gas_cost_usd=gas,
        tip_usd=tip,
        net_usd=Usd(revenue - gas - tip),
    )
    return outcome, realised.refill


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
    )


def gas_paid(receipt: Mapping[str, Any]) -> Wei:
    """Return what the transaction paid for gas, a rollup's fee for its parent chain included."""
    own = quantity(receipt["gasUsed"]) * quantity(receipt["effectiveGasPrice"])
    return Wei(own + quantity(receipt.get("l1Fee") or "0x0"))


def error_bps(realised: Usd, expected: Usd) -> int:
    """Return how far a realised profit is from the expected one, rounded towards minus infinity."""
    return (realised - expected) * BPS // max(abs(expected), 1)
