"""What plans would do in the next block, asked of the node with the bytes that will be sent."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from keeper.chain.answers import Kind, kind_of_error
from keeper.chain.parse import blob, quantity
from keeper.errors import RpcError, TransientError
from keeper.ports import Rpc
from keeper.types import Head, NextBlock, Plan
from keeper.units import Address, to_hex

_UNKNOWN_METHOD = {-32601, -32004}
_INVALID_PARAMS = -32602
_REVERTED = 3
_VM_ERROR = -32015
REQUEST_GAS = 50_000_000
"""Gas that a node gives all calls of one request together, unless it is told otherwise (geth `rpc.gascap`)."""
_ENOUGH = 10**24
"""Wei for any gas there is: a million ether."""
_MISSING = ("not found", "not supported", "unsupported", "does not exist", "not available")
_NO_OVERRIDES = re.compile(r"override.{0,40}(not supported|unsupported)|unsupported.{0,40}override")
_DIED = re.compile(r"\bout of gas|invalid (opcode|jump)|stack (under|over)flow|vm execution error")
LOOK_HEADS = 600
"""Heads after which a node that lacked something is tried again: another may answer by now."""


class Way(IntEnum):
    """How a node can simulate, best first."""

    SIMULATE = 0
    OVERRIDE = 1
    PLAIN = 2


NOTES = {
    Way.OVERRIDE: "the node has no eth_simulateV1: gas is the plan's own estimate and plans of one "
    "head are simulated apart",
    Way.PLAIN: "the node takes no block overrides: simulated on its pending block, not the next one's "
    "number, timestamp and base fee",
}
"""What an operator should know about each lesser way."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """How one plan would end; `error` is revert data, `gas_used` is after refunds.

    `measured` is false when the node told no gas and `gas_used` is the plan's own estimate.
    """

    ok: bool
    gas_used: int
    returndata: bytes
    error: bytes = b""
    measured: bool = True
    message: str = ""


class Simulator:
    """Simulate plans one after another at the next block; remembers for a while what the node cannot do.

    Each is sent by its lane, those without one by `operator`. With `is_free` the sender's balance
    does not matter: what is never sent needs no money. `note` is told, once each, what the node lacks.
    """

    def __init__(
        self,
        rpc: Rpc,
        operator: Address,
        *,
        is_free: bool = False,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._rpc = rpc
        self._operator = operator
        self._is_free = is_free
        self._note = note
        self._way = Way.SIMULATE
        self._lowered = 0
        self._noted: set[Way] = set()

    @property
    def way(self) -> Way:
        """Return how the node simulates, as far as is known."""
        return self._way

    async def simulate(self, plans: Sequence[Plan], head: Head, at: NextBlock) -> list[Simulation]:
        """Return one result per plan, in nonce order; raise `TransientError` when none can be had.

        With `eth_simulateV1` each plan sees what the ones before it left.
        """
        if not plans:
            return []
        if head.number - self._lowered >= LOOK_HEADS:
            self._way = Way.SIMULATE
        if self._way is Way.SIMULATE:
            try:
                return await self._in_one_request(plans, head, at)
            except RpcError as error:
                if not _is_missing(error):
                    raise
                self._lower(Way.OVERRIDE, head)
        return list(await asyncio.gather(*(self._alone(plan, head, at) for plan in plans)))

    def _lower(self, way: Way, head: Head) -> None:
        """Simulate in a lesser way for some heads."""
        if way > self._way:
            self._way, self._lowered = way, head.number
            if way not in self._noted:
                self._noted.add(way)
                self._note(NOTES[way])

    async def _in_one_request(
        self, plans: Sequence[Plan], head: Head, at: NextBlock
    ) -> list[Simulation]:
        state = {
            "blockOverrides": {**_block(at), "baseFeePerGas": hex(at.base_fee)},
            "calls": [self._transaction(plan) for plan in plans],
        }
        if self._is_free:
            state["stateOverrides"] = self._gifts(plans)
        request = {
            "blockStateCalls": [state],
            "validation": False,
            "traceTransfers": False,
            "returnFullTransactions": False,
        }
        (block,) = await self._rpc.request("eth_simulateV1", [request, hex(head.number)])
        calls: list[dict[str, Any]] = block["calls"]
        if len(calls) != len(plans):
            raise TransientError(f"eth_simulateV1 answered {len(calls)} of {len(plans)} calls")
        return [_simulated(call) for call in calls]

    async def _alone(self, plan: Plan, head: Head, at: NextBlock) -> Simulation:
        transaction = self._transaction(plan)
        if self._way is not Way.PLAIN:
            overrides = {**_block(at), "baseFee": hex(at.base_fee)}
            params = [transaction, hex(head.number), self._gifts([plan]), overrides]
            try:
                return await self._call(plan, params)
            except RpcError as error:
                lacks = error.code == _INVALID_PARAMS or _NO_OVERRIDES.search(error.message.lower())
                if not lacks and not _is_missing(error):
                    raise
                self._lower(Way.PLAIN, head)
        if self._is_free:
            # Without a price nothing is paid for, and it needs no override.
            transaction = {key: transaction[key] for key in transaction if "Fee" not in key}
        return await self._call(plan, [transaction, "pending"])

    async def _call(self, plan: Plan, params: Sequence[object]) -> Simulation:
        try:
            answer = await self._rpc.request("eth_call", params)
        except RpcError as error:
            if not _is_executed(error):
                raise
            return Simulation(
                False, plan.gas, b"", error.data or b"", measured=False, message=error.message
            )
        return Simulation(True, plan.gas, blob(answer), measured=False)

    def _gifts(self, plans: Sequence[Plan]) -> dict[str, dict[str, str]]:
        senders = {self._sender(plan) for plan in plans} if self._is_free else ()
        return {sender: {"balance": hex(_ENOUGH)} for sender in senders}

    def _sender(self, plan: Plan) -> str:
        return to_hex(plan.sender or self._operator)

    def _transaction(self, plan: Plan) -> dict[str, str]:
        return {
            "from": self._sender(plan),
            "to": to_hex(plan.contract),
            "input": to_hex(plan.calldata),
            "gas": hex(plan.gas_limit),
            "maxFeePerGas": hex(plan.fees.max_fee),
            "maxPriorityFeePerGas": hex(plan.fees.priority_fee),
            "value": "0x0",
        }


def _block(at: NextBlock) -> dict[str, str]:
    return {"number": hex(at.number), "time": hex(at.timestamp)}


def _simulated(call: dict[str, Any]) -> Simulation:
    used = quantity(call["gasUsed"])
    returned = blob(call.get("returnData") or "0x")
    if quantity(call["status"]) == 1:
        return Simulation(True, used, returned)
    error = call.get("error") or {}
    data = error.get("data")
    reverted = blob(data) if isinstance(data, str) and data.startswith("0x") else returned
    return Simulation(False, used, b"", reverted, message=str(error.get("message", "")))


def _is_executed(error: RpcError) -> bool:
    """Whether the call itself failed: of others in the same head that says nothing."""
    text = error.message.lower()
    if error.data is not None or error.code == _REVERTED or "revert" in text:
        return True
    return error.code == _VM_ERROR or _DIED.search(text) is not None


def _is_missing(error: RpcError) -> bool:
    """Whether the node has no such method: by the code, or by words that name it, not a block."""
    if error.code in _UNKNOWN_METHOD:
        return True
    text = error.message.lower()
    names_it = "method" in text or error.method.lower() in text
    told = names_it and any(phrase in text for phrase in _MISSING)
    return told and kind_of_error(error) is not Kind.UNKNOWN_BLOCK
