"""How far the long scans of one chain are, kept beside the journal until they are done."""

import sqlite3
from collections.abc import Sequence

from keeper.journal.writer import Writer
from keeper.ports import Scanned
from keeper.units import Hash


class SqliteCheckpoint:
    """Keep scans in the journal's database; satisfies `ports.Checkpoint`."""

    def __init__(self, writer: Writer, chain_id: int) -> None:
        self._writer = writer
        self._chain_id = chain_id

    async def load(self, stage: str, identity: bytes) -> list[Scanned]:
        """Return what was saved of a scan; another `identity` of the same stage is forgotten."""

        def read(connection: sqlite3.Connection) -> list[Scanned]:
            connection.execute(
                "DELETE FROM scans WHERE chain_id = ? AND stage = ? AND identity != ?",
                (self._chain_id, stage, identity),
            )
            rows = connection.execute(
                "SELECT first, last, anchor, anchor_hash, keys, width FROM scans"
                " WHERE chain_id = ? AND stage = ? ORDER BY id",
                (self._chain_id, stage),
            )
            return [
                Scanned(first, last, anchor, Hash(anchor_hash), keys, width)
                for first, last, anchor, anchor_hash, keys, width in rows
            ]

        return await self._writer.write(read)

    async def save(self, stage: str, identity: bytes, parts: Sequence[Scanned]) -> None:
        """Add to a scan, all parts or none; on disk before it returns."""
        rows = [
            (
                *(self._chain_id, stage, identity, part.first, part.last),
                *(part.anchor, part.anchor_hash, part.keys, part.width),
            )
            for part in parts
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO scans"
                " (chain_id, stage, identity, first, last, anchor, anchor_hash, keys, width)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

        await self._writer.write(write)

    async def clear(self) -> None:
        """Forget every scan of the chain."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM scans WHERE chain_id = ?", (self._chain_id,))

        await self._writer.write(write)
