"""The journal in one SQLite file."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from keeper.journal import rows
from keeper.journal.breakers import BreakerChange, write_change
from keeper.journal.checkpoint import SqliteCheckpoint
from keeper.journal.codec import dump, load
from keeper.journal.feeds import FeedStore
from keeper.journal.liquidations import LiquidationStore
from keeper.journal.outbox import SqliteOutbox
from keeper.journal.snapshots import SnapshotStore
from keeper.journal.standing import Standing
from keeper.journal.writer import Writer
from keeper.ports import Clock
from keeper.types import Opportunity, Plan, Receipt, Signed, Skip, View
from keeper.units import Address, Hash, Wei, to_hex

DAY = 86_400
CAPACITY = 256
"""Heads whose observations may wait; at one head in 12 s that is most of an hour."""


class SqliteJournal:
    """Record decisions and money in one file; `planned`, `signed`, `sent` and `settled` are durable.

    `dropped(n)` is told of each head's observations that did not fit the queue.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        keep_days: int,
        dropped: Callable[[int], None],
        capacity: int = CAPACITY,
    ) -> None:
        self._writer = Writer(path, capacity)
        self.snapshots = SnapshotStore(self._writer, path, clock)
        self.outbox = SqliteOutbox(self._writer)
        self.liquidations = LiquidationStore(self._writer)
        self.feeds = FeedStore(self._writer)
        self._clock = clock
        self._keep = keep_days * DAY
        self._dropped = dropped
        self._standing: defaultdict[str, Standing] = defaultdict(Standing)
        self._pruned = float("-inf")

    def open(self) -> None:
        """Open the file, creating or migrating it; raise `ConfigError` when that is impossible."""
        self._writer.start()

    def close(self) -> None:
        """Write everything queued, then let go of the file."""
        self._writer.close()

    @property
    def failure(self) -> str | None:
        """Return why observations are not being written, None when they are."""
        return self._writer.failure

    def checkpoint(self, chain_id: int) -> SqliteCheckpoint:
        """Return what keeps the long scans of a chain in the same file."""
        return SqliteCheckpoint(self._writer, chain_id)

    def draft(self, plan: Plan) -> None:
        """Write down what lasts of a plan while it is simulated, so that its record takes less time."""
        dump(plan)

    async def planned(self, plan: Plan) -> None:
        """Record a plan before its bytes."""
        now = self._clock.time()
        await self._writer.write(lambda db: rows.write_plan(db, now, plan))

    async def signed(self, signed: Signed) -> None:
        """Record the exact bytes before the first send."""
        now = self._clock.time()
        await self._writer.write(lambda db: rows.write_signed(db, now, signed))

    async def sent(self, signed: Signed, error: str | None) -> None:
        """Record that the bytes were handed over, or how that failed."""
        now = self._clock.time()
        await self._writer.write(lambda db: rows.write_sent(db, now, signed, error))

    async def settled(self, *receipts: Receipt) -> None:
        """Record how a plan ended, one receipt for each of its transactions: all or none."""
        now = self._clock.time()

        def write(connection: sqlite3.Connection) -> None:
            for receipt in receipts:
                rows.write_receipt(connection, now, receipt)

        await self._writer.write(write)

    async def breaker(self, change: BreakerChange) -> None:
        """Record that a breaker opened or closed; on disk when this returns."""
        await self._writer.write(lambda db: write_change(db, change))

    async def lost(self, plan_id: str, relay: str) -> None:
        """Record that a plan lost its purpose while a relay held it."""
        await self._writer.write(lambda db: rows.write_lost(db, plan_id, relay))

    async def reopened(self, plan_id: str, sender: Address, nonce: int) -> None:
        """Take back how a plan ended: a reorg undid it."""
        account = to_hex(sender)
        await self._writer.write(lambda db: rows.reopen(db, plan_id, account, nonce))

    async def finished(self, chain: str, sender: Address, nonce: int) -> None:
        """Record that how a nonce ended is final."""
        account = to_hex(sender)
        await self._writer.write(lambda db: rows.finish(db, chain, account, nonce))

    async def unfinal(self) -> list[tuple[Signed, int | None, Hash]]:
        """Return transactions settled and not final, of every chain, with their block if mined."""
        return await self._writer.write(_unfinal)

    async def pending(self) -> list[Signed]:
        """Return transactions signed and not settled, of every chain, oldest first."""
        return await self._writer.write(_pending)

    def observe(
        self, view: View, opportunities: Sequence[Opportunity], skips: Sequence[Skip]
    ) -> None:
        """Queue what was seen and skipped; a full queue drops and counts."""
        now = self._clock.time()
        write = partial(
            _observation,
            standing=self._standing[view.chain],
            time=now,
            view=view,
            opportunities=tuple(opportunities),
            skips=tuple(skips),
        )
        if not self._writer.offer(write):
            self._dropped(len(opportunities) + len(skips))
        if now - self._pruned >= DAY:
            self._prune(now)

    def _prune(self, now: float) -> None:
        if self._writer.offer(lambda db: rows.prune(db, now - self._keep)):
            self._pruned = now


def _pending(connection: sqlite3.Connection) -> list[Signed]:
    return [_signed(row) for row in rows.open_transactions(connection)]


def _unfinal(connection: sqlite3.Connection) -> list[tuple[Signed, int | None, Hash]]:
    return [
        (_signed(row[:-2]), row[-2], Hash(bytes.fromhex((row[-1] or "0x")[2:])))
        for row in rows.unfinal_transactions(connection)
    ]


def _signed(row: tuple[Any, ...]) -> Signed:
    record, sender, nonce, raw, tx_hash, max_fee, priority_fee, cancels, private = row
    plan = load(Plan, orjson.loads(record))
    if max_fee is not None:
        bid = replace(plan.bid, max_fee=Wei(int(max_fee)), priority_fee=Wei(int(priority_fee)))
        plan = replace(plan, bid=bid)
    return Signed(
        plan,
        Address(bytes.fromhex(sender[2:])),
        nonce,
        bytes(raw),
        Hash(bytes.fromhex(tx_hash[2:])),
        bool(cancels),
        bool(private),
    )


def _observation(
    connection: sqlite3.Connection,
    *,
    standing: Standing,
    time: float,
    view: View,
    opportunities: Sequence[Opportunity],
    skips: Sequence[Skip],
) -> None:
    found, changed = standing.news(view, opportunities, skips)
    number = view.head.number
    for opportunity in found:
        rows.write_opportunity(connection, time, view.chain, number, opportunity)
    for skip in changed:
        rows.write_skip(connection, time, view.chain, number, skip)
