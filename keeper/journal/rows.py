"""Statements that write one noun each."""

import sqlite3
from collections.abc import Mapping
from typing import Any

import orjson

from keeper.journal.codec import dump, dump_whole
from keeper.journal.liquidations import OURS
from keeper.types import (
    Cancelled,
    Dropped,
    Included,
    Opportunity,
    Plan,
    Receipt,
    Replaced,
    Reverted,
    Signed,
    Skip,
)
from keeper.units import to_hex

STATES = {
    Included: "included",
    Reverted: "reverted",
    Dropped: "dropped",
    Replaced: "replaced",
    Cancelled: "cancelled",
}
"""What a receipt of each kind is called, in the record and in metrics."""


def text(record: object) -> str:
    """Return a dumped noun as JSON text."""
    return orjson.dumps(record).decode()


_SIGNED_AGAIN = (
    "ON CONFLICT (hash) DO UPDATE SET plan = excluded.plan, state = excluded.state, "
    "signed = excluded.signed, error = '', sent = NULL, settled = NULL, final = 0"
)


_ITEM_COLUMNS = (
    *("plan", "position", "market", "protocol", "borrower", "strategy", "debt"),
    *("repaid", "proceeds", "premium", "net", "net_usd"),
)
_ITEM = (
    f"INSERT INTO items ({', '.join(_ITEM_COLUMNS)}) "  # noqa: S608  # our own names
    f"VALUES ({', '.join('?' * len(_ITEM_COLUMNS))})"
)


def _insert(
    connection: sqlite3.Connection, table: str, row: Mapping[str, object], conflict: str = ""
) -> None:
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    sql = f"INSERT INTO {table} ({names}) VALUES ({marks}) {conflict}"  # noqa: S608  # our own names
    connection.execute(sql, tuple(row.values()))


def write_opportunity(
    connection: sqlite3.Connection, time: float, chain: str, head: int, found: Opportunity
) -> None:
    """Record a position a strategy chose, with its legs and the pairs it allows."""
    position = found.position
    row = {
        "time": time,
        "chain": chain,
        "head": head,
        "market": position.market,
        "protocol": position.protocol,
        "borrower": to_hex(position.borrower),
        "strategy": found.strategy,
        "cause": str(found.cause),
        "health": str(position.health),
        "collateral_value": str(position.collateral_value),
        "debt_value": str(position.debt_value),
        "record": text(dump_whole(found)),
    }
    _insert(connection, "opportunities", row)


def write_skip(
    connection: sqlite3.Connection, time: float, chain: str, head: int, skip: Skip
) -> None:
    """Record why a position was not taken."""
    row = {
        "time": time,
        "chain": chain,
        "head": head,
        "market": skip.market,
        "protocol": skip.protocol,
        "borrower": to_hex(skip.borrower),
        "strategy": skip.strategy,
        "reason": str(skip.reason),
        "detail": skip.detail,
    }
    _insert(connection, "skips", row)


def write_plan(connection: sqlite3.Connection, time: float, plan: Plan) -> None:
    """Record a plan and its items; the same plan again replaces them."""
    connection.execute("DELETE FROM items WHERE plan = ?", (plan.id,))
    row = {
        "id": plan.id,
        "time": time,
        "chain": plan.chain,
        "head": plan.head.number,
        "contract": to_hex(plan.contract),
        "gas_limit": plan.gas_limit,
        "gas": plan.gas,
        "gas_cost": str(plan.gas_cost),
        "gross_usd": str(plan.gross_usd),
        "net_usd": str(plan.net_usd),
        "repaid_usd": str(plan.repaid_usd),
        "record": text(dump(plan)),
    }
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    changes = ", ".join(f"{name} = excluded.{name}" for name in row if name != "id")
    connection.execute(
        f"INSERT INTO plans ({names}) VALUES ({marks}) "  # noqa: S608  # the names are our own
        f"ON CONFLICT (id) DO UPDATE SET {changes}",
        tuple(row.values()),
    )
    connection.executemany(_ITEM, [_item(plan, index) for index in range(len(plan.quotes))])


