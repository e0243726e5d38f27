"""Why a position was or was not liquidated, as the journal knows it."""

from dataclasses import dataclass
from typing import Any

from keeper.types import Reason

ABOUT_A_PLAN = frozenset({Reason.IN_FLIGHT, Reason.COOLDOWN})
"""Reasons that hold a position back because a plan has it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One episode of a position at risk; `record` is the whole opportunity as JSON.

    `toxic` says that a liquidation in part would have left it less healthy.
    """

    id: int
    time: float
    chain: str
    head: int
    market: str
    protocol: str
    borrower: str
    strategy: str
    cause: str
    health: int
    collateral_value: int
    debt_value: int
    record: dict[str, Any]
    toxic: bool


@dataclass(frozen=True, slots=True)
class Skipped:
    """A reason from the head where it began to hold."""

    time: float
    chain: str
    head: int
    market: str
    protocol: str
    borrower: str
    strategy: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Item:
    """One liquidation of a plan: planned figures, and how it ended; `gain` None before that."""

    market: str
    protocol: str
    borrower: str
    strategy: str
    debt: str
    repaid: int
    proceeds: int
    premium: int
    net: int
    net_usd: int
    outcome: str
    gain: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Sent:
    """One signed transaction of a plan and where it stands."""

    hash: str
    sender: str
    nonce: int
    state: str
    error: str
    signed: float
    sent: float | None
    settled: float | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A receipt; figures of an outcome that has none are None."""

    time: float
    hash: str | None
    outcome: str
    reason: str
    block_number: int | None
    block_time: int | None
    gas_used: int | None
    gas_price: int | None
    gas_cost_usd: int | None
    revenue_usd: int | None
    tip_usd: int | None
    net_usd: int | None
    gains: dict[str, int]
    data_fee: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with its items, transactions and receipts; `record` is the whole plan as JSON."""

    id: str
    time: float
    chain: str
    head: int
    contract: str
    gas_limit: int
    gas: int
    gas_cost: int
    gross_usd: int
    net_usd: int
    repaid_usd: int
    record: dict[str, Any]
    items: tuple[Item, ...]
    transactions: tuple[Sent, ...]
    receipts: tuple[Ended, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything on record about one borrower, opportunity, plan or transaction, oldest first."""

    kind: str
    id: str
    verdict: str
    opportunities: tuple[Seen, ...]
    skips: tuple[Skipped, ...]
    plans: tuple[Planned, ...]


def verdict(
    seen: tuple[Seen, ...],
    skips: tuple[Skipped, ...],
    plans: tuple[Planned, ...],
    borrower: str | None,
) -> str:
    """Say in one line how it stands: the newest word on record wins.

    A skip that only says that a plan holds the position is no newer word than the plan's own.
    """
    own = [skip for skip in skips if skip.reason not in ABOUT_A_PLAN]
    if plans and (not own or _is_newer(plans[-1], own[-1])):
        return _of_plan(plans[-1], borrower)
    if skips:
        last = (own or skips)[-1]
        detail = f": {last.detail}" if last.detail else ""
        return f"skipped since head {last.head}: {last.reason}{detail}"
    if seen:
        return f"chosen at head {seen[-1].head} by {seen[-1].strategy}, not planned"
    return "nothing on record"


def _is_newer(plan: Planned, skip: Skipped) -> bool:
    """Whether a plan spoke last; a skip of its own head is about a pair it did not take."""
    last = max([plan.time, *(receipt.time for receipt in plan.receipts)])
    return last >= skip.time or plan.head >= skip.head


def _of_plan(plan: Planned, borrower: str | None) -> str:
    if not plan.receipts:
        if plan.transactions:
            last = plan.transactions[-1]
            state = "sent" if last.state == "seen" else last.state
            return f"{state} in {last.hash} with nonce {last.nonce}, no receipt yet"
        return f"planned at head {plan.head}, not signed"
    receipt = plan.receipts[-1]
    where = f" in block {receipt.block_number}" if receipt.block_number is not None else ""
    tx = f", transaction {receipt.hash}" if receipt.hash else ""
    reason = f": {receipt.reason}" if receipt.reason else ""
    mine = [item for item in plan.items if borrower in {None, item.borrower}]
    if receipt.outcome == "included":
        if plan.record.get("conversion"):
            return f"sold by the owner's rule{where}{tx}"
        if plan.record.get("sweep"):
            return f"swept to the treasury{where}{tx}"
        done = sum(item.outcome == "liquidated" for item in mine)
        if borrower is None:
            return f"liquidated {done} of {len(mine)}{where}{tx}"
        if done:
            return f"liquidated{where}{tx}"
        why = next((item.reason for item in mine if item.reason), "no reason reported")
        return f"failed{where}{tx}: {why}"
    return f"{receipt.outcome}{where}{tx}{reason}"
