"""What Morpho's events index."""

from keeper.chain.words import WORD
from keeper.types import Log
from keeper.units import Address, Hash


def indexed_address(log: Log, position: int) -> Address:
    """Return an indexed address; raise `ValueError` for a word that is none."""
    found = log.topics[position]
    if len(found) != WORD or any(found[:12]):
        raise ValueError(f"topic {position} is no address")
    return Address(found[12:])


def indexed_id(log: Log) -> Hash:
    """Return the market's id, indexed first in every event."""
    return Hash(log.topics[1])
