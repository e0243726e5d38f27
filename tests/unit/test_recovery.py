"""Which state a book starts from, and that a book in use stands nowhere while it is loaded."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.app.recovery import Recovery
from keeper.app.snapshots import Snapshots
from keeper.errors import InvariantError, ReorgTooDeepError, StateGoneError, TransientError
from keeper.journal.snapshots import OLDER_BY
from keeper.journal.sqlite import SqliteJournal
from keeper.types import Drift, Head
from tests.fake_node import FakeClock
from tests.plans import make_head


class Bench:
    """A journal with snapshots of a one-number state, a chain of heads, and a book of that number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = SqliteJournal(path, FakeClock(), 30, lambda _: None)
        self.journal.open()
        self.tip = 5_000
        self.forks: dict[int, Head] = {}
        self.value = 0
        self.connected = 0
        self.loaded: list[str] = []
        self.known: list[bytes] = []
        self.drift: set[int] = set()
        self.second: Any = SimpleNamespace()
        self.is_disputed = False
        self.audited: list[tuple[bool, object]] = []
        self.down = 0
        self.youngest = 0
        self.asked: list[tuple[int, int]] = []
        self.at: list[Head | None] = []
        self.faults: dict[str, Any] = {}
        self.watched: Any = SimpleNamespace(
            fingerprint="print",
            unloaded={},
            remember=lambda pages: self.known.extend(pages("state")),
            restore=self.restore,
            bootstrap=self.bootstrap,
            snapshot=lambda: {"state": lambda: iter([str(self.value).encode()])},
            connect=self.connect,
        )
        self.book: Any = SimpleNamespace(
            head=None,
            markets={},
            parts=SimpleNamespace(faults=self.faults, stop=self.faults.__setitem__),
            stand_at=self.stand_at,
            abandon=lambda: self.stand_at(None),
            audit=self.audit,
        )
        self.recovery = recovering(self)

    async def head(self, number: int | None = None) -> Head:
        if self.down:
            self.down -= 1
            raise TransientError("no endpoint answers")
        wanted = self.tip if number is None else number
        return self.forks.get(wanted) or make_head(wanted)

    async def forget(self) -> None:
        """Stand in for a reader that keeps nothing."""

    async def restore(
        self, pages: Callable[[str], Iterable[bytes]], head: Head, latest: Head
    ) -> None:
        self.value = int(b"".join(pages("state")))
        self.loaded.append(f"snapshot {head.number}")

    def connect(self) -> None:
        self.connected += 1

    async def bootstrap(self, head: Head, latest: Head) -> None:
        if head.number < self.youngest:
            raise StateGoneError("the node does not hold that state")
        self.asked.append((head.number, latest.number))
        self.value = head.number
        self.loaded.append("chain")

    def stand_at(self, head: Head | None) -> None:
        self.book.head = head
        self.at.append(head)

    async def catch_up(self, head: Head) -> None:
        assert self.book.head is not None
        self.stand_at(head)

    async def audit(self, reader: object, _: int, seed: int) -> list[Drift]:
        is_second = reader is self.second
        self.audited.append((is_second, seed))
        if self.value not in self.drift or (is_second and self.is_disputed):
            return []
        return [Drift("state", self.value, 0)]

    async def save(self, number: int, fingerprint: str = "print") -> None:
        sources = {"state": lambda: iter([str(number).encode()])}
        await self.journal.snapshots.save("x", make_head(number), fingerprint, sources)

    async def start(self) -> None:
        await self.recovery.settle(self.book, await self.recovery.load(), self.catch_up)


def recovering(bench: Bench, below: int = 0) -> Recovery:
    reader: Any = bench
    store, seeds = bench.journal.snapshots, count(1)
    return Recovery(
        "x", reader, bench.second, bench.watched, store, lambda: next(seeds), below=below
    )


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "journal.db")
    yield made
    made.journal.close()


async def test_without_a_snapshot_the_chain_is_read(bench: Bench) -> None:
    await bench.start()
    assert bench.loaded == ["chain"]
    assert bench.book.head == make_head(5_000)
    assert bench.recovery.origin is None


