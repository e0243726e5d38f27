"""The file under a tape: packed chunks, each signed for its place behind the one before.

    magic (8) · version (2) · chunk, chunk, …
    chunk: kind (1) · stored length (4) · raw length (4) · CRC-32 of these nine (4) · data · checksum (16)

Integers are big-endian, data is zlib, and a checksum covers the chunk and the checksum before it: no
chunk can be changed, taken out or moved. A chunk is written at once, so a killed writer leaves a torn
one at the end at most, and the lengths' own CRC tells that from damage.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from keeper.errors import ConfigError

MAGIC: Final = b"KEEPTAPE"
VERSION: Final = 1
START: Final = len(MAGIC) + 2
LARGEST: Final = 1 << 28
"""Bytes of a chunk unpacked; one that claims more is damaged."""
_LENGTHS = struct.Struct(">BII")
_CRC = struct.Struct(">I")
_BEFORE_DATA = _LENGTHS.size + _CRC.size
_CHECKSUM = 16


class Kind(IntEnum):
    """What a chunk holds: records as JSON lines, or one page of a source's state."""

    RECORDS = 1
    PAGE = 2


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk unpacked, where it ends in the file, and its checksum."""

    kind: Kind
    content: bytes
    end: int
    stored: int
    checksum: bytes


@dataclass(frozen=True, slots=True)
class Torn:
    """Where a file's last whole chunk ends, when part of another one follows."""

    end: int


def read_chunks(path: Path) -> Iterator[Chunk | Torn]:
    """Yield every chunk, and `Torn` last when the file ends inside one.

    Raises `ConfigError` for a file that is no tape, of another version, or damaged.
    """
    try:
        with path.open("rb") as file:
            _check_start(path, file.read(START))
            yield from _chunks(path, file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})", "name a tape") from None


def _check_start(path: Path, start: bytes) -> None:
    if start[: len(MAGIC)] != MAGIC or len(start) < START:
        raise ConfigError(f"{path} is no tape", "`keeper record -o FILE` writes one")
    version = int.from_bytes(start[len(MAGIC) :], "big")
    if version != VERSION:
        raise ConfigError(
            f"{path}: the tape has version {version}, this keeper reads {VERSION}",
            "record it anew, or use the keeper that wrote it",
        )


def _chunks(path: Path, file: BinaryIO) -> Iterator[Chunk | Torn]:
    end, last = START, b""
    while before := file.read(_BEFORE_DATA):
        if len(before) < _BEFORE_DATA:
            yield Torn(end)
            return
        lengths, crc = before[: _LENGTHS.size], before[_LENGTHS.size :]
        if _CRC.pack(zlib.crc32(lengths)) != crc:
            raise _damaged(path, end)
        kind, stored, raw = _LENGTHS.unpack(lengths)
        data = file.read(stored)
        checksum = file.read(_CHECKSUM)
        if len(data) + len(checksum) < stored + _CHECKSUM:
            yield Torn(end)
            return
        if checksum != _checksum(last, before, data) or raw > LARGEST:
            raise _damaged(path, end)
        size = _BEFORE_DATA + stored + _CHECKSUM
        try:
            content = _unpack(data, raw)
            chunk = Chunk(Kind(kind), content, end + size, size, checksum)
        except (ValueError, zlib.error):
            raise _damaged(path, end) from None
        yield chunk
        end, last = chunk.end, checksum


def _unpack(data: bytes, length: int) -> bytes:
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(data, length) if length else b""
    if len(content) != length:
        raise ValueError("it unpacks to another length")
    return content


def _damaged(path: Path, at: int) -> ConfigError:
    return ConfigError(
        f"{path}: the tape is damaged behind byte {at}", "use a copy of it, or record it anew"
    )


def _checksum(last: bytes, before: bytes, data: bytes) -> bytes:
    digest = blake2b(last, digest_size=_CHECKSUM)
    digest.update(before)
    digest.update(data)
    return digest.digest()


class ChunkWriter:
    """Append chunks; each is with the operating system when `write` returns.

    It starts behind `end`, where the last whole chunk has the checksum `last`; whatever stands there
    is cut off. Raises `ConfigError` for a file that cannot be written.
    """

    def __init__(self, path: Path, end: int = 0, last: bytes = b"") -> None:
        try:
            # a tape tells what its owner watches: it is nobody else's business
            number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written ({error.strerror})", "name another file"
            ) from None
        self._file = os.fdopen(number, "r+b", buffering=0)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigError(f"{path}: another recorder writes it", "name another file") from None
        self._last = last
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._append(MAGIC + VERSION.to_bytes(2, "big"))

    def write(self, kind: Kind, content: bytes) -> int:
        """Append one chunk and return how many bytes it takes."""
        data = zlib.compress(content, 6)
        lengths = _LENGTHS.pack(kind, len(data), len(content))
        before = lengths + _CRC.pack(zlib.crc32(lengths))
        checksum = _checksum(self._last, before, data)
        self._append(before + data + checksum)
        self._last = checksum
        return _BEFORE_DATA + len(data) + _CHECKSUM

    def _append(self, content: bytes) -> None:
        left = memoryview(content)
        while left:  # a full disk takes a part, and tells so in the count alone
            left = left[self._file.write(left) :]

    def close(self) -> None:
        """Bring everything to the disk and close the file."""
        os.fsync(self._file.fileno())
        self._file.close()
