"""What the Vat tells of a call: an anonymous note of its selector, three words and its calldata.

The note holds 224 bytes of calldata, zeros behind its end (makerdao/dss vat.sol: modifier note).
"""

from dataclasses import dataclass

from keeper.chain.words import WORD, address, selector, uint
from keeper.types import Log
from keeper.units import Address


def _topic(signature: str) -> bytes:
    return selector(signature).ljust(WORD, b"\0")


FROB = _topic("frob(bytes32,address,address,address,int256,int256)")
GRAB = _topic("grab(bytes32,address,address,address,int256,int256)")
FORK = _topic("fork(bytes32,address,address,int256,int256)")
FOLD = _topic("fold(bytes32,address,int256)")
FILE = _topic("file(bytes32,bytes32,uint256)")
TOPICS = frozenset({FROB, GRAB, FORK, FOLD, FILE})
_CALLDATA = 2 * WORD + 4
_SIZE = 2 * WORD + 224


@dataclass(frozen=True, slots=True)
class Moved:
    """Urns that changed: owner, collateral and debt that came, or left where below zero."""

    owners: tuple[tuple[Address, int, int], ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """What the rate of all debts rose by."""

    rate: int


@dataclass(frozen=True, slots=True)
class Filed:
    """A figure of one collateral that was set."""

    what: str
    value: int


def decode(log: Log) -> Moved | Folded | Filed:
    """Return what a note of these calls says; raise `ValueError` when it has another form."""
    if len(log.topics) != 4 or len(log.data) < _SIZE:
        raise ValueError("it is no note of a call")
    words, what = log.data[_CALLDATA:], log.topics[0]
    if what == FOLD:
        return Folded(_int(words, 2))
    if what == FILE:
        return Filed(
            words[WORD : 2 * WORD].rstrip(b"\0").decode("ascii", "replace"), uint(words, 2)
        )
    if what == FORK:
        ink, art = _int(words, 3), _int(words, 4)
        source, target = address(words, 1), address(words, 2)
        if source == target:
            return Moved(())
        return Moved(((source, -ink, -art), (target, ink, art)))
    return Moved(((address(words, 1), _int(words, 4), _int(words, 5)),))


def _int(words: bytes, position: int) -> int:
    return int.from_bytes(words[WORD * position : WORD * position + WORD], "big", signed=True)
