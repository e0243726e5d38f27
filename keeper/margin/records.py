"""How entries stand, as rows of the journal and as what is listed."""

import math
from collections.abc import Mapping
from typing import Any

import orjson
from eth_utils.address import to_checksum_address

from keeper.journal.outbox import StandingRow
from keeper.margin.levels import Level, Standing
from keeper.margin.roster import Entry
from keeper.units import Address, to_hex


def row_of(
    chain: str, market: str, entry: Entry, standing: Standing, record: Mapping[str, str]
) -> StandingRow:
    """Return the row of an entry that stands like this."""
    return StandingRow(
        chain,
        entry.watch.name,
        market,
        to_hex(entry.borrower),
        standing.level.word,
        standing.changes,
        standing.since,
        standing.better_since,
        standing.acknowledged,
        standing.reminded,
        orjson.dumps(dict(record)).decode(),
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
    )


def prices_of(row: Mapping[str, str]) -> dict[Address, float]:
    """Return a sample of prices by asset."""
    return {Address(bytes.fromhex(at[2:])): float(price) for at, price in row.items()}


def listed(chain: str, market: str, entry: Entry, health: float, debt_usd: float) -> dict[str, Any]:
    """Return an entry as JSON has it; a health that is not known, or without debt, is None."""
    return {
        "chain": chain,
        "market": market,
        "watch": entry.watch.name,
        "borrower": to_checksum_address(entry.borrower),
        "level": entry.standing.level.word,
        "since": entry.standing.since,
        "health": round(health, 6) if math.isfinite(health) else None,
        "debt_usd": round(debt_usd, 2),
        "acknowledged": entry.standing.acknowledged,
    }
