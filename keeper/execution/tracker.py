"""From sent to final: receipts, reorgs that take them back, and transactions that vanish."""

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from keeper.chain.parse import blob, head as parse_head, quantity
from keeper.errors import InvariantError, TransientError
from keeper.execution.autopsy import revert_reason
from keeper.execution.bookkeeper import Bookkeeper
from keeper.execution.flight import Flight, Flights, Mined, Version
from keeper.execution.hurry import Hurried
from keeper.execution.lanes import Lanes
from keeper.execution.life import Event
from keeper.execution.pursuit import Policy, Pursuit
from keeper.execution.settlement import (
    Booked,
    DecodeRuns,
    cancelled,
    gas_paid,
    included,
    reverted,
    unreadable,
)
from keeper.execution.wallet import Wallet
from keeper.types import Dropped, Head, Plan, Receipt, Replaced
from keeper.units import Address, Hash, Wei, to_hex

Observe = Callable[[str, Mapping[str, object]], None]
"""Takes an event's name and its fields."""

FOLLOW_SECONDS = 2.0
"""How long a head's decisions wait for what is in flight; what was not told is asked again."""

ORPHANED = "no wallet here sends it any more"

LOOK_HEADS = 32
"""Heads of so many on which expired ones of former wallets are looked at: a node may drop them."""
LOOKS = 8
"""Heads in a row of those on which they are."""


@dataclass(frozen=True, slots=True)
class Found:
    """The receipt of one version, with its block's time."""

    version: Version
    receipt: Mapping[str, Any]
    timestamp: int

    @property
    def block(self) -> tuple[int, Hash]:
        """Return number and hash of the block it is in."""
        return quantity(self.receipt["blockNumber"]), Hash(blob(self.receipt["blockHash"]))


