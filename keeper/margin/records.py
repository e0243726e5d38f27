"""How entries stand, as rows of the journal and as what is listed."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from eth_utils.address import to_checksum_address

from keeper.journal.outbox import StandingRow
from keeper.margin.levels import Level, Standing
from keeper.margin.roster import Entry, Known
from keeper.units import WAD, Address, to_hex


def row_of(
    chain: str, entry: Entry, standing: Standing, known: Known, debt_usd: float
) -> StandingRow:
    """Return the row of an entry that stands like this, and as of when its health and debt are known."""
    record: dict[str, Any] = {"episode": standing.episode}
    if known.head:
        record |= {"head": known.head, "owed": known.owed, "debt_usd": debt_usd}
        if math.isfinite(known.health):
            record["health"] = str(round(known.health * WAD))
    return StandingRow(
        chain,
        entry.watch.name,
        entry.market,
        to_hex(entry.borrower),
        standing.level.word,
        standing.changes,
        standing.since,
        standing.better_since,
        standing.acknowledged,
        standing.reminded,
        orjson.dumps(record).decode(),
    )


def standing_of(row: StandingRow) -> Standing:
    """Return how a position stood when its row was written."""
    return Standing(
        Level[row.level.upper()],
        row.changes,
        row.since,
        row.better_since,
        row.acknowledged,
        row.reminded,
        episode=int(orjson.loads(row.record).get("episode", 0)),
    )


def known_of(row: StandingRow) -> Known:
    """Return the health and debt that were known when a row was written."""
    record = orjson.loads(row.record)
    if "head" not in record:
        return Known()
    health = int(record["health"]) / WAD if "health" in record else math.inf
    return Known(health, float(record["owed"]), int(record["head"]))


def tally_rows(rows: Iterable[StandingRow]) -> dict[tuple[str, Level], tuple[int, float]]:
    """Return by watch and level how many positions there were, and what they owed in dollars.

    One that was safe counts if a debt was written down.
    """
    totals: dict[tuple[str, Level], tuple[int, float]] = {}
    for row in rows:
        level = Level[row.level.upper()]
        debt = orjson.loads(row.record).get("debt_usd") or 0.0
        if level > Level.SAFE or debt:
            count, owed = totals.get((row.watch, level), (0, 0.0))
            totals[row.watch, level] = count + 1, owed + debt
    return totals


def prices_of(row: Mapping[str, str]) -> dict[Address, float]:
    """Return a sample of prices by asset."""
    return {Address(bytes.fromhex(at[2:])): float(price) for at, price in row.items()}


def listed(chain: str, entry: Entry, known: Known, unit: int) -> dict[str, Any]:
    """Return an entry as JSON has it, as of a head; what is not known, or without debt, is None.

    `unit` is a dollar in the base currency.
    """
    debt = known.owed / unit
    return {
        "chain": chain,
        "market": entry.market,
        "watch": entry.watch.name,
        "borrower": to_checksum_address(entry.borrower),
        "level": entry.standing.level.word,
        "since": entry.standing.since,
        "health": round(known.health, 6) if math.isfinite(known.health) else None,
        "debt_usd": round(debt, 2) if math.isfinite(debt) else None,
        "head": known.head or None,
        "acknowledged": entry.standing.acknowledged,
    }


def listed_row(row: StandingRow) -> dict[str, Any]:
    """Return the same from a row."""
    record = orjson.loads(row.record)
    health, debt = record.get("health"), record.get("debt_usd")
    return {
        "chain": row.chain,
        "market": row.market,
        "watch": row.watch,
        "borrower": to_checksum_address(row.borrower),
        "level": row.level,
        "since": row.since,
        "health": None if health is None else round(int(health) / WAD, 6),
        "debt_usd": None if debt is None else round(debt, 2),
        "head": record.get("head"),
        "acknowledged": row.acknowledged,
    }
