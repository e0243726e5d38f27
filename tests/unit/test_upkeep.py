"""What a part that stops does to the snapshots: which faults throw them away, and when one is due."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.app.snapshots import Snapshots
from keeper.app.upkeep import Upkeep
from keeper.book.book import Book
from keeper.book.faults import Fault, FaultKind
from keeper.chain.reader import ChainReader
from keeper.config.schema import Audit
from keeper.errors import InvariantError
from keeper.journal.sqlite import SqliteJournal
from keeper.metrics import ChainLabels, Metrics
from keeper.planning.rules import PlanRules
from keeper.ports import Pages, Reader
from keeper.types import Drift, Head
from keeper.units import Address, Wei
from tests.fake_chain import FakeChain
from tests.fake_node import FakeClock
from tests.unit.test_rejoin import TOKEN, Ledger

NEVER = 86_400.0


class Purse(Ledger):
    """A venue whose audit finds what it is told to find, and that cannot be loaded while broken."""

    def __init__(self, chain: FakeChain) -> None:
        super().__init__(chain, "v", 3)
        self.drifts: list[Drift] = []
        self.broken = asyncio.Event()

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        return self.drifts

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        if self.broken.is_set():
            raise InvariantError("v", "sums differ")
        await super().bootstrap(reader, head)
        self.drifts = []


class Searched(Purse):
    """A venue that has to look for its new pools."""

    tokens = frozenset[Address]()
    is_searching = True

    def __init__(self, chain: FakeChain) -> None:
        super().__init__(chain)
        self.absorbed = 0

    def snapshot(self) -> Pages:
        return lambda: iter([b""])

    def restore(self, pages: Iterable[bytes]) -> None:
        """Hold nothing."""

    def beside(self, tokens: Iterable[Address]) -> "Searched":
        assert not list(tokens)
        return Searched(self.chain)

    def absorb(self, more: "Searched") -> None:
        self.absorbed += 1


class Scene:
    """One venue on a chain, kept right and written down as a keeper does it."""

    def __init__(self, path: Path, kind: type[Purse] = Purse) -> None:
        self.chain = FakeChain()
        self.purse = kind(self.chain)
        self.journal = SqliteJournal(path, FakeClock(), 30, lambda _: None)
        self.journal.open()
        venues: Any = [self.purse]

        def stopped(part: str, fault: Fault) -> None:
            self.upkeep.stopped(part, fault)

        self.book = Book("x", [], venues, TOKEN, stopped)
        self.book.stand_at(self.chain.head)
        watched: Any = SimpleNamespace(
            fingerprint="print", snapshot=lambda: {"state": lambda: iter([b"held"])}
        )
        self.taken: list[int] = []
        self.snapshots = Snapshots(
            *("x", self.book, watched, self.journal.snapshots, FakeClock(), NEVER),
            lambda made, _: self.taken.append(made.number),
            lambda: None,
        )
        node: Any = self.chain
        connection: Any = SimpleNamespace(rpc=node, second=node)
        table: Any = SimpleNamespace(venues={}, trust_bloom=True, multicall=b"\1" * 20)
        labels = ChainLabels(block_time=12, protocols=[])
        metrics = Metrics(version="1", commit="c", mode="dry", chains={"x": labels}, strategies=[])
        reader = ChainReader(node)
        self.upkeep = Upkeep(
            *("x", table, Audit(), connection, reader, self.book, metrics, self.snapshots),
            lambda: PlanRules("x", TOKEN.address, Wei(1)),
        )

    async def kept(self) -> list[int]:
        return [each.number for each in await self.journal.snapshots.found("x")]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path / "journal.db")
    await made.snapshots.take()
    work = [asyncio.create_task(each) for each in (made.upkeep.run(), made.snapshots.run())]
    yield made
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    made.journal.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the book raises no event
            await asyncio.sleep(0.001)


async def test_new_pools_are_looked_for_once_after_a_start_from_a_snapshot(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "journal.db", Searched)
    venue = scene.purse
    assert isinstance(venue, Searched)
    work = asyncio.create_task(scene.upkeep.run())
    scene.upkeep.begin(restored=False)
    with capture_logs() as logs:
        for expected in (0, 1, 1):
            for _ in range(50):
                await asyncio.sleep(0)
            assert venue.absorbed == expected
            if not expected:
                scene.upkeep.begin(restored=True)
                await until(lambda: venue.absorbed > 0)
            scene.upkeep.widener.look()
    assert [line["event"] for line in logs] == ["venue.searched"]
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    scene.journal.close()


@pytest.mark.parametrize("kind", FaultKind)
async def test_what_may_have_been_wrong_for_long_is_not_kept(scene: Scene, kind: FaultKind) -> None:
    assert await scene.kept() == [0]
    scene.chain.mine()
    scene.purse.broken.set()
    scene.book.parts.stop("venue/v", Fault(kind, "planted", 0))
    is_wrong = kind in {FaultKind.DRIFT, FaultKind.INVARIANT}
    assert scene.snapshots.is_distrusted == is_wrong
    await until(lambda: not scene.snapshots.is_distrusted)
    assert await scene.kept() == ([] if is_wrong else [0])


async def test_a_drift_that_is_mended_leaves_only_a_snapshot_taken_since(scene: Scene) -> None:
    scene.purse.drifts = [Drift("v balance", 6, 5)]
    scene.chain.mine()
    scene.book.fold(scene.chain.head, [])
    scene.purse.broken.set()
    await scene.upkeep.auditor.audit()
    assert list(scene.book.stopped) == ["venue/v"]
    await until(lambda: not scene.snapshots.is_distrusted)
    assert await scene.kept() == []
    scene.purse.broken.clear()
    await until(lambda: len(scene.taken) == 2)
    assert not scene.book.stopped
    assert await scene.kept() == [1]
