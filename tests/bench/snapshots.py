"""From the journal's file to a restored ledger and its columns, and a send beside a snapshot."""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from keeper.book.market import MarketBook
from keeper.journal.sqlite import SqliteJournal
from tests.bench import million
from tests.fake_node import FakeClock
from tests.plans import Plans, make_head, signed

MILLION = 1_000_000
MEGABYTE = 1 << 20


def opened(folder: Path) -> SqliteJournal:
    journal = SqliteJournal(folder / "journal.db", FakeClock(), 30, lambda _: None)
    journal.open()
    return journal


async def _load(folder: Path, borrowers: int) -> dict[str, float]:
    held = million.market(borrowers)
    journal = opened(folder)
    began = time.perf_counter()
    frozen = held.snapshot()
    froze = time.perf_counter()
    made = await journal.snapshots.save("x", make_head(7), "bench", {"market/bench": frozen})
    assert made is not None
    saved = time.perf_counter()
    journal.close()
    del held, frozen
    fresh, journal = million.empty(), opened(folder)
    started = time.perf_counter()
    (found,) = await journal.snapshots.found("x")
    read = await asyncio.to_thread(journal.snapshots.read, found)
    await asyncio.to_thread(lambda: fresh.restore(read("market/bench")))
    restored = time.perf_counter()
    screen = MarketBook(fresh)
    await screen.load()
    loaded = time.perf_counter()
    assert fresh.borrowers() == borrowers
    journal.close()
    return {
        "snapshot_load_seconds": loaded - started,
        "snapshot_restore_seconds": restored - started,
        "snapshot_freeze_ms": (froze - began) * 1e3,
        "snapshot_write_seconds": saved - froze,
        "snapshot_megabytes": made.size / 1e6,
    }


async def _beside(folder: Path, megabytes: int) -> dict[str, float]:
    """Time what is journalled before a send while a snapshot is written, and without one."""
    content = [os.urandom(MEGABYTE) for _ in range(8)]

    def encode() -> Iterator[bytes]:
        for number in range(megabytes):
            yield content[number % 8]

    journal, plans = opened(folder), Plans()

    async def record() -> float:
        began, plan = time.perf_counter(), plans.make()
        await journal.planned(plan)
        await journal.signed(signed(plan))
        return (time.perf_counter() - began) * 1e3

    alone = [await record() for _ in range(100)]
    saving = asyncio.ensure_future(
        journal.snapshots.save("x", make_head(7), "bench", {"market/bench": encode})
    )
    beside = []
    while not saving.done():
        beside.append(await record())
        await asyncio.sleep(0.005)
    await saving
    journal.close()
    return {
        "journal_before_send_ms_max": max(alone),
        "journal_before_send_beside_snapshot_ms_max": max(beside),
    }


def figures(borrowers: int = MILLION) -> dict[str, float]:
    """Return the time from file to columns at this many borrowers, and the wait of a send."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_load(Path(folder), borrowers))
    with tempfile.TemporaryDirectory() as folder:
        return found | asyncio.run(_beside(Path(folder), 100))