def _item(plan: Plan, index: int) -> tuple[object, ...]:
    """Return the values of one item, in the order of `_ITEM_COLUMNS`."""
    quote = plan.quotes[index]
    position = quote.opportunity.position
    return (
        plan.id,
        index,
        position.market,
        position.protocol,
        to_hex(position.borrower),
        quote.opportunity.strategy,
        to_hex(quote.debt.address),
        str(quote.repaid),
        str(quote.proceeds),
        str(quote.premium),
        str(quote.net),
        str(quote.net_usd),
    )


def write_signed(connection: sqlite3.Connection, time: float, signed: Signed) -> None:
    """Record the bytes that may be sent; bytes refused once and made again are open again."""
    row = {
        "hash": to_hex(signed.hash),
        "plan": signed.plan.id,
        "chain": signed.plan.chain,
        "sender": to_hex(signed.sender),
        "nonce": signed.nonce,
        "raw": signed.raw,
        "state": "signed",
        "signed": time,
        "max_fee": str(signed.plan.bid.max_fee),
        "priority_fee": str(signed.plan.bid.priority_fee),
        "cancels": int(signed.cancels),
        "private": int(signed.private),
    }
    _insert(connection, "transactions", row, _SIGNED_AGAIN)


def write_sent(
    connection: sqlite3.Connection, time: float, signed: Signed, error: str | None
) -> None:
    """Record that the bytes were handed over, or how that failed; without error a node has them."""
    connection.execute(
        "UPDATE transactions SET state = ?, sent = coalesce(sent, ?), error = ? "
        "WHERE hash = ? AND settled IS NULL",
        ("sent" if error else "seen", time, error or "", to_hex(signed.hash)),
    )


def write_receipt(connection: sqlite3.Connection, time: float, receipt: Receipt) -> None:
    """Record how a plan ended, and how each of its items did; told again it counts once."""
    state = STATES[type(receipt)]
    row: dict[str, object] = {
        "time": time,
        "plan": receipt.plan_id,
        "hash": None if receipt.tx_hash is None else to_hex(receipt.tx_hash),
        "outcome": state,
    }
    match receipt:
        case Included():
            row |= {
                "block_number": receipt.block_number,
                "block_hash": to_hex(receipt.block_hash),
                "block_time": receipt.timestamp,
                "gas_used": receipt.gas_used,
                "gas_price": str(receipt.gas_price),
                "data_fee": str(receipt.data_fee),
                "relay": receipt.relay,
                "gas_cost_usd": str(receipt.gas_cost_usd),
                "revenue_usd": str(receipt.revenue_usd),
                "tip_usd": str(receipt.tip_usd),
                "net_usd": str(receipt.net_usd),
                "gains": text(dump(receipt.gains)),
            }
            _settle_items(connection, receipt)
        case Reverted():
            row |= {
                "reason": receipt.reason,
                "block_number": receipt.block_number,
                "gas_used": receipt.gas_used,
                "gas_price": str(receipt.gas_price),
                "data_fee": str(receipt.data_fee),
                "relay": receipt.relay,
                "gas_cost_usd": str(receipt.gas_cost_usd),
                "net_usd": str(-receipt.gas_cost_usd),
            }
            _close_items(connection, receipt.plan_id, "reverted", receipt.reason)
        case Dropped():
            row |= {"reason": receipt.reason}
            _close_items(connection, receipt.plan_id, "dropped", receipt.reason)
        case Replaced() | Cancelled():
            reason = f"by {to_hex(receipt.by)}"
            row |= {"replaced_by": to_hex(receipt.by), "reason": reason}
            if isinstance(receipt, Cancelled) and receipt.gas_used:
                row |= {
                    "block_number": receipt.block_number,
                    "gas_used": receipt.gas_used,
                    "gas_price": str(receipt.gas_price),
                    "data_fee": str(receipt.data_fee),
                    "relay": receipt.relay,
                    "gas_cost_usd": str(receipt.gas_cost_usd),
                    "net_usd": str(-receipt.gas_cost_usd),
                }
            _close_items(connection, receipt.plan_id, state, reason)
    connection.execute(
        "DELETE FROM receipts WHERE plan = ? AND hash IS ?", (receipt.plan_id, row["hash"])
    )
    _insert(connection, "receipts", row)
    if row["hash"] is not None:
        # the same bytes may be another plan's by now: cancels at the same fees are alike
        # a lost nonce is somebody else's for good; what we mined may be undone
        connection.execute(
            "UPDATE transactions SET state = CASE WHEN cancels AND ? = 'cancelled' "
            "THEN 'included' ELSE ? END, settled = ?, final = ? WHERE hash = ? AND plan = ?",
            (state, state, time, int(isinstance(receipt, Dropped)), row["hash"], receipt.plan_id),
        )


