"""ABI words by slicing: encode reads, decode answers and events."""

from collections.abc import Sequence
from functools import cache

from eth_hash.auto import keccak

from keeper.errors import IncompleteError
from keeper.types import Call, CallResult
from keeper.units import Address

WORD = 32
"""Bytes of a word."""
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
    """Return one word: a number, an address or 32 bytes."""
    return value.to_bytes(WORD, "big") if isinstance(value, int) else value.rjust(WORD, b"\0")


def words(*values: int | bytes) -> bytes:
    """Return words one after the other."""
    return b"".join(map(word, values))


def read(target: Address, signature: str, *arguments: int | bytes) -> Call:
    """Return a call of `name(types)` with static arguments; bytes are addresses or words."""
    return Call(target, selector(signature) + b"".join(map(word, arguments)))


def uint(data: bytes, position: int = 0) -> int:
    """Return the word at a position, counted in words."""
    return int.from_bytes(data[WORD * position : WORD * position + WORD], "big")


def uints(data: bytes, count: int) -> list[int]:
    """Return the words of an event; raise `ValueError` when it has another number of them."""
    if len(data) != WORD * count:
        raise ValueError(f"it has {len(data)} bytes of data, not {WORD * count}")
    return [int.from_bytes(data[at : at + WORD], "big") for at in range(0, len(data), WORD)]


def address(data: bytes, position: int = 0) -> Address:
    """Return the address in the word at a position."""
    return Address(data[WORD * position + 12 : WORD * position + WORD])


def addresses(data: bytes) -> list[Address]:
    """Return a dynamic array of addresses that is the only value."""
    return [address(data, 2 + position) for position in range(uint(data, 1))]


def text(data: bytes) -> str:
    """Return a string, or the bytes32 that some old tokens answer; empty when it is neither."""
    raw = data.rstrip(b"\0") if len(data) == WORD else data[64 : 64 + uint(data, 1)]
    return raw.decode("utf-8", "replace").strip()


def answered(result: CallResult, words: int = 1) -> bool:
    """Tell whether a read was answered with so many words at least."""
    return result.ok and len(result.data) >= WORD * words


def is_word(result: CallResult) -> bool:
    """Tell whether a read was answered with one word and nothing else."""
    return result.ok and len(result.data) == WORD


def answers(results: Sequence[CallResult], what: str, words: int = 1) -> list[bytes]:
    """Return the data of calls that must all have answered; raise `IncompleteError` otherwise."""
    for position, result in enumerate(results):
        if not answered(result, words):
            raise IncompleteError(f"read {position} of {what} was not answered")
    return [result.data for result in results]
