"""Send plans once each, every wallet on its own nonce line, and follow them to their receipts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from keeper.chain.parse import head as parse_head
from keeper.errors import TransientError
from keeper.execution.answer import REASONS, Answer
from keeper.execution.bookkeeper import Bookkeeper
from keeper.execution.failed import Failed
from keeper.execution.flight import Flight, Flights, Key
from keeper.execution.hurry import Hurried
from keeper.execution.lanes import LANE_CAP, Lane, Lanes
from keeper.execution.life import Event
from keeper.execution.privately import Privately
from keeper.execution.pursuit import Lost, Policy, Pursuit
from keeper.execution.recheck import Look
from keeper.execution.refusal import skips_for
from keeper.execution.rehearsal import Rehearsal
from keeper.execution.relays.flow import PrivateFlow
from keeper.execution.relays.scores import Score
from keeper.execution.settlement import DecodeRuns
from keeper.execution.tracker import FOLLOW_SECONDS, Observe, Tracker
from keeper.execution.wallet import Wallet
from keeper.ports import Admission, Clock, Journal, Rpc, Signer
from keeper.types import Dropped, Head, Plan, Reason, Receipt, Signed, Skip
from keeper.units import ZERO_ADDRESS, Address, Hash, Wei, to_hex

FULL = "every wallet it could go to has as many transactions on their way as it may"
BEHIND = "proven behind a plan that was not sent"
Launched = tuple[list[Plan], list[Skip]]

MEANWHILE = 0.001
"""Seconds after which a send is prepared: the node was asked to simulate what passed, and is at it."""
DRAIN_POLL = 0.5
"""Seconds between two looks at the chain while draining."""


class Executor:
    """Turn proven plans into receipts; without `live` nothing is ever signed or sent.

    Order of a send: admit, sign, journal plan and bytes, admit again, hand them over once: both are
    on disk before the node has them. A hand-over without a clear answer counts as sent. A nonce
    whose transaction is refused goes to the next plan. Each of `signers` is a lane. Plans of one head
    that rest on each other are proven one behind the other on one lane: where one is not sent, those
    behind it there are not either, and the next head proves them anew. Lanes do not wait for another.

    `look` simulates a sent plan again; without it nothing is replaced at higher fees. With a `flow`
    plans go to relays, and later, if at all, `untipped` to the node; `lost` is told of those that lost
    their purpose before they were mined. `draft` takes plans that are about to be proven, so that
    what comes before their send takes less time.

    Events: plan.submitted, plan.refused, plan.unsigned, plan.rebroadcast, plan.repriced, plan.published,
    plan.cancelling, plan.stuck, plan.abandoned, plan.included, plan.reverted, plan.dropped, plan.replaced,
    plan.cancelled, plan.reorged, plan.settled_again, plan.dry, nonce.foreign, executor.recovered.
    """

    def __init__(
        self,
        chain: str,
        chain_id: int,
        rpc: Rpc,
        signers: Sequence[Signer],
        journal: Journal,
        admission: Admission,
        decode: DecodeRuns,
        explain: Callable[[bytes], str],
        canonical: Callable[[Head], bool],
        clock: Clock,
        observe: Observe,
        *,
        live: bool,
        lane_cap: int = LANE_CAP,
        policy: Policy = Policy(),  # noqa: B008  # frozen
        look: Look | None = None,
        flow: PrivateFlow | None = None,
        untipped: Callable[[Plan], Plan] = lambda plan: plan,
        lost: Lost = lambda _, __: None,
        draft: Callable[[Plan], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._chain = chain
        self._rpc = rpc
        self._journal = journal
        self._admission = admission
        self._canonical = canonical
        self._clock = clock
        self._observe = observe
        self._flow = flow
        self._draft = draft
        self._sleep = sleep
        self._draining = False
        self._records: list[asyncio.Future[None]] = []
        self._following: asyncio.Future[None] | None = None
        self._ended: list[Receipt] = []
        self._timestamp = 0
        self._changed = 0
        self._turn = asyncio.Lock()
        self._flights = Flights()
        wallets = [Wallet(rpc, signer, chain_id) for signer in signers]
        self._lanes = Lanes(wallets, self._flights, lane_cap)
        self._live = live
        self._rehearsal = Rehearsal(journal, admission, observe)
        self._failed = Failed()
        hurried = Hurried(rpc, FOLLOW_SECONDS)
        pursuit = self._pursuit = Pursuit(
            hurried,
            self._flights,
            journal,
            admission,
            observe,
            policy,
            look,
            self._later,
            Privately(hurried, flow, self._flights, look, untipped),
            lost,
        )
        self._tracker = Tracker(
            hurried,
            self._lanes,
            self._flights,
            Bookkeeper(journal, admission, observe, self._later, lost=lost)
            if flow is None
            else Bookkeeper(
                journal, admission, observe, self._later, flow.ended, flow.holders, lost
            ),
            pursuit if live else None,
            decode,
            explain,
            observe,
            policy,
        )
        if live and not signers:
            raise ValueError("live without a signer")

    async def start(self) -> None:
        """Take up what the journal left open, then nonces and balance from the chain."""
        recovered = [
            signed for signed in await self._journal.pending() if signed.plan.chain == self._chain
        ]
        self._flights.recover(recovered)
        unfinal = await self._journal.unfinal()
        self._flights.recover_settled(each for each in unfinal if each[0].plan.chain == self._chain)
        if self._live:
            await asyncio.gather(*(wallet.refuse_code() for wallet in self._lanes))
        await asyncio.gather(*(wallet.synchronise(self._flights) for wallet in self._lanes))
        if recovered:
            self._observe("executor.recovered", {"transactions": len(recovered)})

    async def screen(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Return the plans that limits, funds and flights let pass as they stand, nothing reserved.

        Asked before they are proven: a plan refused after its proof takes those behind it along. What
        passes has its lane.
        """
        async with self._turn:
            current, skips = self._current(plans)
            current = self._assign(current, skips)
            passed: list[Plan] = []
            try:
                for plan in current:
                    refusals = await self._refusals(plan, passed)
                    skips.extend(refusals)
                    if not refusals:
                        passed.append(plan)
            finally:
                for plan in passed:
                    self._admission.settle(Dropped(plan.id, None, "only looked at"))
            if self._live and passed:
                asyncio.get_running_loop().call_later(MEANWHILE, self._prepare, passed)
            return passed, skips

    def _prepare(self, plans: Sequence[Plan]) -> None:
        """Do while plans are proven what their send would have to wait for."""
        if self._flow is not None:
            self._flow.warm()
        for plan in plans:
            self._draft(plan)

    async def send(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Send plans in order; return those handed over, and a skip for every other opportunity."""
        async with self._turn:
            if not self._live:
                current, skips = self._current(plans)
                return [], skips + await self._rehearsal.rehearse(current)
            return await self._send(plans)

    async def follow(self, head: Head) -> list[Receipt]:
        """Return how transactions ended by this head; asks nothing when none is in flight.

        Whoever stops waiting does not stop it: an end is booked whole, and the next call returns it.
        """
        self._timestamp = max(self._timestamp, head.timestamp)
        self._following = asyncio.ensure_future(self._follow(head))
        await asyncio.shield(self._following)
        receipts, self._ended = self._ended, []
        return receipts

    async def _follow(self, head: Head) -> None:
        async with self._turn:
            await self._flush()
            carried = {
                flight.plan.id: [quote.opportunity.key for quote in flight.plan.quotes]
                for flight in self._flights
            }
            receipts: list[Receipt] = []
            try:
                await self._tracker.follow(head, receipts)
            finally:
                for receipt in receipts:
                    self._failed.ended(receipt, carried.get(receipt.plan_id, ()), head.number)
                if receipts:
                    self._changed = head.number
                    self._ended.extend(receipts)

    def in_flight(self) -> frozenset[Key]:
        """Return the positions a transaction on its way liquidates."""
        return self._flights.keys(self._timestamp)

    def cooling(self, head: Head) -> frozenset[Key]:
        """Return the positions held back: told of in dry mode, or failed again and again on the chain."""
        return self._rehearsal.cooling(head.number) | self._failed.held(head.number)

    @property
    def pending(self) -> int:
        """Return the number of plans whose nonce is not used yet."""
        return len(self._flights)

    @property
    def balance(self) -> Wei | None:
        """Return the wallets' native coin together as far as is known; None without a wallet."""
        return Wei(sum(wallet.balance for wallet in self._lanes)) if self._lanes else None

    @property
    def changed(self) -> int:
        """Return the head at which a transaction last ended: what was read before is out of date."""
        return self._changed

    @property
    def poorest(self) -> Address | None:
        """Return the wallet with the least native coin; None without any."""
        return self._lanes.poorest()

    @property
    def payee(self) -> Address | None:
        """Return the wallet a refill goes to: the poorest that can pay; None without any."""
        return self._lanes.payee(self._timestamp)

    @property
    def lanes(self) -> list[Lane]:
        """Return how each wallet stands."""
        return self._lanes.states(self._timestamp)

    @property
    def relays(self) -> Mapping[str, Score]:
        """Return how each relay has done, best first."""
        return {} if self._flow is None else self._flow.scores

    async def drain(self, seconds: float) -> list[Receipt]:
        """Take no more plans and follow what is pending for a bounded time; the journal keeps the rest."""
        self._draining = True
        async with self._turn:
            await self._flush()
            ended, self._ended = self._ended, []
        until = self._clock.monotonic() + seconds
        while self._flights:
            try:
                async with asyncio.timeout(seconds):
                    header = await self._rpc.request("eth_getBlockByNumber", ["latest", False])
                ended.extend(await self.follow(parse_head(header)))
            except (TransientError, TimeoutError) as error:
                self._observe("executor.drain_failed", {"error": str(error) or "no answer"})
            if not self._flights or self._clock.monotonic() >= until:
                break
            await self._sleep(DRAIN_POLL)
        await self._flush()
        return ended

    async def withdraw(self, seconds: float) -> list[Receipt]:
        """Take no more plans and cancel all that is in flight; return what is decided in that time.

        What is included before its cancel counts as included.
        """
        self._draining = True
        async with self._turn:
            dropped = await self._drop_unsent() if self._live else []
            self._pursuit.withdrawing = True
        return [*dropped, *await self.drain(seconds)]

    @property
    def undecided(self) -> list[Flight]:
        """Return what is in flight, oldest first."""
        return self._flights.open

    async def _drop_unsent(self) -> list[Receipt]:
        """Settle what was on record when its send was broken off: the next start would send it."""
        known = {each.signed.hash for flight in self._flights for each in flight.versions}
        dropped: list[Receipt] = []
        for signed in await self._journal.pending():
            if signed.plan.chain == self._chain and signed.hash not in known:
                receipt = Dropped(signed.plan.id, signed.hash, "never handed over")
                await self._journal.settled(receipt)
                dropped.append(receipt)
        return dropped

    def _current(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        """Split off the plans that may no longer be sent at all."""
        if self._draining:
            return [], skips_for(plans, Reason.BREAKER, "the keeper is stopping")
        gone = [plan for plan in plans if not self._canonical(plan.head)]
        kept = [plan for plan in plans if plan not in gone]
        skips = skips_for(gone, Reason.TIMEOUT, "its head was reorged out")
        if self._live and (self._flow is None or not self._flow.backruns):
            # alone it would fail, in the public pool at our cost
            alone = [plan for plan in kept if plan.after]
            kept = [plan for plan in kept if not plan.after]
            skips += skips_for(alone, Reason.TIMEOUT, "no relay puts it behind a pending one")
        return kept, skips

    def _later(self, record: Awaitable[None]) -> None:
        """Write a record beside the work; the next head waits for it."""
        self._records.append(asyncio.ensure_future(record))

    async def _flush(self) -> None:
        """Wait for the records of sends; raise when one could not be written."""
        records, self._records = self._records, []
        await asyncio.gather(*records)

    def _assign(self, plans: Sequence[Plan], skips: list[Skip]) -> list[Plan]:
        """Return the plans that a lane takes, and add a skip for the others."""
        if not self._live:
            return list(plans)
        assigned, waiting = self._lanes.assign(plans)
        skips.extend(skips_for(waiting, Reason.TIMEOUT, FULL))
        return assigned

    async def _send(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Skip]]:
        current, skips = self._current(plans)
        lines: dict[Address, list[Plan]] = {}
        broken: set[Address] = set()
        admitted: list[Plan] = []
        for plan in self._assign(current, skips):
            if plan.sender in broken:
                skips.extend(skips_for([plan], Reason.TIMEOUT, BEHIND))
                continue
            try:
                refusals = _unpriced(plan) or await self._refusals(plan, admitted)
            except BaseException:
                self._release(admitted)
                raise
            skips.extend(refusals)
            if refusals:
                broken.add(plan.sender)
                continue
            admitted.append(plan)
            lines.setdefault(plan.sender, []).append(plan)
        sent: set[str] = set()
        for handed, refusals in await self._launch_lines(list(lines.values())):
            sent.update(plan.id for plan in handed)
            skips.extend(refusals)
        return [plan for plan in admitted if plan.id in sent], skips

    async def _launch_lines(self, lines: Sequence[Sequence[Plan]]) -> list[Launched]:
        """Launch every lane's plans beside those of the others; raise once all are done."""
        if len(lines) == 1:
            return [await self._launch_all(lines[0])]
        ended = await asyncio.gather(
            *(self._launch_all(line) for line in lines), return_exceptions=True
        )
        launched = []
        for each in ended:
            if isinstance(each, BaseException):
                raise each
            launched.append(each)
        return launched

    async def _launch_all(self, plans: Sequence[Plan]) -> Launched:
        """Launch the plans of one lane in order; what is not launched is not reserved any more."""
        sent: list[Plan] = []
        skips: list[Skip] = []
        for index, plan in enumerate(plans):
            wallet = self._lanes.of(plan.sender)
            assert wallet is not None, "assigned to one of the lanes"
            try:
                answer, refusals = await self._launch(plan, wallet)
            except BaseException:
                flown = any(flight.plan.id == plan.id for flight in self._flights)
                self._release(plans[index + flown :])
                raise
            skips.extend(refusals)
            if not refusals:
                sent.append(plan)
            if answer is not Answer.ACCEPTED:
                # one without an answer may not have arrived: those behind it would be stuck
                skips.extend(self._release(plans[index + 1 :]))
                break
        return sent, skips

    async def _refusals(self, plan: Plan, before: Sequence[Plan]) -> list[Skip]:
        keys = {quote.opportunity.key for quote in plan.quotes}
        taken = {quote.opportunity.key for other in before for quote in other.quotes}
        if keys & (taken | self.in_flight()):
            return skips_for([plan], Reason.IN_FLIGHT, "a transaction on its way liquidates it")
        wallet = self._lanes.of(plan.sender) if self._live else None
        if wallet is not None:
            ahead = [other for other in before if other.sender == plan.sender]
            refusals = await self._unaffordable(plan, ahead, wallet)
            if refusals:
                return refusals
        refusal = self._admission.admit(plan)
        if refusal is not None:
            return skips_for([plan], refusal.reason, refusal.detail)
        return []

    async def _unaffordable(self, plan: Plan, before: Sequence[Plan], wallet: Wallet) -> list[Skip]:
        try:
            affordable = await wallet.affords(plan, before, self._flights)
        except TransientError as error:
            return skips_for([plan], Reason.TIMEOUT, f"the balance was not read: {error}")
        if affordable:
            return []
        detail = f"the wallet's {wallet.balance} wei do not cover its gas and a replacement at the maximum fee"
        return skips_for([plan], Reason.CAPITAL, detail)

    async def _launch(self, plan: Plan, wallet: Wallet) -> tuple[Answer, list[Skip]]:
        """Sign, journal and hand over one plan."""
        try:
            signed = await wallet.sign(plan, private=self._flow is not None)
        except TransientError as error:
            words = f"not signed: {error}"
            fields = {"plan": plan, "wallet": wallet.address, "error": str(error)}
            self._observe("plan.unsigned", fields)
            self._admission.settle(Dropped(plan.id, None, words))
            return Answer.INVALID, skips_for([plan], Reason.TIMEOUT, words)
        flight = Flight.of(signed)
        self._flights.add(flight)
        try:
            # queued together they cost one wait for the disk
            await asyncio.gather(self._journal.planned(plan), self._journal.signed(signed))
        except BaseException:
            self._forget(flight, wallet)
            raise
        if not self._canonical(plan.head):
            reason = "its head was reorged out"
            return Answer.INVALID, await self._refused(flight, wallet, Reason.TIMEOUT, reason)
        refusal = self._admission.admit(plan)
        if refusal is not None:  # a switch was thrown since
            skips = await self._refused(flight, wallet, refusal.reason, refusal.detail)
            return Answer.INVALID, skips
        answer, words = await self._hand_over(signed, wallet)
        if answer in {Answer.NONCE, Answer.OCCUPIED}:
            answer = await self._look_up(flight, answer)
        if answer in REASONS:
            fields = {"plan": plan, "tx": signed.hash, "result": str(answer), "error": words}
            self._observe("plan.refused", fields)
            skips = await self._refused(flight, wallet, REASONS[answer], words)
            if answer in {Answer.NONCE, Answer.OCCUPIED, Answer.FUNDS}:
                await self._resynchronise(wallet)
            return answer, skips
        if answer is Answer.ACCEPTED:
            flight.broadcast = plan.head.number
            words = ""
        flight.versions[0].undergo(Event.SIGHT if answer is Answer.ACCEPTED else Event.HAND_OVER)
        self._later(self._journal.sent(signed, words or None))
        fields = {"plan": plan, "tx": signed.hash, "nonce": signed.nonce, "result": str(answer)}
        self._observe("plan.submitted", fields)
        return answer, []

    async def _hand_over(self, signed: Signed, wallet: Wallet) -> tuple[Answer, str]:
        """Give the bytes to the relays, or without any to the node."""
        if self._flow is None:
            return await wallet.hand_over(signed)
        head = signed.plan.head.number
        return await self._flow.hand_over(signed, self._flights.before(signed), head)

    async def _look_up(self, flight: Flight, answer: Answer) -> Answer:
        """Say what a refused nonce means: a provider that repeats requests may have ours already."""
        try:
            params = [to_hex(flight.signed.hash)]
            known = await self._rpc.request("eth_getTransactionByHash", params)
        except TransientError:
            return Answer.UNKNOWN
        return answer if known is None else Answer.ACCEPTED

    async def _resynchronise(self, wallet: Wallet) -> None:
        """Start over from the chain's nonces and balance, as far as it can be asked."""
        with suppress(TransientError):
            await wallet.synchronise(self._flights)

    async def _refused(
        self, flight: Flight, wallet: Wallet, reason: Reason, words: str
    ) -> list[Skip]:
        """Settle a transaction no node holds; its nonce is the next to be used."""
        signed = flight.signed
        self._forget(flight, wallet)
        await self._drop(signed.plan, signed.hash, f"refused: {words}")
        return skips_for([signed.plan], reason, words)

    def _forget(self, flight: Flight, wallet: Wallet) -> None:
        self._flights.remove(flight)
        wallet.nonces.give_back(flight.signed.nonce)

    def _release(self, plans: Sequence[Plan]) -> list[Skip]:
        """Take admitted plans back that were not even journalled."""
        for plan in plans:
            self._admission.settle(Dropped(plan.id, None, BEHIND))
        return skips_for(plans, Reason.TIMEOUT, BEHIND)

    async def _drop(self, plan: Plan, tx_hash: Hash, reason: str) -> None:
        dropped = Dropped(plan.id, tx_hash, reason)
        self._admission.settle(dropped)
        await self._journal.settled(dropped)
        self._observe("plan.dropped", {"plan": plan, "receipt": dropped})


def _unpriced(plan: Plan) -> list[Skip]:
    """Refuse what could not be booked: its gas has to have a price before it is paid."""
    if plan.prices.get(ZERO_ADDRESS):
        return []
    return skips_for([plan], Reason.NO_PRICE, "its gas has no price in dollars")