async def test_the_newest_snapshot_is_taken_and_caught_up_from(bench: Bench) -> None:
    await bench.save(4_000 - OLDER_BY)
    await bench.save(4_000)
    await bench.start()
    assert bench.loaded == ["snapshot 4000"]
    assert bench.at == [make_head(4_000), make_head(5_000)]
    assert bench.connected == 1


async def test_each_that_is_of_no_use_leads_to_the_next(bench: Bench) -> None:
    for number in (3_000, 4_500):
        await bench.save(number)
    bench.forks[4_500] = replace(make_head(4_500), hash=make_head(1).hash)
    bench.drift.add(3_000)
    with capture_logs() as events:
        await bench.start()
    told = [(e["event"], e.get("block"), e.get("reason", "")) for e in events]
    assert told == [
        ("snapshot.passed_over", 4_500, "its block is no longer on the chain"),
        ("snapshot.restored", 3_000, ""),
        ("snapshot.refused", 3_000, "state is 3000 here and 0 on the chain"),
        ("snapshot.passed_over", 4_500, "its block is no longer on the chain"),
        ("book.loading", 5_000, ""),
    ]
    assert bench.loaded == ["snapshot 3000", "chain"]
    # One that was wrong is gone; one of another branch may be on the chain again.
    assert [each.number for each in await bench.journal.snapshots.found("x")] == [4_500]


@pytest.mark.parametrize(
    ("number", "fingerprint", "reason"),
    [
        (4_000, "other", "it is of another configuration"),
        (5_001, "print", "the chain stands at block 5000"),
    ],
)
async def test_a_snapshot_of_something_else_is_passed_over(
    bench: Bench, number: int, fingerprint: str, reason: str
) -> None:
    await bench.save(number, fingerprint)
    with capture_logs() as events:
        await bench.start()
    assert events[0]["event"] == "snapshot.passed_over"
    assert events[0]["reason"] == reason
    assert bench.loaded == ["chain"]


async def test_code_is_known_as_the_newest_readable_snapshot_knew_it(bench: Bench) -> None:
    """Whatever else it is of no use for: other settings are no reason to trust other code."""
    await bench.save(3_000)
    await bench.save(4_000, "other")
    await bench.recovery.load()
    assert bench.known == [b"4000"]
    with sqlite3.connect(bench.path) as db:
        db.execute("UPDATE snapshots SET fingerprint = 'print' WHERE head = 4000")
    bench.known.clear()
    await bench.recovery.load()
    assert bench.known == [b"3000"]


async def test_a_rebuild_holds_no_block_until_it_stands_and_may_be_repeated(bench: Bench) -> None:
    await bench.save(4_000)
    await bench.start()
    bench.at.clear()
    bench.down = 1
    with pytest.raises(TransientError):
        await bench.recovery.rebuild("too deep", bench.book, bench.catch_up)
    assert bench.at == [None]
    with capture_logs() as events:
        await bench.recovery.rebuild("too deep", bench.book, bench.catch_up)
    assert bench.at == [None, None, make_head(4_000), make_head(5_000)]
    assert events[-1]["event"] == "book.rebuilt"
    assert (events[-1]["reason"], events[-1]["origin"]) == ("too deep", "snapshot of block 4000")


async def test_a_fault_on_the_way_to_the_head_throws_the_snapshot_away(bench: Bench) -> None:
    await bench.save(4_000)

    async def catch_up(_: Head) -> None:
        raise InvariantError("x", "block 4001 does not follow")

    await bench.recovery.settle(bench.book, await bench.recovery.load(), catch_up)
    assert bench.loaded == ["snapshot 4000", "chain"]
    assert await bench.journal.snapshots.found("x") == []


