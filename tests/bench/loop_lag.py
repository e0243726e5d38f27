"""How late the event loop wakes while a book of a million borrowers is kept and screened."""

import argparse
import asyncio
import gc
import random
import sqlite3
import tempfile
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import orjson
from aiohttp import ClientSession
from numpy.typing import NDArray

from keeper.app.collection import Collection
from keeper.book.book import Book
from keeper.chain import jsonrpc, raw_logs
from keeper.chain.entries import GET_LOGS
from keeper.http import Lag, StatusServer
from keeper.metrics import Metrics
from keeper.ports import Pages
from keeper.protocols.aave_v3 import AaveV3
from keeper.types import Head, Prices, Token
from keeper.units import Address, Hash, Wei
from tests.bench import million
from tests.bench.folding import Chain

SECONDS = 600
BORROWERS = 1_000_000
LOGS = 200
EVERY = 1.0
"""Seconds between heads."""
SAMPLE = 0.002
SNAPSHOT_EVERY = 20.0
FALL_EVERY = 13
FALL = 0.94
"""Every so many heads one price falls this far: out of the reach of every band, like its way back."""
CRASH_EVERY = 60
CRASH_HITS = 1_000
"""Every so many heads one price stays down until at least so many borrowers are under water."""
REBUILD_EVERY = 45.0
"""Seconds between two rebuilds of all columns, as after a part was loaded anew."""
SCRAPE_EVERY = 5.0
COMMON, OWN = 0.002, 0.001
"""Standard deviation of one head's prices, shared by all and of each alone."""
NATIVE = Token(Address(b"\xee" * 20), "ETH", 18)


def _heads(count: int) -> list[Head]:
    hashes = [Hash(number.to_bytes(32)) for number in range(1, count + 3)]
    return [
        Head(number, hashes[number], hashes[number - 1], million.NOW + 12 * number, Wei(1), 0, 1)
        for number in range(1, count + 2)
    ]


def _answers(heads: Sequence[Head]) -> list[bytes]:
    """Return what a node answers to `eth_getLogs` of each head."""
    chain = Chain(million.market(BORROWERS), seed=5)
    return [
        orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": chain.block(head, LOGS)})
        for head in heads
    ]


def _walk(count: int) -> Iterator[Prices]:
    """Walk all prices together; now and then one falls far, and is back at the next head."""
    draw, start = np.random.default_rng(6), million.prices()
    shared, own = 0.0, np.zeros(len(start.values))
    for number in range(count):
        shared = 0.99 * shared + draw.normal(0, COMMON)
        own = 0.99 * own + draw.normal(0, OWN, len(own))
        moved = np.exp(shared * (np.arange(len(own)) % 3 > 0) + own)
        if number % FALL_EVERY == 7 or number % CRASH_EVERY == CRASH_EVERY // 2:
            moved[number % len(moved)] *= FALL
        pairs = zip(start.values.items(), moved.tolist(), strict=True)
        yield Prices("million", start.unit, {asset: int(p * by) for (asset, p), by in pairs})


class Load:
    """A book and what happens to it, each on its own beat."""

    def __init__(self, market: AaveV3, heads: Sequence[Head], answers: Sequence[bytes]) -> None:
        self.book = Book("bench", [market], [], NATIVE)
        self._market = market
        self._heads, self._answers = heads, answers
        self.book.stand_at(heads[0])
        self._prices = million.prices()
        self.judged = self.overtaken = self.full_passes = self.snapshots = self.rebuilds = 0
        self.is_rebuilding = False
        self.hits: list[int] = []

    async def follow(self, undisturbed: Callable[[], AbstractContextManager[None]]) -> None:
        """Fold a head at every beat, and judge it as the engine does."""
        prices = _walk(len(self._answers))
        rounds = zip(self._heads[1:], self._answers, prices, strict=True)
        for head, answer, now in rounds:
            pause = asyncio.create_task(asyncio.sleep(EVERY))
            entries = jsonrpc.result(GET_LOGS, jsonrpc.decode(answer, is_logs=True))
            logs = raw_logs.of_block(entries, head.timestamp)
            await asyncio.sleep(0)  # the parts of an answer are gathered from tasks
            self.book.fold(head, logs)
            await asyncio.sleep(0)  # prices are read before a view is made
            market = self.book.markets["million"]
            market.prices = self._prices = now
            columns = market._columns
            if columns is not None:
                factors = self._market.factors(now, head.next_block(12))
                self.full_passes += columns.work(*factors, 1.00001) == len(columns)
            with undisturbed():
                seen = await self.book.view(head.next_block(12), 100)
            self.judged += seen is not None
            self.overtaken += seen is None
            await self.book.let_go()
            self.hits.append(0 if seen is None else len(seen[0].at_risk))
            await pause

    async def keep(self, file: Path) -> None:
        """Write a snapshot at every beat."""
        while True:
            await asyncio.sleep(SNAPSHOT_EVERY)
            await asyncio.to_thread(_write, file, self._market.snapshot())
            self.snapshots += 1

    async def rebuild(self) -> None:
        """Build all columns anew at every beat."""
        while True:
            await asyncio.sleep(REBUILD_EVERY)
            self.is_rebuilding = True
            await self.book.load_market("million")
            self.is_rebuilding = False
            self.book.markets["million"].prices = self._prices
            self.rebuilds += 1


