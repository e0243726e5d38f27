"""Write a tape, and go on with one that was left."""

from dataclasses import dataclass
from pathlib import Path

import orjson

from keeper.tape.chunks import ChunkWriter, Kind
from keeper.tape.reading import End
from keeper.tape.records import Encoding, Record, State

LARGEST_BUFFER = 1 << 22
"""Bytes of records held back at most before they are written all the same."""


@dataclass(slots=True)
class Sizes:
    """What was written by this process: bytes in the file, and before they were packed."""

    stored: int = 0
    raw: int = 0
    state: int = 0
    blocks: int = 0


class TapeWriter:
    """Append records; `flush` hands them to the file, and a kill loses only what came after it."""

    def __init__(self, path: Path, end: End | None = None) -> None:
        self._chunks = ChunkWriter(path) if end is None else ChunkWriter(path, end.at, end.checksum)
        self._encoding = Encoding()
        self._lines: list[bytes] = []
        self._waiting = 0
        self.sizes = Sizes()

    def add(self, record: Record) -> None:
        """Take one record; a state is written at once, pages first, so that none is ever half there."""
        if isinstance(record, State):
            self.flush()
            for name, pages in record.pages.items():
                for page in pages:
                    stored = self._write(Kind.PAGE, name.encode() + b"\0" + page)
                    self.sizes.state += stored
        line = orjson.dumps(self._encoding.encode(record))
        self._lines.append(line)
        self._waiting += len(line)
        if isinstance(record, State) or self._waiting > LARGEST_BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what was added as one chunk."""
        if self._lines:
            self.sizes.blocks += self._write(Kind.RECORDS, b"\n".join(self._lines))
            self._lines, self._waiting = [], 0

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        self._chunks.close()

    def _write(self, kind: Kind, content: bytes) -> int:
        stored = self._chunks.write(kind, content)
        self.sizes.stored += stored
        self.sizes.raw += len(content)
        return stored
