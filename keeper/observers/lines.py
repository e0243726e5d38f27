"""Writes log lines: one per head that matters, one per event."""

from typing import Any

import structlog

from keeper.engine import Report
from keeper.observers.observation import Event, Observer
from keeper.types import (
    Cancelled,
    Dropped,
    Included,
    Plan,
    Replaced,
    Reverted,
)
from keeper.units import USD, to_hex

log = structlog.get_logger(__name__)

LOUD = {
    "plan.reverted",
    "plan.refused",
    "plan.unsigned",
    "plan.dropped",
    "plan.stuck",
    "plan.reorged",
    "nonce.foreign",
    "executor.drain_failed",
    "wallet.low",
    "treasury.no_rules",
    "treasury.refused",
    "treasury.unread",
}
"""Events an operator should look at."""


def tell_log(chain: str) -> Observer:
    """Return an observer that writes one line per head that matters and one per event."""

    def observe(subject: Report | Event) -> None:
        if isinstance(subject, Event):
            _log_event(subject)
            return
        took = sum(subject.stages.values())
        line = log.info if subject.plans or subject.receipts else log.debug
        line(
            "head.processed",
            chain=chain,
            head=subject.view.head.number,
            at_risk=len(subject.view.at_risk),
            selected=len(subject.choices),
            quoted=len(subject.quotes),
            planned=len(subject.plans),
            sent=len(subject.sent),
            took=f"{took:.3f}s",
        )

    return observe


def fields_of(event: Event) -> dict[str, Any]:
    """Return what an event says, as people and machines can read it."""
    fields: dict[str, Any] = {"chain": event.chain}
    for key, value in event.fields.items():
        match value:
            case Plan():
                fields |= {"plan": value.id, "items": len(value.quotes)}
                fields["expected_usd"] = round(value.net_usd / USD, 2)
                if value.sweep is not None:
                    held = value.sweep
                    fields["sweeps" if value.conversion is None else "sells"] = (
                        f"{held.amount / 10**held.token.decimals:g} {held.token.symbol}"
                    )
            case Included():
                fields |= {
                    "block": value.block_number,
                    "tx": to_hex(value.tx_hash),
                    "gas": value.gas_used,
                    "net_usd": round(value.net_usd / USD, 2),
                    "liquidated": sum(item.ok for item in value.items),
                }
            case Reverted():
                fields |= {
                    "block": value.block_number,
                    "tx": to_hex(value.tx_hash),
                    "gas": value.gas_used,
                    "reason": value.reason,
                }
            case Dropped():
                fields["reason"] = value.reason
            case Replaced() | Cancelled():
                fields |= {"tx": to_hex(value.tx_hash), "by": to_hex(value.by)}
            case bytes():
                fields[key] = to_hex(value)
            case _:
                fields[key] = value
    return fields


def _log_event(event: Event) -> None:
    loud = event.name in LOUD or "unpriced" in event.fields
    (log.warning if loud else log.info)(event.name, **fields_of(event))
