"""Why a part of the book is not trusted."""

from dataclasses import dataclass
from enum import StrEnum

from keeper.errors import InvariantError, UndecodableError
from keeper.types import Drift, Log


class FaultKind(StrEnum):
    """What went wrong, as metrics label it."""

    INVARIANT = "invariant"
    UNDECODABLE = "undecodable"
    DRIFT = "drift"
    UPGRADED = "upgraded"
    REORG = "reorg"
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a part, in words for the operator, and from which block on."""

    kind: FaultKind
    why: str
    block: int


def fault_of_log(error: Exception, log: Log) -> Fault:
    """Return what an error while one log was folded means."""
    if isinstance(error, UndecodableError):
        return Fault(FaultKind.UNDECODABLE, str(error), log.block_number)
    if isinstance(error, InvariantError):
        return Fault(FaultKind.INVARIANT, str(error), log.block_number)
    why = (
        f"log {log.index} of block {log.block_number} from 0x{log.address.hex()} does not decode"
        f" ({type(error).__name__}: {error})"
    )
    return Fault(FaultKind.UNDECODABLE, why, log.block_number)


def fault_of_drift(drifts: list[Drift], block: int) -> Fault:
    """Return what an audit's differences mean: the first one, and how many there are."""
    first = drifts[0]
    more = f", and {len(drifts) - 1} more" if len(drifts) > 1 else ""
    why = f"{first.subject} is {first.held} here and {first.actual} on the chain{more}"
    return Fault(FaultKind.DRIFT, why, block)