class Pauses:
    """Collects, while entered, the processor time of each collection of garbage by generation."""

    def __init__(self) -> None:
        self.seconds: dict[int, list[float]] = {}
        self._started = 0.0

    def __enter__(self) -> Self:
        gc.callbacks.append(self._on_phase)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._on_phase)

    def _on_phase(self, phase: str, info: dict[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._started = now
        else:
            self.seconds.setdefault(info["generation"], []).append(now - self._started)


def _write(file: Path, pages: Pages) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("create table if not exists pages (number integer, page blob)")
        connection.execute("delete from pages")
        connection.executemany("insert into pages values (?, ?)", enumerate(pages()))


async def _scrape(address: str) -> None:
    async with ClientSession() as session:
        while True:
            await asyncio.sleep(SCRAPE_EVERY)
            async with session.get(f"{address}/metrics") as answer:
                await answer.read()


@dataclass
class Samples:
    """Seconds each wake was late, of that what the process can have caused, what the loop worked."""

    late: "array[float]" = field(default_factory=lambda: array("d"))
    own: "array[float]" = field(default_factory=lambda: array("d"))
    busy: "array[float]" = field(default_factory=lambda: array("d"))

    async def run(self, rebuilding: "Samples", load: Load) -> None:
        """Record every wake until cancelled, those of a rebuild apart.

        A wake waits for the loop's own work and for threads of this process that hold the
        interpreter: no longer than all of them computed meanwhile. The rest is other processes'.
        """
        while True:
            due, was_rebuilding = time.perf_counter() + SAMPLE, load.is_rebuilding
            thread, process = time.thread_time(), time.process_time()
            await asyncio.sleep(SAMPLE)
            late = time.perf_counter() - due
            into = rebuilding if was_rebuilding or load.is_rebuilding else self
            into.late.append(late)
            into.own.append(min(late, time.process_time() - process))
            into.busy.append(time.thread_time() - thread)


def _spread(values: NDArray[np.float64]) -> str:
    p50, p99, p999 = np.quantile(values, [0.5, 0.99, 0.999])
    return f"p50 {p50:.2f}, p99 {p99:.2f}, p999 {p999:.2f}, most {values.max():.2f} ms"


async def _run(seconds: int, folder: Path) -> dict[str, float]:
    heads = _heads(int(seconds / EVERY))
    load = Load(million.market(BORROWERS), heads, _answers(heads[1:]))
    load.book.markets["million"].prices = million.prices()
    await load.book.load()
    await load.book.view(heads[0].next_block(12), 100)
    metrics = Metrics(version="0", commit="", mode="dry", chains={}, strategies=[])
    lag = Lag(metrics.loop_lag)
    samples, rebuilding = Samples(), Samples()
    pauses = Pauses()
    server = StatusServer("127.0.0.1", 0, metrics.registry, dict, lambda: True, lambda: lag.seconds)
    with pauses, Collection(lambda _: None) as collection:
        async with server:
            collection.settle()
            pauses.seconds.clear()
            beside: list[Awaitable[None]] = [
                load.keep(folder / "pages.sqlite"),
                _scrape(server.address),
                load.rebuild(),
                samples.run(rebuilding, load),
                lag.run(),
            ]
            tasks = [asyncio.ensure_future(each) for each in beside]
            await load.follow(collection.held)
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended
    found, own, work = (1000 * np.array(each) for each in (samples.late, samples.own, samples.busy))
    apart = 1000 * np.array([rebuilding.own or [0.0], rebuilding.busy or [0.0]])
    crashes = sum(hits >= CRASH_HITS for hits in load.hits)
    print(
        f"{seconds} s at {BORROWERS:,} borrowers: {load.judged} heads judged, {load.overtaken} "
        f"overtaken, {sum(load.hits):,} at risk, {max(load.hits):,} at once, {crashes} heads with "
        f"{CRASH_HITS:,} or more, {load.full_passes} full passes, {load.rebuilds} rebuilds, "
        f"{load.snapshots} snapshots, {len(found):,} samples"
    )
    print(f"how late the loop wakes:                {_spread(found)}")
    print(f"of that at most this process's doing:   {_spread(own)}")
    print(f"its processor time between two samples: {_spread(work)}")
    print(f"this process's doing while rebuilding:  {_spread(apart[0])}")
    for generation, taken in sorted(pauses.seconds.items()):
        print(
            f"collections of generation {generation}: {len(taken)}, {_spread(1000 * np.array(taken))}"
        )
    return {
        "loop_lag_ms_p999": float(np.quantile(found, 0.999)),
        "loop_lag_ms_max": float(found.max()),
        "loop_own_lag_ms_p999": float(np.quantile(own, 0.999)),
        "loop_own_lag_ms_max": float(own.max()),
        "loop_rebuild_own_lag_ms_p999": float(np.quantile(apart[0], 0.999)),
        "loop_rebuild_busy_ms_max": float(apart[1].max()),
        "loop_crash_heads": crashes,
        "loop_busy_ms_p999": float(np.quantile(work, 0.999)),
        "loop_busy_ms_max": float(work.max()),
        "gc_pause_ms_max": 1000 * max(map(max, pauses.seconds.values()), default=0.0),
    }


def figures(seconds: int = SECONDS) -> dict[str, float]:
    """Keep a book for some time; the start is not counted."""
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(seconds, Path(folder)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=int, nargs="?", default=SECONDS)
    for name, value in figures(parser.parse_args().seconds).items():
        print(f"{name:<24} {value:10.2f}")
