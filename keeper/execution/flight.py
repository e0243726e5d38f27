"""Transactions that left, or may have left, and are not final."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace

from keeper.execution.bump import highest
from keeper.execution.life import Event, State, after
from keeper.execution.patience import Patience
from keeper.types import Fees, Head, Plan, Signed
from keeper.units import Address, Hash, Wei

Key = tuple[str, Address]

Ended = tuple[Signed, int | None, Hash]
"""A settled transaction, the block it is in if it was mined, and that block's hash if known."""


@dataclass(slots=True)
class Version:
    """One signed transaction of a flight, and how far it came."""

    signed: Signed
    state: State = State.SIGNED

    def undergo(self, event: Event) -> None:
        """Take an event; raise `InvariantError` when it cannot happen now."""
        self.state = after(self.state, event)


@dataclass(frozen=True, slots=True)
class Mined:
    """Which version was mined, in which block, and what it moved; an empty hash is not known yet.

    `below` is the last head that is known to stand on that block, empty when none is.
    """

    tx_hash: Hash
    number: int
    block_hash: Hash
    gas: Wei = Wei(0)
    refill: Wei = Wei(0)
    below: Hash = Hash(b"")


@dataclass(slots=True)
class Flight:
    """A plan on its nonce: every transaction signed for it, of which one at most is mined.

    `broadcast` is the block at whose head the last was handed over, None when that is not known to
    have happened; `offered` that the node took the same bytes as new once more since. An abandoned one gave its nonce back and is only watched; until its deadline it
    may still be mined. `passed` counts heads on which its nonce was used and no receipt was found, or
    on which nobody had what a former wallet sent; `missing` those on which the receipt it had was gone. `mined` is set until a reorg or the final
    depth; `superseded` is what another plan's transaction did to its nonce. `told` says that its end
    was told of before: a reorg does not make it happen twice. `lapsed` is an abandoned one past its
    deadline: as long as its nonce is unused nothing is reserved for it. `refused` says that its latest
    bytes cannot be paid, or not be taken at all. `lost` says that it lost its purpose, as a simulation
    told before it was taken back. `pooled` says that a pool holds its nonce though it was given up: a
    node that does not know it is not believed any more.
    """

    versions: list[Version]
    broadcast: int | None = None
    abandoned: bool = False
    lapsed: bool = False
    passed: Patience = field(default_factory=Patience)
    missing: Patience = field(default_factory=Patience)
    mined: Mined | None = None
    superseded: Hash | None = None
    told: bool = False
    offered: bool = False
    stuck: str = ""
    refused: bool = False
    lost: bool = False
    pooled: bool = False

    @classmethod
    def of(cls, signed: Signed) -> "Flight":
        """Begin with one transaction."""
        return cls([Version(signed)])

    @property
    def signed(self) -> Signed:
        """Return the latest transaction."""
        return self.versions[-1].signed

    @property
    def plan(self) -> Plan:
        """Return the plan, with the fees of its latest transaction that carries it out."""
        return next(
            (each.signed.plan for each in reversed(self.versions) if not each.signed.cancels),
            self.signed.plan,
        )

    @property
    def carried(self) -> Plan:
        """Return the plan as its own sender sends it; a record does not hold that."""
        return replace(self.plan, sender=self.signed.sender)

    @property
    def is_settled(self) -> bool:
        """Whether it is decided who used its nonce."""
        return self.mined is not None or self.superseded is not None

    @property
    def is_asleep(self) -> bool:
        """Whether nothing can have come of it before its nonce is used."""
        return self.lapsed and not self.is_settled

    @property
    def is_waiting(self) -> bool:
        """Whether it did not get in as it was sent, or may not have arrived."""
        is_raised = self.offered or len(self.versions) > 1
        return self.broadcast is None or bool(self.stuck) or is_raised

    @property
    def held(self) -> Fees:
        """Return the highest fees offered on its nonce."""
        return highest([each.signed.plan.fees for each in self.versions])

    @property
    def first(self) -> Fees:
        """Return the fees it was first sent at."""
        return self.versions[0].signed.plan.fees

    @property
    def reserved(self) -> Wei:
        """Return the most its nonce may burn as gas."""
        plans = [each.signed.plan for each in self.versions]
        return Wei(max(plan.worst_cost for plan in plans))

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
        """Return how many are neither decided nor lapsed."""
        return len(self.open)

    @property
    def open(self) -> list[Flight]:
        """Return those that are neither decided nor lapsed."""
        return [flight for flight in self if not (flight.is_settled or flight.is_asleep)]

    def recover(self, signed: Iterable[Signed]) -> None:
        """Take up recorded transactions, those of one plan and nonce together, oldest first."""
        known: dict[tuple[str, Address, int], Flight] = {}
        for each in signed:
            key = (each.plan.id, each.sender, each.nonce)
            if key in known:
                known[key].versions.append(Version(each))
            else:
                known[key] = Flight.of(each)
                self.add(known[key])

    def recover_settled(self, settled: Iterable[Ended]) -> None:
        """Take up recorded transactions that a reorg may still undo, each with its block if mined.

        Of some the record has no block's hash: the first receipt at the same height tells it.
        """
        known: dict[tuple[Address, int], list[Ended]] = {}
        for each in settled:
            known.setdefault((each[0].sender, each[0].nonce), []).append(each)
        for versions in known.values():
            mined = [signed.hash for signed, number, _ in versions if number is not None]
            if not mined:
                continue
            flights: dict[str, Flight] = {}
            for signed, number, block_hash in versions:
                flight = flights.setdefault(signed.plan.id, Flight([], told=True))
                state = State.REPLACED if number is None else State.INCLUDED
                flight.versions.append(Version(signed, state))
                if number is not None:
                    flight.mined = Mined(signed.hash, number, block_hash)
            for flight in flights.values():
                if flight.mined is None:
                    flight.superseded = mined[-1]
                self._flights[flight.versions[0].signed.hash] = flight

    def add(self, flight: Flight) -> None:
        """Begin to follow a transaction; an older one on the same nonce is then only watched."""
        for other in self.beside(flight):
            other.abandoned = True
        self._flights[flight.versions[0].signed.hash] = flight

    def remove(self, flight: Flight) -> None:
        """Stop following."""
        del self._flights[flight.versions[0].signed.hash]

    def beside(self, flight: Flight) -> list[Flight]:
        """Return the other flights on the same nonce."""
        return [
            other
            for other in self._of(flight.signed.sender)
            if other is not flight and other.signed.nonce == flight.signed.nonce
        ]

    def is_dearest(self, flight: Flight, head: Head) -> bool:
        """Whether it offers the most of what may still do its work on a nonce that no plan holds."""
        live = [flight, *self.beside(flight)]
        if any(not each.abandoned for each in live) or flight.is_expired(head.timestamp):
            return False
        live = [each for each in live if not each.is_expired(head.timestamp)]
        return flight is max(live, key=lambda each: each.held.max_fee)

    def behind(self, flight: Flight) -> bool:
        """Whether others wait on later nonces: a gap would hold them for ever."""
        return any(
            other.signed.nonce > flight.signed.nonce and not other.abandoned
            for other in self._of(flight.signed.sender)
        )

    def pending(self, sender: Address) -> int:
        """Return how many of a sender are on their way."""
        return sum(not other.abandoned for other in self._of(sender))

    def is_blocked(self, sender: Address) -> bool:
        """Whether the first of a sender waits, or any may not have arrived: those behind would too."""
        own = [other for other in self._of(sender) if not other.abandoned]
        first = min(own, key=lambda other: other.signed.nonce, default=None)
        return (first is not None and first.is_waiting) or any(o.broadcast is None for o in own)

    def reclaim(self, sender: Address, nonces: Container[int]) -> bool:
        """Take back what was given up on nonces that a pool holds, the dearest of each; say if any."""
        given_up: dict[int, Flight] = {}
        for flight in sorted(self._of(sender), key=lambda each: each.held.max_fee):
            if flight.signed.nonce in nonces and flight.abandoned:
                given_up[flight.signed.nonce] = flight
        for flight in given_up.values():
            flight.abandoned, flight.lapsed, flight.pooled = False, False, True
        return bool(given_up)

    def lapsed(self, sender: Address) -> list["Flight"]:
        """Return what a sender gave up and is past its deadline, its nonce unused, oldest first."""
        return [other for other in self._of(sender) if other.is_asleep]

    def before(self, signed: Signed) -> list[Signed]:
        """Return what has to be mined before a transaction, in the order of nonces."""
        others = [
            other.signed
            for other in self._of(signed.sender)
            if other.signed.nonce < signed.nonce and not other.abandoned
        ]
        return sorted(others, key=lambda each: each.nonce)

    def nonces(self, sender: Address) -> set[int]:
        """Return the nonces a sender's flights hold, those a reorg may give back included."""
        return {
            flight.signed.nonce
            for flight in self
            if flight.signed.sender == sender and (flight.is_settled or not flight.abandoned)
        }

    def keys(self, timestamp: int) -> frozenset[Key]:
        """Return the positions being liquidated; an expired transaction liquidates nothing.

        An abandoned one may lie in another node's pool: a second nonce for its positions would be
        a second liquidation.
        """
        return frozenset(
            quote.opportunity.key
            for flight in self
            if not flight.is_settled and not flight.is_expired(timestamp)
            for quote in flight.plan.quotes
        )

    def reserved(self, sender: Address) -> Wei:
        """Return the native coin a sender's flights may still burn as gas."""
        return Wei(sum(other.reserved for other in self._of(sender) if not other.abandoned))

    def _of(self, sender: Address) -> Iterator[Flight]:
        return (
            flight for flight in self if flight.signed.sender == sender and not flight.is_settled
        )
