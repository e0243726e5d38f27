"""What one head means for a transaction that relays hold and nobody else knows."""

from collections.abc import Callable
from dataclasses import replace

from keeper.errors import TransientError
from keeper.execution.flight import Flight, Flights
from keeper.execution.hurry import Hurried
from keeper.execution.recheck import Gone, Look
from keeper.execution.relays.flow import PrivateFlow
from keeper.fees import UNKNOWN_RELAY
from keeper.types import Fees, Head, Plan
from keeper.units import Wei


class Privately:
    """Keep a private transaction with relays while it pays, and say when it may become public."""

    def __init__(
        self,
        rpc: Hurried,
        flow: PrivateFlow | None,
        flights: Flights,
        look: Look | None,
        untipped: Callable[[Plan], Plan],
    ) -> None:
        self._rpc = rpc
        self._flow = flow
        self._flights = flights
        self._look = look
        self._untipped = untipped

    async def push(self, flight: Flight, head: Head) -> Plan | Gone | None:
        """Return the plan as it stands when it is time to go public, or that it is gone.

        Simulated only when what relays have is over or it is due; what still pays is given to them
        again. Without relays, after a restart without them, it is due at once.
        """
        signed, flow = flight.signed, self._flow
        made = flight.versions[0].signed.plan.head.number
        due = flow is None or flow.is_due(made, head.number)
        if not due and flow is not None:
            before, behind = self._flights.before(signed), bool(flight.plan.after)
            if not flow.wants(signed.hash, head.number, before, behind=behind):
                return None
        plan = self.public(flight) if due else flight.plan
        found: Plan | Gone | None = plan
        if self._look is not None:
            try:
                found = await self._rpc.hurry(self._look(replace(plan, sender=signed.sender), head))
            except TransientError:
                return None
        if isinstance(found, Gone):
            if flow is not None:
                flow.forget(signed, head.number)
            return found
        if due and found is not None:
            return found
        self.keep(flight, head)
        return None

    def public(self, flight: Flight) -> Plan:
        """Return the plan as it may be offered to everybody: no tip beside its fees."""
        return self._untipped(flight.plan) if flight.versions[0].signed.private else flight.plan

    def keep(self, flight: Flight, head: Head) -> None:
        """Give it to the relays whose blocks are over."""
        if self._flow is not None:
            before = self._flights.before(flight.signed)
            self._flow.keep(flight.signed, before, head.number)

    def take_back(self, flight: Flight, head: Head) -> None:
        """Ask the relays to forget it; none promises it."""
        if self._flow is not None:
            self._flow.forget(flight.signed, head.number)

    def is_over(self, flight: Flight, head: Head) -> bool:
        """Whether no relay was given it for a block still to come."""
        held = [each.signed.hash for each in flight.versions if each.signed.private]
        return self._flow is None or all(self._flow.until(each) <= head.number for each in held)

    def holders(self, flight: Flight) -> str:
        """Return who holds it, or held it, as `BidOutcome` names them; empty when it is public."""
        private = [each.signed.hash for each in flight.versions if each.signed.private]
        if not private or not flight.signed.private:
            return ""
        return UNKNOWN_RELAY if self._flow is None else self._flow.holders(private[0])

    def ended(self, flight: Flight) -> None:
        """Score the relays that held in vain what is given up."""
        for version in flight.versions:
            if self._flow is not None and version.signed.private:
                self._flow.ended(version.signed.hash, None)


def offered_fees(flight: Flight) -> Fees:
    """Return what was offered on a nonce; a tip that only builders would get counts as priority fee."""
    first, held = flight.versions[0].signed, flight.held
    if not first.private:
        return held
    per_gas = first.plan.bid.tip // max(first.plan.gas, 1)
    return Fees(held.max_fee, Wei(held.priority_fee + per_gas))
