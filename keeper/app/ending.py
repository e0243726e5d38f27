"""What became of the transactions that were in flight when the keeper was told to cancel them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from keeper.execution.flight import Flight
from keeper.types import Cancelled, Included, Receipt, Reverted
from keeper.units import to_hex

UNTOLD = "not in a block yet"


@dataclass(frozen=True, slots=True)
class Left:
    """A nonce of which nobody knows yet what uses it, its latest transaction, and why."""

    tx: str
    sender: str
    nonce: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How many nonces were cancelled, did their work after all, failed or went to nobody.

    `dropped` were never handed over, or lost their nonce to a transaction that is not ours.
    """

    cancelled: int
    included: int
    reverted: int
    dropped: int
    left: tuple[Left, ...]

    @classmethod
    def of(cls, receipts: Iterable[Receipt], still: Iterable[Flight]) -> Self:
        """Count receipts, and name what is still open."""
        kinds = Counter(type(receipt) for receipt in receipts)
        known = kinds[Cancelled] + kinds[Included] + kinds[Reverted]
        left = tuple(
            Left(
                to_hex(flight.signed.hash),
                to_hex(flight.signed.sender),
                flight.signed.nonce,
                flight.stuck or UNTOLD,
            )
            for flight in still
        )
        return cls(
            cancelled=kinds[Cancelled],
            included=kinds[Included],
            reverted=kinds[Reverted],
            dropped=kinds.total() - known,
            left=left,
        )

    @property
    def text(self) -> str:
        """Return it in one line."""
        parts = [f"{self.cancelled} cancelled", f"{self.included} included"]
        parts += [f"{self.reverted} reverted"] * (self.reverted > 0)
        parts += [f"{self.dropped} dropped"] * (self.dropped > 0)
        parts.append(f"{len(self.left)} left")
        names = [f"{each.tx} on nonce {each.nonce}: {each.reason}" for each in self.left]
        return "; ".join([", ".join(parts), *names])

    def as_json(self) -> dict[str, Any]:
        """Return the counts and what is left."""
        return {
            "cancelled": self.cancelled,
            "included": self.included,
            "reverted": self.reverted,
            "dropped": self.dropped,
            "left": [
                {"tx": each.tx, "sender": each.sender, "nonce": each.nonce, "reason": each.reason}
                for each in self.left
            ],
        }
