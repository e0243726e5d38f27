"""Read a tape from its beginning, one record at a time; nothing is read ahead of what is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from keeper.errors import ConfigError
from keeper.tape.chunks import START, Chunk, Kind, Torn, read_chunks
from keeper.tape.records import Decoding, Record, State, Title


@dataclass(slots=True)
class End:
    """Behind which chunk to go on, its checksum, and whether part of another record follows."""

    at: int = START
    checksum: bytes = b""
    is_torn: bool = False


def read_tape(path: Path, end: End | None = None) -> Iterator[Record]:
    """Yield the records of a tape in order; `end` learns where they end.

    Raises `ConfigError` for a file that is no tape, damaged, or of another version, and for one that
    ends inside a record unless `end` is there to learn of it. Pages belong to the state behind them:
    without it, a tape ends before them.
    """
    decoding, pages = Decoding(), dict[str, list[bytes]]()
    records = 0
    for chunk in read_chunks(path):
        if isinstance(chunk, Torn):
            if end is None:
                raise _torn(path)
            end.is_torn = True
            break
        if chunk.kind is Kind.PAGE:
            name, _, content = chunk.content.partition(b"\0")
            pages.setdefault(name.decode(), []).append(content)
            continue
        if end is not None:
            end.at, end.checksum = chunk.end, chunk.checksum
        for record in _decoded(path, chunk, decoding, pages):
            if (records == 0) != isinstance(record, Title):
                raise _senseless(path, chunk)
            records += 1
            yield record
        pages = {}
    if end is not None:
        end.is_torn = end.is_torn or bool(pages)
    elif pages or not records:
        raise _torn(path)


def holds_state(path: Path) -> bool:
    """Tell whether a tape got as far as a state; one cut off before it holds nothing to go on with.

    Raises `ConfigError` for a file that is no tape, damaged, or of another version.
    """
    return any(isinstance(record, State) for record in read_tape(path, End()))


def read_title(path: Path) -> Title:
    """Return what a tape says of itself."""
    title = next(read_tape(path))
    assert isinstance(title, Title), "a tape begins with its title"
    return title


def _decoded(
    path: Path, chunk: Chunk, decoding: Decoding, pages: dict[str, list[bytes]]
) -> Iterator[Record]:
    for line in chunk.content.splitlines():
        try:
            record = decoding.decode(orjson.loads(line), pages)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise _senseless(path, chunk) from error
        yield record


def _senseless(path: Path, chunk: Chunk) -> ConfigError:
    return ConfigError(
        f"{path}: the records before byte {chunk.end} of the tape make no sense",
        "use a copy of it, or record it anew",
    )


def _torn(path: Path) -> ConfigError:
    return ConfigError(
        f"{path}: the tape is truncated: it ends inside a record",
        "`keeper record -o` the same file cuts that off and goes on",
    )
