"""What opened and closed the breakers, and how they stand after a restart."""

import sqlite3
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A breaker opened or closed: why in `detail`, by whom in `cause`, and until when if that is set."""

    time: float
    chain: str
    name: str
    is_open: bool
    detail: str
    cause: str
    until: float | None = None


def write_change(connection: sqlite3.Connection, change: BreakerChange) -> None:
    """Record one change."""
    connection.execute(
        "INSERT INTO breakers (time, chain, name, is_open, detail, cause, until) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        astuple(change),
    )


def last_changes(connection: sqlite3.Connection) -> list[BreakerChange]:
    """Return the last change of every breaker of every chain, oldest first."""
    found = connection.execute(
        "SELECT time, chain, name, is_open, detail, cause, until FROM breakers "
        "WHERE id IN (SELECT max(id) FROM breakers GROUP BY chain, name) ORDER BY id"
    ).fetchall()
    return [
        BreakerChange(time, chain, name, bool(is_open), detail, cause, until)
        for time, chain, name, is_open, detail, cause, until in found
    ]
