"""Snapshots on disk: whole or not at all, checked byte by byte, and never in the way of a send."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import shake_128
from pathlib import Path

import pytest

from keeper.errors import InvariantError
from keeper.journal import snapshot_rows
from keeper.journal.pages import ZLIB, pack, unpack
from keeper.journal.snapshots import OLDER_BY, Snapshot, SnapshotStore, kept_of
from keeper.journal.sqlite import SqliteJournal
from keeper.ports import Pages
from tests.fake_node import FakeClock
from tests.forked import run_script
from tests.plans import Plans, make_head, signed

SIZE = 1 << 16


def content(seed: int, number: int) -> bytes:
    """Return bytes that hardly shrink."""
    return shake_128(f"{seed} {number}".encode()).digest(SIZE)


def pages(seed: int, count: int) -> Pages:
    def encode() -> Iterator[bytes]:
        for number in range(count):
            yield content(seed, number)

    return encode


class Shelf:
    """A journal, its snapshots, and its file laid open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = SqliteJournal(path, FakeClock(), 30, lambda _: None)
        self.journal.open()

    @property
    def store(self) -> SnapshotStore:
        return self.journal.snapshots

    async def save(self, number: int, count: int = 3, chain: str = "x") -> Snapshot:
        sources = {"market/m": pages(number, count), "venue/v": pages(number + 1, 2)}
        made = await self.store.save(chain, make_head(number), "print", sources)
        assert made is not None
        return made

    def sql(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.path)) as db, db:
            return db.execute(query, values).fetchall()


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    made = Shelf(tmp_path / "journal.db")
    yield made
    made.journal.close()


async def test_a_snapshot_comes_back_as_it_was(shelf: Shelf) -> None:
    made = await shelf.save(7)
    (found,) = await shelf.store.found("x")
    assert found == made
    assert found.head == make_head(7)
    assert (found.number, found.fingerprint, found.pages) == (7, "print", 5)
    read = shelf.store.read(found)
    assert list(read("market/m")) == list(pages(7, 3)())
    assert list(read("venue/v")) == list(pages(8, 2)())
    assert list(read("venue/other")) == []
    assert await shelf.store.found("y") == []


async def test_it_outlives_the_process(shelf: Shelf) -> None:
    made = await shelf.save(7)
    shelf.journal.close()
    again = Shelf(shelf.path)
    assert await again.store.found("x") == [made]
    again.journal.close()


