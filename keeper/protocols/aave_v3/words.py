"""ABI words by slicing: encode reads, decode answers and events."""

from collections.abc import Sequence
from functools import cache

from eth_hash.auto import keccak

from keeper.errors import IncompleteError
from keeper.types import Call, CallResult, Log
from keeper.units import Address

LAST_ADDRESS = bytes(12) + b"\xff" * 20
"""No word above it is an address."""


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


def uint(data: bytes, position: int = 0) -> int:
    """Return the word at a position, counted in words."""
    return int.from_bytes(data[32 * position : 32 * position + 32], "big")


def small(data: bytes, position: int, bits: int) -> int:
    """Return a word of a narrow type; raise `ValueError` when it holds more than its bits."""
    value = uint(data, position)
    if value >> bits:
        raise ValueError(f"word {position} is over {bits} bits")
    return value


def topic_address(log: Log, position: int) -> Address:
    """Return an indexed address; raise `ValueError` for a word that is none."""
    word = log.topics[position]
    if len(word) != 32 or word > LAST_ADDRESS:
        raise ValueError(f"topic {position} is no address")
    return Address(word[12:])


def malformed(log: Log) -> ValueError:
    """Return the error for a log of another shape than its event's."""
    return ValueError(f"it has {len(log.topics)} topics and {len(log.data)} bytes")


def address(data: bytes, position: int = 0) -> Address:
    """Return the address in the word at a position."""
    return Address(data[32 * position + 12 : 32 * position + 32])


def addresses(data: bytes) -> list[Address]:
    """Return a dynamic array of addresses that is the only value."""
    return [address(data, 2 + position) for position in range(uint(data, 1))]


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
