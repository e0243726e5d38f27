"""SQL of the snapshots, each function one short transaction's worth."""

import sqlite3
from typing import Any

from keeper.journal.pages import Page

_DROPPED_AT_ONCE = 4
"""Pages deleted in one transaction."""


def begin(connection: sqlite3.Connection, draft: tuple[float, str, int, str, str]) -> int:
    """Open a snapshot that does not count yet; return its number."""
    cursor = connection.execute(
        "INSERT INTO snapshots (time, chain, head, head_record, fingerprint) "
        "VALUES (?, ?, ?, ?, ?)",
        draft,
    )
    return int(cursor.lastrowid or 0)


def write_page(connection: sqlite3.Connection, snapshot: int, page: Page) -> None:
    """Add one page."""
    connection.execute(
        "INSERT INTO snapshot_pages (snapshot, source, page, checksum, encoding, data) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (snapshot, page.source, page.number, page.checksum, page.encoding, page.data),
    )


def finish(
    connection: sqlite3.Connection, snapshot: int, extent: tuple[int, int], checksum: bytes
) -> bool:
    """Let a snapshot count; return that it does."""
    connection.execute(
        "UPDATE snapshots SET pages = ?, bytes = ?, checksum = ? WHERE id = ?",
        (*extent, checksum, snapshot),
    )
    return True


def tear(connection: sqlite3.Connection, snapshot: int) -> None:
    """Let a snapshot count no more."""
    connection.execute("UPDATE snapshots SET checksum = NULL WHERE id = ?", (snapshot,))


def tear_all(connection: sqlite3.Connection, chain: str) -> list[tuple[int, int]]:
    """Let no snapshot of a chain count any more; return numbers and blocks of those that did."""
    counted = connection.execute(
        "SELECT id, head FROM snapshots WHERE chain = ? AND checksum IS NOT NULL", (chain,)
    ).fetchall()
    connection.execute("UPDATE snapshots SET checksum = NULL WHERE chain = ?", (chain,))
    return counted


def torn(connection: sqlite3.Connection, chain: str) -> list[int]:
    """Return the snapshots of a chain that were never finished, or deleted only in part."""
    found = connection.execute(
        "SELECT id FROM snapshots WHERE chain = ? AND checksum IS NULL", (chain,)
    )
    return [number for (number,) in found]


def drop_some(connection: sqlite3.Connection, snapshot: int) -> bool:
    """Delete a few pages, then the snapshot itself; return whether something is left."""
    deleted = connection.execute(
        "DELETE FROM snapshot_pages WHERE rowid IN "
        "(SELECT rowid FROM snapshot_pages WHERE snapshot = ? LIMIT ?)",
        (snapshot, _DROPPED_AT_ONCE),
    ).rowcount
    if deleted == _DROPPED_AT_ONCE:
        return True
    connection.execute("DELETE FROM snapshots WHERE id = ?", (snapshot,))
    return False


def snapshots(connection: sqlite3.Connection, chain: str) -> list[tuple[Any, ...]]:
    """Return the rows of a chain's finished snapshots, the last one taken first.

    A reorg or a rollback may have left an earlier one at a greater height.
    """
    return connection.execute(
        "SELECT id, head, head_record, time, fingerprint, pages, bytes, checksum FROM snapshots "
        "WHERE chain = ? AND checksum IS NOT NULL ORDER BY id DESC",
        (chain,),
    ).fetchall()


def places(connection: sqlite3.Connection, snapshot: int) -> list[tuple[str, int, bytes]]:
    """Return source, number and checksum of each page."""
    return connection.execute(
        "SELECT source, page, checksum FROM snapshot_pages WHERE snapshot = ?", (snapshot,)
    ).fetchall()


def pages(connection: sqlite3.Connection, snapshot: int, source: str) -> sqlite3.Cursor:
    """Return number, encoding, data and checksum of one source's pages, in order."""
    return connection.execute(
        "SELECT page, encoding, data, checksum FROM snapshot_pages "
        "WHERE snapshot = ? AND source = ? ORDER BY page",
        (snapshot, source),
    )