DAMAGE = {
    "content": "UPDATE snapshot_pages SET data = zeroblob(65536) WHERE page = 1",
    "page lost": "DELETE FROM snapshot_pages WHERE page = 1",
    "pages swapped": "UPDATE snapshot_pages SET page = 9 - page",
    "checksum": "UPDATE snapshot_pages SET checksum = zeroblob(16) WHERE page = 2",
    "head": "UPDATE snapshots SET head_record = replace(head_record, '1', '2')",
    "fingerprint": "UPDATE snapshots SET fingerprint = 'other'",
    "whole": "UPDATE snapshots SET checksum = zeroblob(16)",
    "other chain": "UPDATE snapshots SET chain = 'y'",
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damage_is_found_and_nothing_of_it_is_used(shelf: Shelf, damage: str) -> None:
    await shelf.save(7)
    shelf.sql(DAMAGE[damage])
    (found,) = await shelf.store.found("y" if damage == "other chain" else "x")
    with pytest.raises(InvariantError):
        list(shelf.store.read(found)("market/m"))


async def test_a_page_of_the_file_that_rotted_is_found(shelf: Shelf) -> None:
    made = await shelf.save(7, count=20)
    shelf.journal.close()
    raw = bytearray(shelf.path.read_bytes())
    middle = raw.index(content(7, 10)[1_000:1_100])
    raw[middle] ^= 1
    shelf.path.write_bytes(raw)
    again = Shelf(shelf.path)
    with pytest.raises(InvariantError, match="page 10 of market/m is damaged"):
        list(again.store.read(made)("market/m"))
    again.journal.close()


async def test_one_that_fails_midway_never_counts_and_is_swept(shelf: Shelf) -> None:
    kept = await shelf.save(7)

    def breaking() -> Iterator[bytes]:
        yield content(1, 1)
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        await shelf.store.save("x", make_head(8), "print", {"market/m": breaking})
    assert await shelf.store.found("x") == [kept]
    assert shelf.sql("SELECT count(*) FROM snapshots") == [(2,)]
    await shelf.save(9)
    assert [each.number for each in await shelf.store.found("x")] == [9, 7]
    assert shelf.sql("SELECT count(*) FROM snapshots") == [(2,)]
    assert shelf.sql("SELECT count(*) FROM snapshot_pages") == [(10,)]


@pytest.mark.parametrize("pages_written", [0, 2, 4])
async def test_what_is_not_wanted_any_more_never_counts(shelf: Shelf, pages_written: int) -> None:
    """With all four pages written it is the last transaction that refuses."""
    kept = await shelf.save(7)
    asked: list[None] = []

    def is_wanted() -> bool:
        asked.append(None)
        return len(asked) <= pages_written

    sources = {"market/m": pages(8, 4)}
    assert await shelf.store.save("x", make_head(8), "print", sources, is_wanted) is None
    assert shelf.sql("SELECT count(*) FROM snapshot_pages") == [(5 + pages_written,)]
    assert await shelf.store.found("x") == [kept]


async def test_a_keeper_killed_while_it_deletes_has_disowned_all_before(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, chain in ((7, "x"), (2_000, "x"), (9, "y")):
        await shelf.save(number, chain=chain)

    def killed(*_: object, **__: object) -> bool:
        raise sqlite3.OperationalError("this is where it ends")

    with monkeypatch.context() as patched:
        patched.setattr(snapshot_rows, "drop_some", killed)
        with pytest.raises(InvariantError):
            await shelf.store.disown("x")
    assert shelf.sql("SELECT count(*) FROM snapshot_pages") == [(15,)]
    assert await shelf.store.found("x") == []
    assert [each.number for each in await shelf.store.found("y")] == [9]
    assert await shelf.store.disown("x") == []
    await shelf.save(3_000)
    assert shelf.sql("SELECT count(*) FROM snapshot_pages") == [(10,)]


@pytest.mark.parametrize("pages_written", [0, 1, 4])
async def test_a_killed_process_leaves_the_one_before(shelf: Shelf, pages_written: int) -> None:
    kept = await shelf.save(7)
    shelf.journal.close()
    code = f"""
import asyncio, os, signal
from pathlib import Path
from tests.plans import make_head
from tests.chaos.test_snapshots import Shelf, content

def pages():
    for number in range(9):
        if number == {pages_written}:
            os.kill(os.getpid(), signal.SIGKILL)
        yield content(3, number)

shelf = Shelf(Path({str(shelf.path)!r}))
asyncio.run(shelf.store.save("x", make_head(8), "print", {{"market/m": pages}}))
"""
    ended = await asyncio.to_thread(run_script, code)
    assert ended == -9
    assert shelf.sql("SELECT count(*) FROM snapshot_pages") == [(5 + pages_written,)]
    again = Shelf(shelf.path)
    assert await again.store.found("x") == [kept]
    assert list(again.store.read(kept)("market/m")) == list(pages(7, 3)())
    await again.save(9)
    assert again.sql("SELECT count(*) FROM snapshot_pages") == [(10,)]
    again.journal.close()


async def test_the_newest_and_one_old_enough_are_kept(shelf: Shelf) -> None:
    oldest = 0
    for number in range(100, 4_000, 75):
        await shelf.save(number, count=1)
        held = [each.number for each in await shelf.store.found("x")]
        assert held[0] == number
        assert len(held) <= 3
        if number > 100 + OLDER_BY:
            assert held[-1] <= number - OLDER_BY
            oldest = max(oldest, number - held[-1])
    assert oldest <= 2 * OLDER_BY + 75
    assert shelf.sql("SELECT count(DISTINCT snapshot) FROM snapshot_pages") == [(3,)]


async def test_chains_keep_their_own(shelf: Shelf) -> None:
    await asyncio.gather(*(shelf.save(number, chain=name) for name, number in (("x", 5), ("y", 9))))
    for name, number in (("x", 5), ("y", 9)):
        (found,) = await shelf.store.found(name)
        assert list(shelf.store.read(found)("market/m")) == list(pages(number, 3)())
        await shelf.store.discard(found)
        assert await shelf.store.found(name) == []
    assert shelf.sql("SELECT count(*) FROM snapshot_pages") == [(0,)]


def test_what_is_kept_of_one_and_of_none() -> None:
    assert kept_of([]) == set()
    assert kept_of([(1, 50)]) == {1}
    assert kept_of([(2, 50), (1, 50)]) == {2, 1}


async def test_after_a_rollback_the_last_one_taken_comes_first_and_is_kept(shelf: Shelf) -> None:
    for number in (100, 5_000, 4_900, 4_950):
        await shelf.save(number, count=1)
        assert (await shelf.store.found("x"))[0].number == number
    assert [each.number for each in await shelf.store.found("x")] == [4_950, 4_900, 100]


async def test_urgent_writes_go_between_the_pages(shelf: Shelf) -> None:
    order: list[str] = []
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(encode: Pages) -> Callable[[], Iterator[bytes]]:
        def encoding() -> Iterator[bytes]:
            for number, each in enumerate(encode()):
                order.append(f"page {number}")
                loop.call_soon_threadsafe(begun.set)
                yield each

        return encoding

    plans = Plans()
    saving = asyncio.ensure_future(
        shelf.store.save("x", make_head(7), "print", {"market/m": told(pages(1, 40))})
    )
    await begun.wait()
    for number in range(5):
        plan = plans.make()
        await shelf.journal.planned(plan)
        await shelf.journal.signed(signed(plan))
        order.append(f"sent {number}")
    await saving
    assert order.index("sent 4") < order.index("page 39"), "the sends waited for the snapshot"
    assert len(await shelf.journal.pending()) == 5


async def test_a_closed_journal_takes_no_page(shelf: Shelf) -> None:
    shelf.journal.close()
    with pytest.raises(InvariantError, match="closed"):
        await shelf.save(7)


def test_what_shrinks_is_packed_and_the_rest_is_not() -> None:
    zeros, random = bytes(SIZE), content(1, 2)
    packed, plain = pack("s", 0, zeros), pack("s", 1, random)
    assert packed.encoding == ZLIB
    assert len(packed.data) < SIZE // 10
    assert plain.data == random
    assert unpack(packed) == zeros
    assert unpack(plain) == random
    with pytest.raises(ValueError, match="damaged"):
        unpack(replace(packed, number=1))
