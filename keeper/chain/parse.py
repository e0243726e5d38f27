"""Node JSON to nouns and back; what does not decode is an error, never skipped."""

from binascii import unhexlify
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise, repeat
from operator import itemgetter
from typing import Any

import numpy as np
from msgspec.structs import astuple

from keeper.chain.entries import Entry, entries
from keeper.errors import TransientError
from keeper.types import Head, Log
from keeper.units import Hash, Wei

_PLACE = itemgetter(Log._fields.index("block_number"), Log._fields.index("index"))
_PLACES = {hex(place): place for place in range(1_024)}
"""Most of the indexes there are, looked up for a third of what reading a number takes."""
_DIGITS = 66
_WORD = np.dtype([("prefix", "V1"), ("word", "V32")])


def quantity(text: str) -> int:
    """Read a JSON-RPC quantity."""
    return int(text, 16)


def blob(text: str) -> bytes:
    """Read JSON-RPC data: 0x-prefixed hex."""
    return bytes.fromhex(text[2:])


def head(header: Mapping[str, Any]) -> Head:
    """Read a block header, from a subscription or from a block request."""
    try:
        return Head(
            number=int(header["number"], 16),
            hash=Hash(blob(header["hash"])),
            parent=Hash(blob(header["parentHash"])),
            timestamp=int(header["timestamp"], 16),
            base_fee=Wei(int(header.get("baseFeePerGas") or "0x0", 16)),
            gas_used=int(header["gasUsed"], 16),
            gas_limit=int(header["gasLimit"], 16),
            bloom=blob(header.get("logsBloom") or "0x"),
            extra=blob(header.get("extraData") or "0x"),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TransientError(f"the node sent a malformed header: {error!r}") from error


def log(entry: Mapping[str, Any]) -> Log:
    """Read one event log; one that a reorg took off the chain is refused."""
    return logs([entry])[0]


def logs(result: object, timestamp: int = 0) -> list[Log]:
    """Read logs and put them in chain order; raise `TransientError` unless all can be read.

    `timestamp` is that of the block all of them are of, when they are of one.
    """
    found = entries(result)
    if not found:
        return []
    try:
        return _read(found, timestamp)
    except ValueError as error:
        raise TransientError(f"the node sent a malformed log: {error!r}") from error


def _read(found: list[Entry], timestamp: int) -> list[Log]:
    """Read logs column by column, so that no field costs a line of Python for each log.

    One column after the other: in turns they would take a tenth longer.
    """
    fields = zip(*map(astuple, found), strict=True)
    contracts, topics, data, numbers, blocks, indexes, transactions, removed = fields
    if True in removed:
        raise TransientError("the node sent a log that is no longer on the chain")
    count, word = len(found), _Words(32).__getitem__
    order = places(indexes)
    is_one = numbers.count(numbers[0]) == blocks.count(blocks[0]) == count
    columns: tuple[Iterable[object], ...] = (
        list(map(_Words(20).__getitem__, contracts)),
        _topics(topics),
        [unhexlify(text[2:]) for text in data],
        repeat(int(numbers[0], 16)) if is_one else list(map(int, numbers, repeat(16))),
        repeat(word(blocks[0])) if is_one else list(map(word, blocks)),
        order,
        words(transactions),
        repeat(timestamp),
    )
    read = list(map(tuple.__new__, repeat(Log), zip(*columns, strict=False)))
    if not is_one or order != sorted(order):
        read.sort(key=_PLACE)
    return read


def places(indexes: Sequence[str]) -> list[int]:
    """Read positions in a block."""
    found: list[Any] = list(map(_PLACES.get, indexes))
    return list(map(int, indexes, repeat(16))) if None in found else found


def _topics(topics: Sequence[Sequence[str]]) -> list[tuple[bytes, ...]]:
    texts = list(chain.from_iterable(topics))
    if not texts:
        return [()] * len(topics)
    read = tuple(words(texts))
    ends = list(accumulate(map(len, topics), initial=0))
    return [read[start:end] for start, end in pairwise(ends)]


def words(texts: Sequence[str]) -> list[bytes]:
    """Read words in one piece, proven to be 0x and 32 bytes each."""
    count = len(texts)
    digits = bytearray("".join(texts), "ascii")
    # What stands elsewhere than at its own prefix is refused as a digit.
    if (
        len(digits) != _DIGITS * count
        or digits[::_DIGITS] != b"0" * count
        or digits[1::_DIGITS] != b"x" * count
    ):
        raise ValueError("a word is no 0x and 32 bytes")
    digits[1::_DIGITS] = b"0" * count
    read: list[bytes] = np.frombuffer(unhexlify(digits), _WORD)["word"].tolist()
    return read


class _Words(dict[str, bytes]):
    """Hex words of one length, decoded at first sight: most come many times in one answer."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __missing__(self, text: str) -> bytes:
        value = self[text] = unhexlify(text[2:])
        if len(value) != self._length:
            raise ValueError(f"{len(value)} bytes instead of {self._length}")
        return value
