"""Try an offer at a block without sending it: what would it really bring to the contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keeper.errors import RpcError, TransientError
from keeper.ports import Rpc
from keeper.types import Head
from keeper.units import Address, to_hex
from keeper.venues.quote_api.answer import Offer

BALANCE_OF = bytes.fromhex("70a08231")
APPROVE = bytes.fromhex("095ea7b3")
GAS = 6_000_000


@dataclass(frozen=True, slots=True)
class Tried:
    """What an offer brought when it was tried, and the gas its call took."""

    out: int
    gas: int


class Rehearsal:
    """Run offers as the contract would, with a balance it is lent for the time of the call.

    Where a token keeps balances is found with `eth_createAccessList`, and remembered.
    """

    def __init__(self, rpc: Rpc, contract: Address) -> None:
        self._rpc = rpc
        self._contract = contract
        self._slots: dict[Address, tuple[str, str]] = {}

    async def prepare(self, token: Address, head: Head) -> tuple[str, str]:
        """Return account and key of the storage word that is the contract's balance of a token.

        Raises `TransientError` when there is no such word, as with tokens that rebase.
        """
        slot = self._slots.get(token) or await self._find_slot(token, head)
        if slot is None:
            raise TransientError("the token sold cannot be lent for a trial")
        self._slots[token] = slot
        return slot

    async def run(self, offer: Offer, router: Address, spender: Address, head: Head) -> Tried:
        """Return what an offer brings at a head; raise `TransientError` when it breaks its promise."""
        where, key = await self.prepare(offer.lane.sold, head)
        me = self._contract.rjust(32, b"\0")
        look = self._call(offer.lane.bought, BALANCE_OF + me)
        left = self._call(offer.lane.sold, BALANCE_OF + me)
        approve = APPROVE + spender.rjust(32, b"\0") + offer.amount.to_bytes(32)
        calls = [
            look,
            self._call(offer.lane.sold, approve),
            self._call(router, offer.data),
            look,
            left,
        ]
        lent = {where: {"stateDiff": {key: f"0x{offer.amount:064x}"}}}
        results = await self._simulate(calls, lent, head)
        if len(results) != len(calls) or any(each.get("status") != "0x1" for each in results):
            raise TransientError("the call fails when it is tried")
        before, after, kept = (int(results[at]["returnData"], 16) for at in (0, 3, 4))
        if kept:
            raise TransientError("the call does not sell the whole amount")
        if after - before < offer.minimum:
            raise TransientError("the call brings less than the answer promises")
        return Tried(after - before, int(results[2]["gasUsed"], 16))

    async def _find_slot(self, token: Address, head: Head) -> tuple[str, str] | None:
        ask = self._call(token, BALANCE_OF + self._contract.rjust(32, b"\0"))
        try:
            told = await self._rpc.request("eth_createAccessList", [ask, to_hex(head.hash)])
        except RpcError:
            told = await self._rpc.request("eth_createAccessList", [ask, hex(head.number)])
        mark = 10**30 + 7
        for entry in told["accessList"]:
            for key in entry["storageKeys"]:
                lent = {entry["address"]: {"stateDiff": {key: f"0x{mark:064x}"}}}
                (result,) = await self._simulate([ask], lent, head)
                if result.get("status") == "0x1" and int(result["returnData"], 16) == mark:
                    return entry["address"], key
        return None

    async def _simulate(
        self, calls: Sequence[dict[str, str]], lent: dict[str, Any], head: Head
    ) -> list[dict[str, Any]]:
        request = {
            "blockStateCalls": [{"stateOverrides": lent, "calls": list(calls)}],
            "validation": False,
            "traceTransfers": False,
            "returnFullTransactions": False,
        }
        (block,) = await self._rpc.request("eth_simulateV1", [request, hex(head.number)])
        found: list[dict[str, Any]] = block["calls"]
        return found

    def _call(self, target: Address, data: bytes) -> dict[str, str]:
        sender, to = to_hex(self._contract), to_hex(target)
        return {"from": sender, "to": to, "input": to_hex(data), "gas": hex(GAS)}
