"""From sent to settled: receipts, rebroadcasts, and transactions that vanish."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keeper.chain.parse import blob, head as parse_head, quantity
from keeper.errors import InvariantError, TransientError
from keeper.execution.answer import Answer
from keeper.execution.autopsy import revert_reason
from keeper.execution.flight import Flight, Flights
from keeper.execution.hurry import Hurried
from keeper.execution.settlement import (
    Booked,
    DecodeRuns,
    error_bps,
    gas_paid,
    included,
    reverted,
    unreadable,
)
from keeper.execution.wallet import Wallet
from keeper.ports import Admission, Journal, Rpc
from keeper.types import Dropped, Head, Included, Plan, Receipt, Replaced
from keeper.units import Address, Hash, Wei, to_hex

Observe = Callable[[str, Mapping[str, object]], None]
"""Takes an event's name and its fields."""

REBROADCAST_AFTER = 3
"""Blocks without a receipt before the same bytes are handed over again."""

FOLLOW_SECONDS = 2.0
"""How long a head's decisions wait for what is in flight; what was not told is asked again."""

PATIENCE = 2
"""Heads on which a used nonce may lack its receipt: nodes index receipts after the state."""


class Tracker:
    """Follow every flight to its receipt; never more than reads and the same bytes again."""

    def __init__(
        self,
        rpc: Rpc,
        wallet: Wallet | None,
        flights: Flights,
        journal: Journal,
        admission: Admission,
        decode: DecodeRuns,
        explain: Callable[[bytes], str],
        observe: Observe,
        *,
        rebroadcast: bool,
        seconds: float = FOLLOW_SECONDS,
    ) -> None:
        self._rpc = Hurried(rpc, seconds)
        self._wallet = wallet
        self._flights = flights
        self._journal = journal
        self._admission = admission
        self._decode = decode
        self._explain = explain
        self._observe = observe
        self._rebroadcast = rebroadcast
        self._used: dict[tuple[Address, int], Hash] = {}

    async def follow(self, head: Head) -> list[Receipt]:
        """Settle what ended since the last head; asks nothing when nothing is in flight."""
        flights = list(self._flights)
        self._rpc.begin()
        answers = await asyncio.gather(*(self._answer(flight, head) for flight in flights))
        ended: list[Receipt] = []
        waiting: list[Flight] = []
        for flight, answer in zip(flights, answers, strict=True):
            if answer is None:
                waiting.append(flight)
            else:
                ended.append(await self._mined(flight, *answer))
        if waiting:
            ended.extend(await self._chase(waiting, head))
        return ended

    async def _answer(self, flight: Flight, head: Head) -> tuple[Mapping[str, Any], int] | None:
        """Return a receipt with its block's time; None when there is none or the node did not say."""
        try:
            receipt = await self._rpc.request(
                "eth_getTransactionReceipt", [to_hex(flight.signed.hash)]
            )
            if receipt is None:
                return None
            if blob(receipt["blockHash"]) == head.hash:
                return receipt, head.timestamp
            header = await self._rpc.request("eth_getBlockByHash", [receipt["blockHash"], False])
        except TransientError:
            return None
        return None if header is None else (receipt, parse_head(header).timestamp)

    async def _mined(self, flight: Flight, answer: Mapping[str, Any], timestamp: int) -> Receipt:
        signed = flight.signed
        receipt: Receipt
        refill, unpriced, fault = Wei(0), frozenset[Address](), ""
        if quantity(answer["status"]) == 1:
            booked, fault = self._book(signed.plan, answer, timestamp)
            receipt, refill, unpriced = booked.receipt, booked.refill, booked.unpriced
        else:
            why = await revert_reason(self._rpc, signed, answer, timestamp, self._explain)
            receipt = reverted(signed.plan, answer, why)
        self._used[signed.sender, signed.nonce] = signed.hash
        wallet = self._wallet_of(flight)
        if wallet is not None:
            wallet.nonces.confirm(signed.nonce + 1)
            wallet.pay(gas_paid(answer), refill)
        await self._settle(flight, receipt, unpriced)
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

    async def _chase(self, flights: Sequence[Flight], head: Head) -> list[Receipt]:
        """Look after flights without a receipt."""
        try:
            mined = {
                sender: await self._count(sender)
                for sender in {flight.signed.sender for flight in flights}
            }
        except TransientError:
            return []
        ended: list[Receipt] = []
        for flight in flights:
            signed = flight.signed
            if signed.nonce >= mined[signed.sender]:
                flight.passed = 0
                await self._push(flight, head)
                continue
            flight.passed += 1
            by = self._used.get((signed.sender, signed.nonce))
            if by is not None or flight.passed > PATIENCE:
                ended.append(await self._lost(flight, by))
        return ended

    async def _count(self, sender: Address) -> int:
        if self._wallet is not None and self._wallet.address == sender:
            return await self._rpc.hurry(self._wallet.confirm(self._flights))
        params = [to_hex(sender), "latest"]
        return quantity(await self._rpc.request("eth_getTransactionCount", params))

    async def _lost(self, flight: Flight, by: Hash | None) -> Receipt:
        """Settle a transaction whose nonce another one used."""
        signed = flight.signed
        receipt: Receipt
        if by is not None:
            receipt = Replaced(signed.plan.id, signed.hash, by)
        else:
            reason = f"a transaction that is not ours used nonce {signed.nonce} of this wallet"
            receipt = Dropped(signed.plan.id, signed.hash, reason)
            self._observe("nonce.foreign", {"nonce": signed.nonce, "tx": signed.hash})
        await self._settle(flight, receipt)
        return receipt

    async def _push(self, flight: Flight, head: Head) -> None:
        """Hand an unmined transaction's bytes over again, or give its nonce back when it is gone."""
        wallet = self._wallet_of(flight)
        if flight.abandoned or wallet is None or not self._rebroadcast:
            return
        if flight.is_expired(head.timestamp):
            if await self._is_unknown(flight):
                self._abandon(flight, wallet, "its deadline passed and the node does not know it")
            return
        if flight.broadcast is not None and head.number - flight.broadcast < REBROADCAST_AFTER:
            return
        if self._admission.admit(flight.signed.plan) is not None:
            return  # a switch was thrown after it was sent: the bytes are not offered again
        try:
            answer, words = await self._rpc.hurry(wallet.hand_over(flight.signed))
        except TransientError:
            return
        if answer is Answer.UNKNOWN:
            return
        flight.broadcast = head.number
        self._observe("plan.rebroadcast", {"tx": flight.signed.hash, "result": str(answer)})
        if answer not in {Answer.ACCEPTED, Answer.NONCE}:
            self._abandon(flight, wallet, words)

    async def _is_unknown(self, flight: Flight) -> bool:
        params = [to_hex(flight.signed.hash)]
        try:
            return await self._rpc.request("eth_getTransactionByHash", params) is None
        except TransientError:
            return False

    def _abandon(self, flight: Flight, wallet: Wallet, reason: str) -> None:
        """Free the nonce for another plan; whichever is mined, the other never can be."""
        flight.abandoned = True
        wallet.nonces.give_back(flight.signed.nonce)
        fields = {"plan": flight.signed.plan, "tx": flight.signed.hash, "reason": reason}
        self._observe("plan.abandoned", fields)

    async def _settle(
        self, flight: Flight, receipt: Receipt, unpriced: frozenset[Address] = frozenset()
    ) -> None:
        await self._journal.settled(receipt)
        self._admission.settle(receipt)
        self._flights.remove(flight)
        plan = flight.signed.plan
        fields: dict[str, object] = {"plan": plan, "receipt": receipt}
        if isinstance(receipt, Included):
            fields["estimate_error_bps"] = error_bps(receipt.net_usd, plan.net_usd)
        if unpriced:
            fields["unpriced"] = sorted(to_hex(token) for token in unpriced)
        self._observe(f"plan.{type(receipt).__name__.lower()}", fields)

    def _wallet_of(self, flight: Flight) -> Wallet | None:
        """Return our wallet when the flight is its own; a former wallet's are only watched."""
        if self._wallet is not None and self._wallet.address == flight.signed.sender:
            return self._wallet
        return None
