"""Scans in the journal's database: whole or not at all, of one chain, forgotten when loaded."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keeper.journal.sqlite import SqliteJournal
from keeper.ports import Scanned
from keeper.units import Hash
from tests.fake_node import FakeClock

STAGE = "history of main"
ONE, OTHER = b"\x01" * 32, b"\x02" * 32
ANCHOR = Hash(b"\x03" * 32)


def part(first: int, last: int, keys: bytes = b"") -> Scanned:
    return Scanned(first, last, 900, ANCHOR, keys, 2 if keys else 0)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    opened = SqliteJournal(tmp_path / "journal.db", FakeClock(), 1, lambda _: None)
    opened.open()
    yield opened
    opened.close()


async def test_a_scan_is_given_back_as_it_was_saved(journal: SqliteJournal) -> None:
    checkpoint = journal.checkpoint(1)
    assert await checkpoint.load(STAGE, ONE) == []
    parts = [part(0, 9, b"aabb"), part(20, 29)]
    await checkpoint.save(STAGE, ONE, parts)
    await checkpoint.save(STAGE, ONE, [part(10, 19, b"cc")])
    await checkpoint.save("history of side", ONE, [part(0, 5, b"dd")])
    assert await journal.checkpoint(1).load(STAGE, ONE) == [*parts, part(10, 19, b"cc")]
    assert await journal.checkpoint(1).load("history of side", ONE) == [part(0, 5, b"dd")]


async def test_another_search_under_the_same_name_forgets_the_old_one(
    journal: SqliteJournal,
) -> None:
    checkpoint = journal.checkpoint(1)
    await checkpoint.save(STAGE, ONE, [part(0, 9, b"aa")])
    assert await checkpoint.load(STAGE, OTHER) == []
    assert await checkpoint.load(STAGE, ONE) == []


async def test_chains_are_apart_and_clearing_is_of_one(journal: SqliteJournal) -> None:
    for chain_id in (1, 10):
        await journal.checkpoint(chain_id).save(STAGE, ONE, [part(0, chain_id)])
    await journal.checkpoint(1).clear()
    assert await journal.checkpoint(1).load(STAGE, ONE) == []
    assert await journal.checkpoint(10).load(STAGE, ONE) == [part(0, 10)]


async def test_a_part_that_cannot_be_saved_takes_the_others_back(journal: SqliteJournal) -> None:
    checkpoint = journal.checkpoint(1)
    broken = Scanned(5, 9, 900, ANCHOR, None, 0)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        await checkpoint.save(STAGE, ONE, [part(0, 4, b"aa"), broken])
    assert await checkpoint.load(STAGE, ONE) == []
