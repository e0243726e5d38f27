"""What the system's events index."""

from keeper.types import Log
from keeper.units import Address


def subject(log: Log) -> Address:
    """Return the address that is the log's one indexed value; raise `ValueError` for none."""
    if len(log.topics) != 2 or len(log.topics[1]) != 32 or any(log.topics[1][:12]):
        raise ValueError(f"it has {len(log.topics)} topics")
    return Address(log.topics[1][12:])
