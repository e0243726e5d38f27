"""ABI words by slicing: encode reads, decode answers and events."""

from collections.abc import Sequence
from functools import cache

from eth_hash.auto import keccak

from keeper.errors import IncompleteError
from keeper.types import Call, CallResult, Log
from keeper.units import Address


def topic(signature: str) -> bytes:
    """Return the first topic of an event."""
    return keccak(signature.encode())


@cache
def selector(signature: str) -> bytes:
    """Return the selector of a function."""
    return keccak(signature.encode())[:4]


def read(target: Address, signature: str, *words: int | bytes) -> Call:
    """Return a call of `name(types)` with static arguments; bytes are addresses."""
    data = selector(signature) + b"".join(
        word.to_bytes(32, "big") if isinstance(word, int) else word.rjust(32, b"\0")
        for word in words
    )
    return Call(target, data)


def uints(data: bytes, count: int) -> list[int]:
    """Return the words of an event; raise `ValueError` when it has another number of them."""
    if len(data) != 32 * count:
        raise ValueError(f"it has {len(data)} bytes of data, not {32 * count}")
    return [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32)]


def uint(data: bytes, position: int = 0) -> int:
    """Return the word at a position, counted in words."""
    return int.from_bytes(data[32 * position : 32 * position + 32], "big")


def address(data: bytes, position: int = 0) -> Address:
    """Return the address in the word at a position."""
    return Address(data[32 * position + 12 : 32 * position + 32])


def subject(log: Log) -> Address:
    """Return the address that is the log's one indexed value; raise `ValueError` for none."""
    if len(log.topics) != 2 or len(log.topics[1]) != 32 or any(log.topics[1][:12]):
        raise ValueError(f"it has {len(log.topics)} topics")
    return Address(log.topics[1][12:])


def text(data: bytes) -> str:
    """Return a string, or the bytes32 that some old tokens answer; empty when it is neither."""
    raw = data.rstrip(b"\0") if len(data) == 32 else data[64 : 64 + uint(data, 1)]
    return raw.decode("utf-8", "replace").strip()


def answers(results: Sequence[CallResult], what: str, words: int = 1) -> list[bytes]:
    """Return the data of calls that must all have answered; raise `IncompleteError` otherwise."""
    for position, result in enumerate(results):
        if not result.ok or len(result.data) < 32 * words:
            raise IncompleteError(f"read {position} of {what} was not answered")
    return [result.data for result in results]