class Tracker:
    """Follow every flight until it is final; what is offered again goes through the pursuit."""

    def __init__(
        self,
        rpc: Hurried,
        lanes: Lanes,
        flights: Flights,
        books: Bookkeeper,
        pursuit: Pursuit | None,
        decode: DecodeRuns,
        explain: Callable[[bytes], str],
        observe: Observe,
        policy: Policy,
    ) -> None:
        self._rpc = rpc
        self._lanes = lanes
        self._flights = flights
        self._books = books
        self._pursuit = pursuit
        self._decode = decode
        self._explain = explain
        self._observe = observe
        self._policy = policy

    async def follow(self, head: Head, ended: list[Receipt]) -> None:
        """Settle what ended since the last head, and add it; asks nothing when nothing is followed.

        What was added stays so when a later one raises: it is booked.
        """
        self._rpc.begin()
        flights = await self._awake(head)
        answers = await asyncio.gather(*(self._answer(flight, head) for flight in flights))
        waiting: list[Flight] = []
        untold: set[int] = set()
        for flight, answer in zip(flights, answers, strict=True):
            found = None if isinstance(answer, TransientError) else answer
            if isinstance(answer, TransientError):
                untold.add(id(flight))
            if flight.mined is not None:
                if not isinstance(answer, TransientError):
                    await self._recheck(flight, flight.mined, found, head)
                if flight.mined is not None:
                    continue
            if found is None:
                waiting.append(flight)
            else:
                waiting.extend(await self._contradicted(flight, head))
                ended.append(await self._mined(flight, found, head))
        if waiting:
            once = list({id(flight): flight for flight in waiting}.values())
            await self._chase(once, untold, head, ended)
        await self._recount(waiting, head)

    async def _awake(self, head: Head) -> list[Flight]:
        """Return what may have a receipt: not what lapsed, as long as its nonce is unused.

        What a former wallet left is looked at now and then: nobody here will use its nonce.
        """
        flights = [flight for flight in self._flights if flight.superseded is None]
        senders = {flight.signed.sender for flight in flights if flight.is_asleep}
        try:
            used = {sender: await self._used_nonces(sender) for sender in senders}
        except TransientError:
            used = {}
        return [
            flight
            for flight in flights
            if not flight.is_asleep
            or flight.signed.nonce < used.get(flight.signed.sender, 0)
            or (head.number % LOOK_HEADS < LOOKS and self._wallet_of(flight) is None)
        ]

    async def _answer(self, flight: Flight, head: Head) -> Found | TransientError | None:
        """Return what was mined of a flight, None when nothing, the error when the node did not say.

        A head on top of one that stands on its block stands on it too: nobody is asked then.
        """
        if flight.mined is not None and flight.mined.below == head.parent:
            return _still(flight, flight.mined)
        try:
            receipts = await asyncio.gather(
                *(
                    self._rpc.request("eth_getTransactionReceipt", [to_hex(version.signed.hash)])
                    for version in flight.versions
                )
            )
            for version, receipt in zip(flight.versions, receipts, strict=True):
                if receipt is not None:
                    return await self._timed(version, receipt, flight.mined, head)
        except TransientError as error:
            return error
        return None

    async def _timed(
        self, version: Version, receipt: Mapping[str, Any], mined: Mined | None, head: Head
    ) -> Found | None:
        block = blob(receipt["blockHash"])
        if block == head.hash:
            return Found(version, receipt, head.timestamp)
        if mined is not None and block == mined.block_hash:
            return Found(version, receipt, 0)
        header = await self._rpc.request("eth_getBlockByHash", [receipt["blockHash"], False])
        return None if header is None else Found(version, receipt, parse_head(header).timestamp)

    async def _recheck(self, flight: Flight, mined: Mined, found: Found | None, head: Head) -> None:
        """Hold a mined transaction to its block; the final depth lets go, a reorg opens it again."""
        if found is not None and found.version.signed.hash == mined.tx_hash:
            number, block_hash = found.block
            if not mined.block_hash and number == mined.number:
                mined = flight.mined = replace(mined, block_hash=block_hash)
            if found.block == (mined.number, mined.block_hash):
                flight.missing.reset()
                stands = head.hash in {mined.block_hash, mined.below} or head.parent == mined.below
                below = head.hash if stands else Hash(b"")
                flight.mined = replace(mined, below=below)
                # what waits for its end on the same nonce is told by this one who used it
                is_alone = not self._flights.beside(flight)
                if head.number - mined.number + 1 >= self._policy.final_depth and is_alone:
                    for each in (flight, *self._superseded(flight)):
                        self._flights.remove(each)
                    self._books.finish(flight)
                return
        elif found is None:
            # a node that lags tells of no receipt either, and never of another head at its height
            flight.missing.wait(head.timestamp)
            known = mined.block_hash or head.hash
            replaced = head.number == mined.number and head.hash != known
            is_told = replaced or head.number < mined.number
            if not (is_told or flight.missing.is_over(head.timestamp)):
                return
        for each in (flight, *self._superseded(flight)):
            await self._reopen(each, head)

    async def _contradicted(self, flight: Flight, head: Head) -> list[Flight]:
        """Open another plan again that was mined on the nonce now used by this one."""
        found = [
            other
            for other in self._flights
            if other is not flight
            and other.mined is not None
            and (other.signed.sender, other.signed.nonce)
            == (flight.signed.sender, flight.signed.nonce)
        ]
        for other in found:
            await self._reopen(other, head)
        return found

    def _superseded(self, flight: Flight) -> list[Flight]:
        """Return the other plans whose nonce a flight's transaction used."""
        signed = flight.signed
        return [
            other
            for other in self._flights
            if other.superseded is not None
            and (other.signed.sender, other.signed.nonce) == (signed.sender, signed.nonce)
        ]

    async def _reopen(self, flight: Flight, head: Head) -> None:
        """Bring what a reorg undid back to life: it is offered again at once."""
        mined, wallet = flight.mined, self._wallet_of(flight)
        if mined is not None:
            # what was given up and mined all the same has its nonce back, unless another plan has it
            others = self._superseded(flight)
            is_owned = any(not other.abandoned for other in others)
            flight.abandoned = flight.abandoned and is_owned
        if wallet is not None and mined is not None:
            wallet.nonces.reopen(flight.signed.nonce)
            wallet.pay(Wei(-mined.gas))
            if mined.refill:
                # read, not taken off: it may never have been counted
                await self._recount_balance(wallet)
        await self._books.reopen(flight, head)

    async def _mined(self, flight: Flight, found: Found, head: Head) -> Receipt:
        signed, answer, plan = found.version.signed, found.receipt, found.version.signed.plan
        receipt: Receipt
        refill, unpriced, fault = Wei(0), frozenset[Address](), ""
        event = Event.SUCCEED
        if signed.cancels:
            receipt = cancelled(plan, answer)
        elif quantity(answer["status"]) == 1:
            booked, fault = self._book(plan, answer, found.timestamp)
            receipt, refill, unpriced = booked.receipt, booked.refill, booked.unpriced
        else:
            why = await revert_reason(self._rpc, signed, answer, found.timestamp, self._explain)
            receipt = reverted(plan, answer, why)
            event = Event.FAIL
        found.version.undergo(event)
        number, block_hash = found.block
        below = head.hash if block_hash == head.hash else Hash(b"")
        flight.mined = Mined(signed.hash, number, block_hash, gas_paid(answer), refill, below)
        flight.missing.reset()
        wallet = self._wallet_of(flight)
        if wallet is not None:
            wallet.nonces.confirm(signed.nonce + 1)
            wallet.pay(gas_paid(answer))
            if refill:
                # read, not added: a look since the block may have counted it already
                await self._recount_balance(wallet)
        receipt = await self._books.settle(flight, receipt, unpriced)
        if fault:
            # Booked first: a restart must not find it open and stop over it again.
            raise InvariantError(signed.plan.chain, f"{to_hex(signed.hash)} {fault}")
        return receipt

    def _book(self, plan: Plan, answer: Mapping[str, Any], timestamp: int) -> tuple[Booked, str]:
        """Value a successful receipt; return what is wrong with it when it tells no result."""
        try:
            return included(plan, answer, timestamp, self._decode), ""
        except ValueError as error:
            fault = f"left no readable result: {error}"
            return unreadable(plan, answer, timestamp, fault), fault

    async def _chase(
        self,
        flights: Sequence[Flight],
        untold: Container[int],
        head: Head,
        ended: list[Receipt],
    ) -> None:
        """Look after flights without a receipt; of `untold` ones (by id) the node did not say."""
        try:
            mined = {
                sender: await self._count(sender, head)
                for sender in {flight.signed.sender for flight in flights}
            }
        except TransientError:
            return
        for flight in sorted(flights, key=lambda each: each.signed.nonce):
            signed = flight.signed
            if signed.nonce >= mined[signed.sender]:
                wallet = self._wallet_of(flight)
                if wallet is None:
                    ended.extend(await self._orphaned(flight, head))
                    continue
                flight.passed.reset()
                if self._pursuit is not None:
                    await self._pursuit.push(flight, wallet, head)
                continue
            # no answer does not say that there is no receipt
            is_told = id(flight) not in untold
            if is_told:
                flight.passed.wait(head.timestamp)
            by = self._used(flight)
            if by is not None or (is_told and flight.passed.is_over(head.timestamp)):
                ended.append(await self._lost(flight, by))

    async def _orphaned(self, flight: Flight, head: Head) -> list[Receipt]:
        """Let go of what a former wallet sent: nobody here offers it again, or takes its nonce back.

        Past its deadline it can only fail: nothing is reserved for it then, and it is settled once the
        node has not known it for long enough.
        """
        deadline = flight.signed.plan.bid.deadline
        if deadline and not flight.is_expired(head.timestamp):
            return []
        params = [[to_hex(version.signed.hash)] for version in flight.versions]
        try:
            known = [await self._rpc.request("eth_getTransactionByHash", each) for each in params]
        except TransientError:
            return []
        if any(each is not None for each in known):
            flight.passed.reset()
            if deadline and not flight.lapsed:
                reason = f"{ORPHANED}, and its deadline passed"
                flight.abandoned = flight.lapsed = True
                self._books.release(flight, reason)
            return []
        flight.passed.wait(head.timestamp)
        if not flight.passed.is_over(head.timestamp):
            return []
        signed = flight.signed
        receipt = Dropped(signed.plan.id, signed.hash, f"{ORPHANED}, and the node does not know it")
        self._flights.remove(flight)
        await self._books.settle(flight, receipt)
        return [receipt]

    def _used(self, flight: Flight) -> Hash | None:
        """Return which of our transactions used a flight's nonce, None when none did."""
        signed = flight.signed
        for other in self._flights:
            same = (other.signed.sender, other.signed.nonce) == (signed.sender, signed.nonce)
            if same and other.mined is not None:
                return other.mined.tx_hash
        return None

    async def _recount(self, flights: Sequence[Flight], head: Head) -> None:
        """Look after strangers on lanes where nothing waits: one that vanished leaves its nonce free."""
        waiting = {flight.signed.sender for flight in flights}
        with suppress(TransientError):
            for wallet in self._lanes:
                if wallet.nonces.foreign and wallet.address not in waiting:
                    await self._count(wallet.address, head)

    async def _count(self, sender: Address, head: Head) -> int:
        wallet = self._lanes.of(sender)
        if wallet is not None:
            return await self._rpc.hurry(wallet.confirm(self._flights, head.timestamp))
        return await self._used_nonces(sender)

    async def _used_nonces(self, sender: Address) -> int:
        params = [to_hex(sender), "latest"]
        return quantity(await self._rpc.request("eth_getTransactionCount", params))

    async def _lost(self, flight: Flight, by: Hash | None) -> Receipt:
        """Settle a transaction whose nonce another one used."""
        signed = flight.signed
        receipt: Receipt
        if by is not None:
            flight.superseded = by
            receipt = Replaced(signed.plan.id, signed.hash, by)
        else:
            reason = f"a transaction that is not ours used nonce {signed.nonce} of this wallet"
            receipt = Dropped(signed.plan.id, signed.hash, reason)
            fields = {"wallet": signed.sender, "nonce": signed.nonce, "tx": signed.hash}
            self._observe("nonce.foreign", fields)
            self._flights.remove(flight)
            wallet = self._wallet_of(flight)
            if wallet is not None:
                await self._recount_balance(wallet)
        await self._books.settle(flight, receipt)
        return receipt

    async def _recount_balance(self, wallet: Wallet) -> None:
        """Read a wallet's balance anew; what is known stands when the node does not tell."""
        with suppress(TransientError):
            await self._rpc.hurry(wallet.recount())

    def _wallet_of(self, flight: Flight) -> Wallet | None:
        """Return the lane a flight is on; a former wallet's are only watched."""
        return self._lanes.of(flight.signed.sender)


def _still(flight: Flight, mined: Mined) -> Found:
    """Return where a mined transaction is known to be."""
    (version,) = (each for each in flight.versions if each.signed.hash == mined.tx_hash)
    block = {"blockNumber": hex(mined.number), "blockHash": to_hex(mined.block_hash)}
    return Found(version, block, 0)
