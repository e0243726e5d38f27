"""What the end of a flight means for the record and the limits, done once and undone once."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from keeper.execution.flight import Flight, Version
from keeper.execution.life import Event
from keeper.execution.settlement import error_bps
from keeper.fees import UNKNOWN_RELAY
from keeper.ports import Admission, Journal
from keeper.types import Cancelled, Dropped, Head, Included, Receipt, Replaced, Reverted
from keeper.units import Address, Hash, to_hex


class Bookkeeper:
    """Settle flights, and open those again that a reorg undid.

    Limits hear of a plan's one deciding receipt; the record has one for every version, the deciding
    one last. What was told of before is not counted by observers again.
    """

    def __init__(
        self,
        journal: Journal,
        admission: Admission,
        observe: Callable[[str, Mapping[str, object]], None],
        later: Callable[[Awaitable[None]], None],
        score: Callable[[Hash, int | None], None] | None = None,
        holders: Callable[[Hash, int | None], str] = lambda _, __: UNKNOWN_RELAY,
        lost: Callable[[str, str], None] = lambda _, __: None,
    ) -> None:
        self._journal = journal
        self._admission = admission
        self._observe = observe
        self._later = later
        self._score = score
        self._holders = holders
        self._lost = lost

    async def settle(
        self, flight: Flight, receipt: Receipt, unpriced: frozenset[Address] = frozenset()
    ) -> Receipt:
        """Record how a flight ended; return the receipt, which now says which relay held it."""
        receipt = self._attributed(flight, receipt)
        decided = receipt.tx_hash
        ends: list[Receipt] = []
        for version in flight.versions:
            if version.signed.hash != decided:
                other = _other(version, receipt)
                version.undergo(_event(other))
                ends.append(other)
            elif not version.state.is_settled:
                version.undergo(_event(receipt))
        await self._journal.settled(*ends, receipt)
        self._rate(flight, receipt)
        if flight.lost and isinstance(receipt, Cancelled):
            self._lost(flight.plan.id, receipt.relay)
        self._admission.settle(receipt)
        plan = flight.plan
        fields: dict[str, object] = {"plan": plan, "receipt": receipt}
        if isinstance(receipt, Included) and plan.sweep is None:
            fields["estimate_error_bps"] = error_bps(receipt.net_usd, plan.net_usd)
        if unpriced:
            fields["unpriced"] = sorted(to_hex(token) for token in unpriced)
        if flight.told:
            self._observe("plan.settled_again", {"plan": plan, "again": receipt})
        else:
            self._observe(f"plan.{type(receipt).__name__.lower()}", fields)
        flight.told = True
        return receipt

    def _attributed(self, flight: Flight, receipt: Receipt) -> Receipt:
        """Say who held what was mined; what was taken back was lost by whoever held it before."""
        private = [each.signed.hash for each in flight.versions if each.signed.private]
        match receipt:
            case Included() | Reverted() if receipt.tx_hash in private:
                return replace(receipt, relay=self._holders(receipt.tx_hash, receipt.block_number))
            case Cancelled() if len(private) == sum(not v.signed.cancels for v in flight.versions):
                return (
                    replace(receipt, relay=self._holders(private[0], None)) if private else receipt
                )
            case _:
                return receipt

    def _rate(self, flight: Flight, receipt: Receipt) -> None:
        """Tell of each private version in which block it was included, if it was."""
        if self._score is None:
            return
        block = receipt.block_number if isinstance(receipt, Included | Reverted) else None
        for version in flight.versions:
            if version.signed.private:
                is_it = version.signed.hash == receipt.tx_hash
                self._score(version.signed.hash, block if is_it else None)

    async def reopen(self, flight: Flight, head: Head) -> None:
        """Take back how a flight ended: record, limits, and the lives of its versions."""
        signed, plan = flight.signed, flight.plan
        gone = flight.superseded if flight.mined is None else flight.mined.tx_hash
        await self._journal.reopened(plan.id, signed.sender, signed.nonce)
        if flight.mined is not None:
            undone = Dropped(plan.id, flight.mined.tx_hash, "a reorg took it out of its block")
            self._admission.settle(undone)
        self._admission.reserve(plan)
        for version in flight.versions:
            version.undergo(Event.REORG)
        flight.mined, flight.superseded, flight.broadcast = None, None, None
        flight.passed.reset()
        flight.missing.reset()
        flight.lapsed = False
        self._observe("plan.reorged", {"plan": plan, "tx": gone, "head": head.number})

    def release(self, flight: Flight, reason: str) -> None:
        """Reserve nothing more for what can do nothing any more but be mined and fail."""
        self._admission.settle(Dropped(flight.plan.id, flight.signed.hash, reason))
        fields = {"plan": flight.plan, "tx": flight.signed.hash, "reason": reason}
        self._observe("plan.abandoned", fields)

    def finish(self, flight: Flight) -> None:
        """Record that a flight's end is final."""
        signed = flight.signed
        self._later(self._journal.finished(signed.plan.chain, signed.sender, signed.nonce))


def _other(version: Version, receipt: Receipt) -> Receipt:
    """Return what a flight's end means for one of its versions that did not decide it."""
    plan_id, tx_hash = version.signed.plan.id, version.signed.hash
    match receipt:
        case Cancelled():
            return Cancelled(plan_id, tx_hash, Hash(receipt.tx_hash))
        case Replaced():
            return Replaced(plan_id, tx_hash, receipt.by)
        case Dropped():
            return Dropped(plan_id, tx_hash, receipt.reason)
        case _:
            return Replaced(plan_id, tx_hash, Hash(receipt.tx_hash))


def _event(receipt: Receipt) -> Event:
    match receipt:
        case Cancelled():
            return Event.CANCEL
        case Dropped():
            return Event.LOSE
        case _:
            return Event.REPLACE
