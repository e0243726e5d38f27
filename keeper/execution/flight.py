"""Transactions that left, or may have left, and are not settled."""

from collections.abc import Iterator
from dataclasses import dataclass

from keeper.types import Signed
from keeper.units import Address, Hash, Wei

Key = tuple[str, Address]


@dataclass(slots=True)
class Flight:
    """One signed transaction on its way.

    `broadcast` is the block at whose head it was last handed over, None when that is not known to
    have happened. An abandoned one gave its nonce back and is only watched; until its deadline it
    may still be mined. `passed` counts heads on which its nonce was used and no receipt was found.
    """

    signed: Signed
    broadcast: int | None = None
    abandoned: bool = False
    passed: int = 0

    def is_expired(self, timestamp: int) -> bool:
        """Whether a block at a timestamp is past the contract's deadline."""
        deadline = self.signed.plan.bid.deadline
        return 0 < deadline < timestamp


class Flights:
    """All flights of one chain, oldest first."""

    def __init__(self) -> None:
        self._flights: dict[Hash, Flight] = {}

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._flights.values()))

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, flight: Flight) -> None:
        """Begin to follow a transaction; an older one on the same nonce is then only watched."""
        for other in self._of(flight.signed.sender):
            if other.signed.nonce == flight.signed.nonce:
                other.abandoned = True
        self._flights[flight.signed.hash] = flight

    def remove(self, flight: Flight) -> None:
        """Stop following."""
        del self._flights[flight.signed.hash]

    def nonces(self, sender: Address) -> set[int]:
        """Return the nonces a sender's flights hold."""
        return {other.signed.nonce for other in self._of(sender) if not other.abandoned}

    def keys(self, timestamp: int) -> frozenset[Key]:
        """Return the positions being liquidated; an expired transaction liquidates nothing.

        An abandoned one may lie in another node's pool: a second nonce for its positions would be
        a second liquidation.
        """
        return frozenset(
            quote.opportunity.key
            for flight in self
            if not flight.is_expired(timestamp)
            for quote in flight.signed.plan.quotes
        )

    def reserved(self, sender: Address) -> Wei:
        """Return the native coin a sender's flights may still burn as gas."""
        held = (other.signed.plan for other in self._of(sender) if not other.abandoned)
        return Wei(sum(plan.gas_limit * plan.fees.max_fee for plan in held))

    def _of(self, sender: Address) -> Iterator[Flight]:
        return (flight for flight in self if flight.signed.sender == sender)
