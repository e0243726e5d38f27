"""Values of events whatever of them a fork indexes, and answers a fork may not have."""

from keeper.chain.words import LAST_ADDRESS, answered, uint
from keeper.types import CallResult, Log
from keeper.units import Address


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


def maybe(result: CallResult, otherwise: int = 0) -> int:
    """Return the first word of an answer, or another number where a fork has no such function."""
    return uint(result.data) if answered(result) else otherwise