def write_lost(connection: sqlite3.Connection, plan: str, relay: str) -> None:
    """Record that a plan lost its purpose before it was mined, and which relays held it."""
    connection.execute("UPDATE plans SET lost = ? WHERE id = ?", (relay, plan))


def reopen(connection: sqlite3.Connection, plan: str, sender: str, nonce: int) -> None:
    """Take back how a plan ended: receipts, outcomes, and what its transactions came to."""
    connection.execute("DELETE FROM receipts WHERE plan = ?", (plan,))
    connection.execute(
        "UPDATE items SET outcome = 'planned', gain = NULL, reason = '' WHERE plan = ?", (plan,)
    )
    connection.execute(
        "UPDATE transactions SET state = 'sent', settled = NULL, final = 0 "
        "WHERE plan = ? AND sender = ? AND nonce = ?",
        (plan, sender, nonce),
    )


def finish(connection: sqlite3.Connection, chain: str, sender: str, nonce: int) -> None:
    """Record that how a nonce ended is final."""
    connection.execute(
        "UPDATE transactions SET final = 1 "
        "WHERE chain = ? AND sender = ? AND nonce = ? AND settled IS NOT NULL",
        (chain, sender, nonce),
    )


def _settle_items(connection: sqlite3.Connection, receipt: Included) -> None:
    # by place: one borrower may stand in a plan twice, once in each of two markets
    connection.executemany(
        "UPDATE items SET outcome = ?, gain = ?, reason = ? WHERE plan = ? AND position = ?",
        [
            (
                "liquidated" if item.ok else "failed",
                str(item.gain),
                item.reason,
                receipt.plan_id,
                position,
            )
            for position, item in enumerate(receipt.items)
        ],
    )


def _close_items(connection: sqlite3.Connection, plan: str, outcome: str, reason: str) -> None:
    connection.execute(
        "UPDATE items SET outcome = ?, reason = ? WHERE plan = ?", (outcome, reason, plan)
    )


def prune(connection: sqlite3.Connection, before: float) -> None:
    """Forget observations and unsent plans older than a time; what touched money stays."""
    connection.execute("DELETE FROM opportunities WHERE time < ?", (before,))
    connection.execute("DELETE FROM skips WHERE time < ?", (before,))
    connection.execute(
        "DELETE FROM liquidations WHERE block_time < ? AND reason != ?", (before, OURS)
    )
    connection.execute(
        "DELETE FROM plans WHERE time < ? AND id NOT IN (SELECT plan FROM transactions)",
        (before,),
    )


_TRANSACTION = "SELECT plans.record, sender, nonce, raw, transactions.hash, max_fee, priority_fee, cancels, private"
_OF_PLAN = "FROM transactions JOIN plans ON plans.id = transactions.plan"


def open_transactions(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return each unsettled transaction's columns, oldest first."""
    return connection.execute(
        f"{_TRANSACTION} {_OF_PLAN} WHERE settled IS NULL ORDER BY signed, nonce"
    ).fetchall()


def unfinal_transactions(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return each settled, not yet final transaction's columns and its block, oldest first."""
    return connection.execute(
        f"{_TRANSACTION}, receipts.block_number, block_hash {_OF_PLAN} "
        "LEFT JOIN receipts ON receipts.hash = transactions.hash AND receipts.plan = plans.id "
        "WHERE settled IS NOT NULL AND final = 0 ORDER BY signed, nonce"
    ).fetchall()
