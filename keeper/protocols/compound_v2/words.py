"""ABI words by slicing: encode reads, decode answers and events."""

from collections.abc import Sequence
from functools import cache

from eth_hash.auto import keccak

from keeper.errors import IncompleteError
from keeper.types import Call, CallResult, Log
from keeper.units import Address

LAST_ADDRESS = bytes(12) + b"\xff" * 20
"""No word above it is an address."""


@cache
def topic(signature: str) -> bytes:
    """Return the first topic of an event."""
    return keccak(signature.encode())


@cache
def selector(signature: str) -> bytes:
    """Return the selector of a function."""
    return keccak(signature.encode())[:4]


def word(value: int | bytes) -> bytes:
    """Return a number or an address as a word."""
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def read(target: Address, signature: str, *words: int | bytes) -> Call:
    """Return a call of `name(types)` with static arguments; bytes are addresses."""
    return Call(target, selector(signature) + b"".join(map(word, words)))


def values(log: Log, count: int) -> list[bytes]:
    """Return an event's values, indexed first; raise `ValueError` when there are not so many.

    Forks differ in which of the first ones they index, and not in their order.
    """
    data = log.data
    found = [*log.topics[1:], *(data[at : at + 32] for at in range(0, len(data), 32))]
    if len(found) != count or any(len(each) != 32 for each in found):
        raise ValueError(f"it has {len(log.topics)} topics and {len(data)} bytes")
    return found


def number(value: bytes) -> int:
    """Return a word as a number."""
    return int.from_bytes(value, "big")


def account(value: bytes) -> Address:
    """Return a word as an address; raise `ValueError` when it is none."""
    if value > LAST_ADDRESS:
        raise ValueError("a word is no address")
    return Address(value[12:])


def uint(data: bytes, position: int = 0) -> int:
    """Return the word at a position, counted in words."""
    return int.from_bytes(data[32 * position : 32 * position + 32], "big")


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


def answered(result: CallResult) -> bool:
    """Tell whether a call answered with a word at least."""
    return result.ok and len(result.data) >= 32


def maybe(result: CallResult, otherwise: int = 0) -> int:
    """Return the first word of an answer, or another number where a fork has no such function."""
    return uint(result.data) if answered(result) else otherwise


def answers(results: Sequence[CallResult], what: str) -> list[bytes]:
    """Return the data of calls that must all have answered; raise `IncompleteError` otherwise."""
    for position, result in enumerate(results):
        if not answered(result):
            raise IncompleteError(f"read {position} of {what} was not answered")
    return [result.data for result in results]
