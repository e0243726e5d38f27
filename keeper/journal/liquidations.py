"""Every liquidation seen on the chain, and what was decided about it."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from keeper.journal.writer import Writer
from keeper.units import Hash, to_hex

INCLUDED, ORPHANED = "included", "orphaned"
OURS = "ours"


@dataclass(frozen=True, slots=True)
class LiquidationRow:
    """One row; addresses and hashes are 0x text, amounts decimal text, dollars have 8 decimals.

    Dollars are None where a price was not read. `tip` is what the transaction paid above the base fee
    for all it did. `called` is the contract its sender called.
    """

    chain: str
    block_hash: str
    log_index: int
    block_number: int
    block_time: int
    seen: float
    hash: str
    transaction_index: int
    market: str
    protocol: str
    borrower: str
    debt: str
    collateral: str
    repaid: str
    seized: str
    repaid_usd: str | None
    seized_usd: str | None
    liquidator: str
    sender: str
    called: str
    winner: str
    gas_used: int
    gas_price: str
    tip: str
    reason: str
    detail: str
    state: str = INCLUDED

    @property
    def is_ours(self) -> bool:
        """Whether our contract had it."""
        return self.reason == OURS


COLUMNS = ", ".join(field.name for field in fields(LiquidationRow))
PLACES = ", ".join("?" for _ in fields(LiquidationRow))


class LiquidationStore:
    """Keep liquidations in the journal's file."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def add(self, rows: Sequence[LiquidationRow]) -> list[LiquidationRow]:
        """Record liquidations, on disk when this returns, and return those that are new.

        One on record keeps what was known then, and is included again.
        """

        def write(db: sqlite3.Connection) -> list[LiquidationRow]:
            new = []
            for row in rows:
                values = astuple(row)
                sql = f"INSERT OR IGNORE INTO liquidations ({COLUMNS}) VALUES ({PLACES})"  # noqa: S608
                if db.execute(sql, values).rowcount:
                    new.append(row)
                    continue
                db.execute(
                    "UPDATE liquidations SET state = ? "
                    "WHERE chain = ? AND block_hash = ? AND log_index = ?",
                    (row.state, row.chain, row.block_hash, row.log_index),
                )
            return new

        return await self._writer.write(write)

    async def orphan(self, chain: str, block: Hash) -> None:
        """Record that a reorg undid a block."""
        told = (ORPHANED, chain, to_hex(block))

        def write(db: sqlite3.Connection) -> None:
            db.execute("UPDATE liquidations SET state = ? WHERE chain = ? AND block_hash = ?", told)

        await self._writer.write(write)

    async def recent(self, chain: str, blocks: int) -> list[tuple[int, Hash]]:
        """Return number and hash of the last blocks with liquidations on record, orphans left out."""

        def read(db: sqlite3.Connection) -> list[tuple[int, Hash]]:
            found = db.execute(
                "SELECT DISTINCT block_number, block_hash FROM liquidations "
                "WHERE chain = ? AND state = ? ORDER BY block_time DESC LIMIT ?",
                (chain, INCLUDED, blocks),
            )
            return [(number, Hash(bytes.fromhex(text[2:]))) for number, text in found]

        return await self._writer.write(read)


def read_liquidations(path: Path, since: float, until: float) -> list[LiquidationRow]:
    """Return what was seen of blocks from a time to before another, oldest first, orphans too."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        found = db.execute(
            f"SELECT {COLUMNS} FROM liquidations WHERE block_time >= ? AND block_time < ? "  # noqa: S608
            "ORDER BY block_time, block_number, log_index",
            (since, until),
        )
        return [LiquidationRow(*row) for row in found]