async def test_a_difference_that_only_one_endpoint_tells_of_costs_no_snapshot(
    bench: Bench,
) -> None:
    await bench.save(4_000)
    bench.drift.add(4_000)
    bench.is_disputed = True
    told = "state is 4000 here and 0 on the chain, says one endpoint, and another denies it"
    with pytest.raises(TransientError, match=told):
        await bench.start()
    assert bench.audited == [(False, 1), (True, 1)], "the same sample is compared twice"
    bench.audited.clear()
    with pytest.raises(TransientError, match=told):
        await bench.recovery.rebuild("too deep", bench.book, bench.catch_up)
    assert bench.book.head is None, "it stands nowhere while nobody knows what is true"
    assert not bench.recovery.is_settled
    assert [each.number for each in await bench.journal.snapshots.found("x")] == [4_000]
    bench.drift.clear()
    await bench.recovery.rebuild("too deep", bench.book, bench.catch_up)
    assert bench.loaded == ["snapshot 4000"] * 3
    assert bench.audited[-1] == (False, 3), "what agrees is not asked for twice"
    assert bench.book.head == make_head(5_000)


async def test_a_snapshot_left_behind_by_a_reorg_is_passed_over_and_kept(bench: Bench) -> None:
    for number in (3_000, 4_000):
        await bench.save(number)

    async def catch_up(head: Head) -> None:
        if bench.value == 4_000:
            raise ReorgTooDeepError("x", "block 4001 does not follow 4000")
        bench.stand_at(head)

    with capture_logs() as events:
        await bench.recovery.settle(bench.book, await bench.recovery.load(), catch_up)
    assert bench.loaded == ["snapshot 4000", "snapshot 3000"], "and not tried for ever"
    (told,) = [each for each in events if each["event"] == "snapshot.passed_over"]
    assert (told["block"], told["reason"]) == (4_000, "x: block 4001 does not follow 4000")
    assert [each.number for each in await bench.journal.snapshots.found("x")] == [4_000, 3_000]


def keeping(bench: Bench, taken: list[Any], failed: list[None]) -> Snapshots:
    return Snapshots(
        "x",
        bench.book,
        bench.watched,
        bench.journal.snapshots,
        FakeClock(),
        3_600,
        lambda made, _: taken.append(made),
        lambda: failed.append(None),
        lambda: bench.recovery.is_settled,
    )


async def test_only_a_new_and_sound_book_is_written(bench: Bench) -> None:
    taken: list[Any] = []
    snapshots = keeping(bench, taken, [])
    await bench.start()
    bench.stand_at(None)
    await snapshots.take()
    bench.stand_at(make_head(7))
    bench.faults["market/m"] = "drift"
    await snapshots.take()
    assert not taken
    bench.faults.clear()
    await snapshots.take()
    await snapshots.take()
    assert [made.number for made in taken] == [7]
    bench.stand_at(make_head(8))
    await snapshots.take()
    assert [made.number for made in taken] == [7, 8]


async def test_a_restored_book_is_not_written_before_it_is_compared(bench: Bench) -> None:
    await bench.save(4_000)
    bench.drift.add(4_000)
    taken: list[Any] = []
    snapshots = keeping(bench, taken, [])

    async def catch_up(head: Head) -> None:
        bench.stand_at(make_head(head.number - 1))
        await snapshots.take()
        bench.stand_at(head)

    await bench.recovery.settle(bench.book, await bench.recovery.load(), catch_up)
    assert not taken
    await snapshots.take()
    assert [made.number for made in taken] == [5_000]


async def test_a_snapshot_that_is_refused_and_cannot_be_deleted_is_tried_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.save(4_000)
    bench.drift.add(4_000)

    async def discard(_: object) -> None:
        if len(bench.loaded) > 3:
            raise AssertionError("it goes round and round")
        raise InvariantError("journal", "disk full")

    monkeypatch.setattr(bench.journal.snapshots, "discard", discard)
    await bench.start()
    assert bench.loaded == ["snapshot 4000", "chain"]


async def test_what_was_taken_before_a_drift_is_thrown_away_and_taken_anew(bench: Bench) -> None:
    await bench.save(4_000)
    await bench.start()
    taken: list[Any] = []
    snapshots = keeping(bench, taken, [])
    bench.faults["market/m"] = "drift"
    snapshots.distrust()
    await snapshots.take()
    assert await bench.journal.snapshots.found("x") == []
    del bench.faults["market/m"]
    await snapshots.take()
    assert [each.number for each in await bench.journal.snapshots.found("x")] == [5_000]
    assert len(taken) == 1


