"""After transactions that do not get in: the same bytes again, a replacement, or a cancel."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from keeper.errors import ConfigError, TransientError
from keeper.execution.answer import Answer
from keeper.execution.bump import first_down, replaced_down, replacement_fees
from keeper.execution.flight import Flight, Flights, Version
from keeper.execution.gas import fees as first_fees
from keeper.execution.hurry import Hurried
from keeper.execution.life import Event
from keeper.execution.privately import Privately, offered_fees
from keeper.execution.recheck import Gone, Look, at_fees, most_per_gas_down
from keeper.execution.wallet import Wallet
from keeper.fees import Inclusion
from keeper.ports import Admission, Journal
from keeper.types import Dropped, Fees, Head, Plan
from keeper.units import Wei, to_hex

LAPSED = 64
"""Plans of a wallet, given up and past their deadline, that are watched for being mined all the same."""

Lost = Callable[[str, str], None]
"""Takes a plan that lost its purpose, and the relay that held it."""

Later = Callable[[Awaitable[None]], None]
"""Takes a record that need not be waited for now."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How long transactions are waited for, and what a replacement may cost.

    `replace_after` heads without inclusion lead to the same bytes again, and to a replacement when
    the node has them; without `replacement`, on chains that take the first to come, to waiting.
    `final_depth` is how many blocks, its own included, make a transaction final; `max_fee` is the
    most per gas, None for what each plan's own fees allow twice over; `inclusion` says what the next
    base fee will be.
    """

    replace_after: int = 3
    replacement: bool = True
    final_depth: int = 8
    max_fee: Wei | None = None
    inclusion: Inclusion = Inclusion.AUCTION

    def __post_init__(self) -> None:
        if self.replace_after < 1 or self.final_depth < 1:
            raise ConfigError("replace_after or final_depth is below one", "both count heads")

    def ceiling(self, first: Fees) -> Wei:
        """Return the most per gas a cancel may offer of what was sent at `first` fees.

        A replacement stays below that by what a cancel of it costs more.
        """
        return Wei(2 * first.max_fee) if self.max_fee is None else self.max_fee


class Pursuit:
    """Get waiting transactions mined or out of the way; every version is on record before it leaves.

    Only one version of a nonce can ever be mined, so nothing here can execute twice. Nothing is
    offered while a switch is thrown, but for cancels once all is `withdrawing`.
    """

    def __init__(
        self,
        rpc: Hurried,
        flights: Flights,
        journal: Journal,
        admission: Admission,
        observe: Callable[[str, Mapping[str, object]], None],
        policy: Policy,
        look: Look | None,
        later: Later,
        privately: Privately,
        lost: Lost,
    ) -> None:
        self._rpc = rpc
        self._flights = flights
        self._journal = journal
        self._admission = admission
        self._observe = observe
        self._policy = policy
        self._look = look
        self._later = later
        self._privately = privately
        self._lost = lost
        self.withdrawing = False

    async def push(self, flight: Flight, wallet: Wallet, head: Head) -> None:
        """Do what one head allows for a transaction whose nonce is unused."""
        if self.withdrawing and flight.abandoned and self._flights.is_dearest(flight, head):
            # its nonce is nobody's now: some pool or relay may have it mined all the same
            flight.abandoned = False
        if flight.abandoned:
            await self._lapse(flight, head)
            return
        if self.withdrawing:
            await self._withdraw(flight, wallet, head)
            return
        if self._is_stopped(flight, head):
            return
        if flight.is_expired(head.timestamp) and not flight.signed.cancels:
            await self._retire(flight, wallet, head)
            return
        if flight.signed.private:
            await self._push_private(flight, wallet, head)
            return
        after = self._policy.replace_after
        if flight.broadcast is not None and head.number - flight.broadcast < after:
            return
        if flight.broadcast is None and (
            not await self._may_resume(flight, wallet, head) or self._is_stopped(flight, head)
        ):
            return
        answer, words = await self._offer(flight, wallet)
        match answer:
            case Answer.UNKNOWN:
                return
            case Answer.ACCEPTED if flight.broadcast is None or not (words or flight.offered):
                # it was not in the pool, as far as is known: it gets its time again
                flight.offered = flight.broadcast is not None
                flight.broadcast = head.number
                fields = {"tx": flight.signed.hash, "result": str(answer)}
                self._observe("plan.rebroadcast", fields)
            case Answer.ACCEPTED | Answer.UNDERPRICED | Answer.OCCUPIED:
                await self._raise(flight, wallet, head, answer, words)
            case Answer.NONCE | Answer.LIMIT:
                flight.broadcast = head.number
            case Answer.FUNDS | Answer.INVALID:
                await self._give_up(flight, wallet, head, words)

    async def _withdraw(self, flight: Flight, wallet: Wallet, head: Head) -> None:
        """Cancel, and offer more for the cancel at every head; whichever is mined counts."""
        if flight.signed.cancels:
            if flight.broadcast is None or head.number > flight.broadcast:
                await self._insist(flight, wallet, head)
            return
        if flight.signed.private:
            self._privately.take_back(flight, head)
        await self._cancel(flight, wallet, head, "everything in flight is cancelled")

    async def _insist(self, flight: Flight, wallet: Wallet, head: Head) -> None:
        """Offer more for a cancel, or the same bytes where more cannot be paid or gains no place."""
        if flight.refused or self._suffices(flight, head):
            flight.broadcast = head.number
            answer, _ = await self._offer(flight, wallet)
            if answer not in {Answer.UNDERPRICED, Answer.OCCUPIED}:
                return
        await self._cancel(flight, wallet, head, "its cancel waits")

    def _suffices(self, flight: Flight, head: Head) -> bool:
        """Whether what is offered pays for the next block of a chain that takes the first to come."""
        base_fee = head.next_base_fee(self._policy.inclusion)
        return not self._policy.replacement and flight.held.max_fee >= base_fee

    async def _push_private(self, flight: Flight, wallet: Wallet, head: Head) -> None:
        """Publish what is due at its own fees, and let go of what is gone once no relay has it."""
        found = await self._privately.push(flight, head)
        if isinstance(found, Plan):
            await self._replace(flight, wallet, head, found, "plan.published")
            if flight.signed.private:
                self._privately.keep(flight, head)
        elif isinstance(found, Gone):
            if self._flights.behind(flight):
                await self._take_back(flight, wallet, head, found)
            elif self._privately.is_over(flight, head) and await self._is_unknown(flight):
                self._let_go(flight, wallet, found)

    async def _may_resume(self, flight: Flight, wallet: Wallet, head: Head) -> bool:
        """Whether what a switch, a restart or a reorg held back may leave: what is gone does not.

        Only what was raised or published is looked at again: its last look may be long past.
        """
        if self._look is None or flight.signed.cancels or len(flight.versions) == 1:
            return True
        try:
            found = await self._rpc.hurry(self._look(flight.carried, head))
        except TransientError:
            return False
        if not isinstance(found, Gone):
            return True
        public = any(not version.signed.private for version in flight.versions[:-1])
        if public or self._flights.behind(flight) or not await self._is_unknown(flight):
            await self._take_back(flight, wallet, head, found)
        elif self._privately.is_over(flight, head):
            self._let_go(flight, wallet, found)
        return False

    def _let_go(self, flight: Flight, wallet: Wallet, found: Gone) -> None:
        """Give up what lost its purpose and lies in no pool and with no relay."""
        relay = self._privately.holders(flight)
        self._lost(flight.plan.id, relay)
        self._later(self._journal.lost(flight.plan.id, relay))
        self._abandon(flight, wallet, found.reason)

    async def _lapse(self, flight: Flight, head: Head) -> None:
        """Reserve nothing more for what was given up and is past its deadline.

        Its nonce may stay unused for long: lost plans would add up until the limits let none pass. The
        oldest of many are settled: of hundreds on one nonce one is mined at most, and the newest first.
        """
        if flight.lapsed or not flight.is_expired(head.timestamp):
            return
        flight.lapsed = True
        reason = "given up, and past its deadline"
        self._admission.settle(Dropped(flight.plan.id, flight.signed.hash, reason))
        for old in self._flights.lapsed(flight.signed.sender)[:-LAPSED]:
            self._flights.remove(old)
            plan_id = old.plan.id
            ends = [Dropped(plan_id, version.signed.hash, reason) for version in old.versions]
            await self._journal.settled(*ends)

    def _is_stopped(self, flight: Flight, head: Head) -> bool:
        """Whether a switch was thrown after it was sent; asked at the head of today.

        Limits on cost let it be: they were asked before it left, and would keep nonces from being freed.
        A doubted price stops what rests on it, and not that a nonce is taken back.
        """
        plan = replace(flight.plan, head=head)
        if flight.signed.cancels or flight.is_expired(head.timestamp):
            plan = replace(plan, quotes=(), conversion=None)
        return self._admission.halted(plan)

    async def _offer(self, flight: Flight, wallet: Wallet) -> tuple[Answer, str]:
        """Hand the latest version over; what is told of an answer is also the pool's state."""
        version = flight.versions[-1]
        try:
            answer, words = await self._rpc.hurry(wallet.hand_over(version.signed))
        except TransientError as error:
            answer, words = Answer.UNKNOWN, str(error)
        flight.refused = answer in {Answer.FUNDS, Answer.INVALID}
        if answer in {Answer.ACCEPTED, Answer.UNKNOWN}:
            version.undergo(Event.SIGHT if answer is Answer.ACCEPTED else Event.HAND_OVER)
        return answer, words

    async def _retire(self, flight: Flight, wallet: Wallet, head: Head) -> None:
        """Free the nonce of a transaction past its deadline: it could only fail."""
        reason = "its deadline passed"
        if await self._is_unknown(flight) and not self._flights.behind(flight):
            self._abandon(flight, wallet, f"{reason} and the node does not know it")
        elif flight.broadcast != head.number:
            await self._cancel(flight, wallet, head, reason)

    async def _raise(
        self, flight: Flight, wallet: Wallet, head: Head, answer: Answer, words: str
    ) -> None:
        """Offer more for what waits in a pool, as long as it brings more than it costs."""
        base_fee = head.next_base_fee(self._policy.inclusion)
        flight.broadcast = head.number
        free = wallet.nonces.free
        first = wallet.nonces.confirmed
        is_first = first == flight.signed.nonce
        waits = not is_first and flight.signed.plan.fees.max_fee >= base_fee
        if waits and wallet.nonces.is_barred:
            self._stick(flight, f"a transaction that is not ours waits on nonce {first} before it")
        elif free < flight.signed.nonce:
            self._stick(flight, f"nobody uses nonce {free} before it: the next plan does")
        if waits:
            return  # for the nonce before it
        if flight.signed.cancels:
            if answer is not Answer.ACCEPTED or not self._suffices(flight, head):
                await self._cancel(flight, wallet, head, "its cancel waits")
            return
        if not self._policy.replacement or self._look is None:
            if answer is Answer.UNDERPRICED and not self._flights.behind(flight):
                await self._give_up(flight, wallet, head, words)
            return
        try:
            found = await self._rpc.hurry(self._look(flight.carried, head))
        except TransientError:
            return
        if isinstance(found, Gone):
            await self._take_back(flight, wallet, head, found)
        elif found is not None:
            await self._replace(flight, wallet, head, found)

    async def _replace(
        self,
        flight: Flight,
        wallet: Wallet,
        head: Head,
        found: Plan,
        event: str = "plan.repriced",
    ) -> None:
        base_fee = head.next_base_fee(self._policy.inclusion)
        is_first = all(each.signed.private for each in flight.versions)
        room_down = first_down if is_first else replaced_down
        ceiling = most_per_gas_down(found, room_down(self._policy.ceiling(flight.first)))
        fees = replacement_fees(offered_fees(flight), base_fee, ceiling)
        if fees is None and is_first:
            # no pool holds what it would have to outbid
            fees = first_fees(base_fee, flight.held.priority_fee, ceiling)
        if fees is not None and not await self._covers(flight, wallet, fees):
            self._stick(flight, f"the wallet's {wallet.balance} wei do not cover more")
            return
        if fees is None:
            self._stick(flight, f"more than {ceiling} wei per gas would eat its profit or the cap")
            return
        raised = at_fees(found, fees, base_fee)
        refusal = self._admission.admit(replace(raised, head=head))
        if refusal is not None:
            self._stick(flight, refusal.detail)
            return
        # the calls and the record stay the plan's: only what is paid for them is new
        plan = self._privately.public(flight)
        bid = replace(plan.bid, max_fee=fees.max_fee, priority_fee=fees.priority_fee)
        await self._launch(flight, wallet, head, replace(plan, bid=bid), event)

    async def _covers(self, flight: Flight, wallet: Wallet, fees: Fees) -> bool:
        """Whether the balance covers all that is in flight, this one at higher fees."""
        others = self._flights.reserved(wallet.address) - flight.reserved
        bid = replace(flight.plan.bid, max_fee=fees.max_fee)
        worst = Wei(others + replace(flight.plan, bid=bid).worst_cost)
        try:
            return await self._rpc.hurry(wallet.covers(worst))
        except TransientError:
            return False

    async def _take_back(self, flight: Flight, wallet: Wallet, head: Head, found: Gone) -> None:
        """Cancel what lost its purpose, and put that on record; it counts once the cancel is mined."""
        if not flight.lost:
            flight.lost = True
            self._later(self._journal.lost(flight.plan.id, self._privately.holders(flight)))
        await self._cancel(flight, wallet, head, found.reason)

    async def _cancel(self, flight: Flight, wallet: Wallet, head: Head, reason: str) -> None:
        """Take the nonce back with a transaction that does nothing."""
        fees = replacement_fees(
            flight.held,
            head.next_base_fee(self._policy.inclusion),
            self._policy.ceiling(flight.first),
        )
        if fees is None:
            self._stick(flight, "a cancel would pass the maximum fee")
            return
        bid = replace(flight.plan.bid, max_fee=fees.max_fee, priority_fee=fees.priority_fee)
        plan = replace(flight.plan, bid=bid)
        await self._launch(flight, wallet, head, plan, "plan.cancelling", reason)

    async def _launch(
        self,
        flight: Flight,
        wallet: Wallet,
        head: Head,
        plan: Plan,
        event: str,
        reason: str = "",
    ) -> None:
        """Sign another version, put it on record, then hand it over if no switch was thrown since."""
        cancels = event == "plan.cancelling"
        before = flight.signed.hash
        try:
            signed = await self._rpc.hurry(
                wallet.sign_on(plan, flight.signed.nonce, cancels=cancels)
            )
        except TransientError as error:
            self._stick(flight, str(error))
            return
        await self._journal.signed(signed)
        flight.versions.append(Version(signed))
        if not self.withdrawing and self._is_stopped(flight, head):
            # thrown since: it is handed over, as it stands on record, once that is over
            flight.broadcast = None
            return
        answer, words = await self._offer(flight, wallet)
        flight.broadcast = head.number
        flight.offered = False
        flight.stuck = ""
        if answer in {Answer.ACCEPTED, Answer.UNKNOWN}:
            self._later(self._journal.sent(signed, words or None))
        fields: dict[str, object] = {
            "plan": plan,
            "tx": signed.hash,
            "nonce": signed.nonce,
            "after": before,
            "max_fee": plan.bid.max_fee,
            "result": str(answer),
            "reason": reason,
        }
        self._observe(event, fields)

    async def _give_up(self, flight: Flight, wallet: Wallet, head: Head, words: str) -> None:
        """Let go of bytes the node refuses for good; what waits behind them needs the nonce used."""
        flight.broadcast = head.number
        if not await self._is_unknown(flight):
            return  # refused anew, and in its pool all the same
        if not self._flights.behind(flight):
            self._abandon(flight, wallet, words)
        elif flight.signed.cancels:
            # another cancel would cost more still: the same bytes are offered until it can be paid
            self._stick(flight, words)
        else:
            await self._cancel(flight, wallet, head, words)

    async def _is_unknown(self, flight: Flight) -> bool:
        """Whether the node tells that it has no version, and can be believed."""
        if flight.pooled:
            return False
        for version in flight.versions:
            params = [to_hex(version.signed.hash)]
            try:
                if await self._rpc.request("eth_getTransactionByHash", params) is not None:
                    return False
            except TransientError:
                return False
        return True

    def _abandon(self, flight: Flight, wallet: Wallet, reason: str) -> None:
        """Free the nonce for another plan; whichever is mined, the other never can be."""
        flight.abandoned = True
        self._privately.ended(flight)
        wallet.nonces.give_back(flight.signed.nonce)
        fields = {"plan": flight.plan, "tx": flight.signed.hash, "reason": reason}
        self._observe("plan.abandoned", fields)

    def _stick(self, flight: Flight, reason: str) -> None:
        """Tell once why a transaction that waits is left as it is."""
        if flight.stuck != reason:
            flight.stuck = reason
            fields = {"plan": flight.plan, "tx": flight.signed.hash, "reason": reason}
            self._observe("plan.stuck", fields)
