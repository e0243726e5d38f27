"""From the journal's file to a restored ledger and its columns, and a send beside a snapshot."""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from keeper.book.market import MarketBook
from keeper.journal.sqlite import SqliteJournal
from keeper.oracles.aave_oracle import AaveOracle
from keeper.protocols.aave_v3 import AaveV3
from keeper.protocols.aave_v3.bootstrap import Deployment
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.types import Token
from keeper.units import Address
from tests.fake_node import FakeClock
from tests.plans import Plans, make_head, signed

MILLION = 1_000_000
RESERVES = 20
SUPPLIES, DEBTS = 3, 2
MEGABYTE = 1 << 20


def address(kind: int, number: int) -> Address:
    return Address(random.Random(kind << 32 | number).randbytes(20))


def market() -> AaveV3:
    """Return a market without holders."""
    pool, provider, configurator, oracle = (address(0, number) for number in range(4))
    deployment = Deployment(pool, provider, configurator, oracle, 10)
    prices = AaveOracle("bench", pool, provider, configurator, oracle)
    made = AaveV3("bench", deployment, prices)
    for number in range(RESERVES):
        asset, supply, debt = (address(kind, number) for kind in (1, 2, 3))
        token = Token(asset, f"T{number}", 18)
        made._ledger.list_reserve(
            Reserve(number, asset, supply, debt, 8_000 << 16 | 18 << 48, token=token)
        )
    return made


def crowd(borrowers: int, seed: int = 1) -> AaveV3:
    """Return a market whose borrowers each have five legs in random reserves."""
    made, rng = market(), random.Random(seed)
    ledger = made._ledger
    reserves = list(ledger.reserves.values())
    for _ in range(borrowers):
        holder = Address(rng.randbytes(20))
        chosen = rng.sample(reserves, SUPPLIES + DEBTS)
        for reserve in chosen[:SUPPLIES]:
            ledger.set_supplied(holder, reserve, rng.getrandbits(70) + 1)
            ledger.set_flag(holder, reserve, used=True)
        for reserve in chosen[SUPPLIES:]:
            ledger.set_borrowed(holder, reserve, rng.getrandbits(68) + 1)
    return made


def opened(folder: Path) -> SqliteJournal:
    journal = SqliteJournal(folder / "journal.db", FakeClock(), 30, lambda _: None)
    journal.open()
    return journal


async def _load(folder: Path, borrowers: int) -> dict[str, float]:
    held = crowd(borrowers)
    journal = opened(folder)
    began = time.perf_counter()
    frozen = held.snapshot()
    froze = time.perf_counter()
    made = await journal.snapshots.save("x", make_head(7), "bench", {"market/bench": frozen})
    saved = time.perf_counter()
    journal.close()
    del held, frozen
    fresh, journal = market(), opened(folder)
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