async def test_one_being_written_while_a_drift_is_found_is_thrown_away_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.start()
    taken: list[Any] = []
    snapshots = keeping(bench, taken, [])
    save = bench.journal.snapshots.save

    async def drifting(*args: Any) -> Any:
        snapshots.distrust()
        bench.faults["market/m"] = "drift"
        return await save(*args)

    monkeypatch.setattr(bench.journal.snapshots, "save", drifting)
    await snapshots.take()
    assert await bench.journal.snapshots.found("x") == []
    assert (taken, snapshots.is_distrusted) == ([], False)


async def test_what_is_distrusted_and_not_yet_deleted_is_not_restored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.save(4_000)
    await bench.start()
    snapshots = keeping(bench, [], [])
    bench.recovery.is_distrusted = lambda: snapshots.is_distrusted

    async def full(_: object) -> None:
        raise InvariantError("journal", "disk full")

    with monkeypatch.context() as patched:
        patched.setattr(bench.journal.snapshots, "disown", full)
        snapshots.distrust()
        with pytest.raises(InvariantError):
            await snapshots.take()
    await bench.recovery.rebuild("a deep reorg", bench.book, bench.catch_up)
    assert bench.loaded == ["snapshot 4000", "chain"]
    await snapshots.take()
    assert [each.number for each in await bench.journal.snapshots.found("x")] == [5_000]
    assert not snapshots.is_distrusted


async def test_a_discard_that_is_cut_short_is_made_up_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.save(4_000)
    await bench.start()
    snapshots = keeping(bench, [], [])

    async def hangs(_: object) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(bench.journal.snapshots, "disown", hangs)
        snapshots.distrust()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await snapshots.take()
    assert snapshots.is_distrusted
    bench.faults["market/m"] = "drift"
    await snapshots.take()
    assert await bench.journal.snapshots.found("x") == []
    assert not snapshots.is_distrusted


async def test_the_chain_is_read_under_its_head_and_followed_up_to_it(bench: Bench) -> None:
    bench.recovery = recovering(bench, below=8)
    await bench.start()
    assert bench.asked == [(4_992, 5_000)]
    assert bench.at == [make_head(4_992), make_head(5_000)]


async def test_a_node_that_does_not_hold_that_state_is_read_at_the_newest(bench: Bench) -> None:
    bench.recovery = recovering(bench, below=8)
    bench.youngest = 4_993
    with capture_logs() as events:
        await bench.start()
    assert bench.asked == [(5_000, 5_000)]
    (told,) = [each for each in events if each["event"] == "bootstrap.at_newest"]
    assert (told["refused"], told["log_level"]) == (4_992, "info")


async def test_a_node_that_does_not_answer_is_not_asked_for_another_block(bench: Bench) -> None:
    bench.recovery = recovering(bench, below=8)

    async def silent(*_: Head) -> None:
        bench.loaded.append("asked")
        raise TransientError("no endpoint answers")

    bench.watched.bootstrap = silent
    with pytest.raises(TransientError):
        await bench.start()
    assert bench.loaded == ["asked"]


@pytest.mark.parametrize(
    ("error", "loads"), [(ReorgTooDeepError("x", "too deep"), 2), (TransientError("silent"), 1)]
)
async def test_what_was_read_under_the_head_and_cannot_be_followed_up(
    bench: Bench, error: Exception, loads: int
) -> None:
    bench.recovery = recovering(bench, below=8)
    errors = [error]

    async def catch_up(head: Head) -> None:
        if errors:
            raise errors.pop()
        bench.stand_at(head)

    await bench.recovery.settle(bench.book, await bench.recovery.load(), catch_up)
    assert len(bench.asked) == loads
    assert bench.book.head == make_head(5_000 if loads == 2 else 4_992)


async def test_a_part_that_could_not_be_loaded_is_stopped_where_the_others_stand(
    bench: Bench,
) -> None:
    loaded: list[str] = []

    async def load_market(name: str) -> None:
        loaded.append(name)

    bench.book.markets, bench.book.load_market = {"good": None, "bad": None}, load_market
    bench.watched.unloaded = {"market/bad": "no answer"}
    await bench.start()
    fault = bench.faults["market/bad"]
    assert (str(fault.kind), fault.why, fault.block) == ("unloaded", "no answer", 5_000)
    assert loaded == ["good"]
