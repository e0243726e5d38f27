"""What the oracle watch knows of each feed, over a restart."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from keeper.journal.writer import Writer


@dataclass(frozen=True, slots=True)
class FeedRow:
    """One feed: its asset as 0x text, the chain's time of its last look, the rest as JSON."""

    market: str
    asset: str
    looked: int
    record: str


class FeedStore:
    """Keep feeds in the journal's file; what is lost of them is learned anew."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def keep(self, chain: str, rows: Callable[[], Sequence[FeedRow]], keep_after: int) -> None:
        """Write feeds soon, and forget those last looked at before a time.

        `rows` is called in the journal's thread; a kill may lose the last ones.
        """

        def write(db: sqlite3.Connection) -> None:
            db.executemany(
                "INSERT OR REPLACE INTO feeds VALUES (?, ?, ?, ?, ?)",
                [(chain, row.market, row.asset, row.looked, row.record) for row in rows()],
            )
            db.execute("DELETE FROM feeds WHERE chain = ? AND looked < ?", (chain, keep_after))

        self._writer.offer(write)

    async def kept(self, chain: str) -> list[FeedRow]:
        """Return every feed of a chain."""
        return await self._writer.write(lambda db: _read(db, chain))


def feeds_in(path: Path, chain: str) -> list[FeedRow]:
    """Return what a journal has of a chain's feeds; nothing where there is none, or an older one."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        try:
            return _read(db, chain)
        except sqlite3.Error:
            return []


def _read(db: sqlite3.Connection, chain: str) -> list[FeedRow]:
    sql = "SELECT market, asset, looked, record FROM feeds WHERE chain = ?"
    return [FeedRow(*row) for row in db.execute(sql, (chain,))]
