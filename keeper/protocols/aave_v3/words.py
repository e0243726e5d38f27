"""Words of Aave's events that are narrower than a word, and logs of another shape."""

from keeper.chain.words import LAST_ADDRESS, uint
from keeper.types import Log
from keeper.units import Address


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
