"""A tape cut off in or behind any chunk: what is left of it, and what goes on behind that."""

import os
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from keeper.errors import ConfigError
from keeper.tape.chunks import START, Chunk, Kind, read_chunks
from keeper.tape.reading import End, holds_state, read_tape
from keeper.tape.records import Block, Reads, Record, State, Title
from keeper.tape.writing import TapeWriter
from keeper.types import Call, CallResult
from tests.plans import CONTRACT, make_head

TITLE = Title("x", 1, 12, "", {}, {})
READS = Reads((Call(CONTRACT, b"\1"),), (CallResult(True, b"\2"),))
PAGES = {"market/a": [b"one", b"two"], "venue/b": [b"three"]}
RECORDS: list[list[Record]] = [
    [TITLE],
    [State(make_head(7), PAGES)],
    [READS],
    [Block(make_head(8), []), READS],
    [State(make_head(9), PAGES)],
    [READS],
]
"""What is on a tape, by what one flush wrote."""


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Return a tape that was restated in its middle."""
    path = tmp_path / "whole.tape"
    write(path, RECORDS)
    return path


def write(path: Path, flushes: list[list[Record]], end: End | None = None) -> None:
    """Write records, or write them behind what is there."""
    writer = TapeWriter(path, end)
    for records in flushes:
        for record in records:
            writer.add(record)
        writer.flush()
    writer.close()


def test_a_tape_cut_in_or_behind_any_chunk_is_gone_on_with_behind_its_last_whole_record(
    whole: Path,
) -> None:
    content, held = whole.read_bytes(), list(read_tape(whole))
    path = whole.with_name("cut.tape")
    more: Record = Block(make_head(11), [])
    ends = dict[int, int]()
    starts = [START, *(chunk.end for chunk in read_chunks(whole))]
    cuts = (at for start in starts for at in (start - 1, start, start + 1, start + 13, start + 20))
    for cut in (cut for cut in cuts if START <= cut < len(content)):
        path.write_bytes(content[:cut])
        end = End()
        left = list(read_tape(path, end))
        assert left == held[: len(left)]
        assert end.is_torn == (cut != end.at)
        if end.at in ends:
            continue
        ends[end.at] = len(left)
        assert holds_state(path) == any(isinstance(record, State) for record in left)
        write(path, [[more]] if left else [[TITLE]], end)
        assert list(read_tape(path)) == ([*left, more] if left else [TITLE])
    counts = [sum(map(len, islice(RECORDS, number))) for number in range(len(RECORDS))]
    assert list(ends.values()) == counts


def test_a_tape_that_ends_between_the_pages_of_a_state_is_torn(whole: Path) -> None:
    page = next(
        chunk
        for chunk in read_chunks(whole)
        if isinstance(chunk, Chunk) and chunk.kind is Kind.PAGE
    )
    whole.write_bytes(whole.read_bytes()[: page.end])
    with pytest.raises(ConfigError, match="ends inside a record"):
        list(read_tape(whole))


def test_a_state_is_whole_or_not_there(whole: Path) -> None:
    states = [record for record in read_tape(whole) if isinstance(record, State)]
    assert [state.pages for state in states] == [PAGES, PAGES]


def test_a_tape_that_cannot_be_written_is_the_operators_to_mend(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "x.tape", tmp_path):
        with pytest.raises(ConfigError, match="cannot be written"):
            TapeWriter(path)


def test_a_disk_that_takes_a_part_at_a_time_gets_the_whole(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = whole.with_name("parts.tape")
    opened = os.fdopen

    class Narrow(FileIO):
        def write(self, content: Any) -> int:
            return super().write(memoryview(content)[:7])

    monkeypatch.setattr(os, "fdopen", lambda number, *_, **__: Narrow(number, "r+b"))
    write(path, RECORDS)
    monkeypatch.setattr(os, "fdopen", opened)
    assert path.read_bytes() == whole.read_bytes()


def test_two_do_not_write_one_tape(tmp_path: Path) -> None:
    path = tmp_path / "one.tape"
    first = TapeWriter(path)
    with pytest.raises(ConfigError, match="another recorder writes it"):
        TapeWriter(path)
    first.close()
    TapeWriter(path).close()
