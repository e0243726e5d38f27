"""Bundles: a transaction and those that have to be before it, for each of the next blocks."""

import asyncio
from collections.abc import Sequence
from uuid import NAMESPACE_URL, uuid5

from keeper.errors import RpcError, TransientError
from keeper.execution.relays.wire import RelayWire
from keeper.types import Signed
from keeper.units import to_hex


class Bundles:
    """Speak `eth_sendBundle` to one builder.

    A bundle holds for one block and replaces the one its last nonce had there before, by its
    `replacementUuid`. It is included whole or not at all, so one that would revert costs nothing.
    """

    def __init__(self, wire: RelayWire) -> None:
        self.name = wire.name
        self._wire = wire

    async def send(self, signed: Signed, before: Sequence[Signed], first: int, last: int) -> None:
        """Submit for every block of a range; raise only when no block's bundle was taken."""
        txs = [to_hex(each.raw) for each in (*before, signed)]
        asked = [
            self._ask(
                "eth_sendBundle",
                {
                    "txs": txs,
                    "blockNumber": hex(block),
                    "replacementUuid": replacement(signed, block),
                },
            )
            for block in range(first, last + 1)
        ]
        _raise_unless_one_was_taken(await asyncio.gather(*asked))

    async def cancel(self, signed: Signed, first: int, last: int) -> None:
        """Ask for the bundles of these blocks to be forgotten; no builder promises it."""
        asked = [
            self._ask("eth_cancelBundle", {"replacementUuid": replacement(signed, block)})
            for block in range(first, last + 1)
        ]
        _raise_unless_one_was_taken(await asyncio.gather(*asked))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._wire.close()

    async def _ask(self, method: str, wish: object) -> TransientError | None:
        try:
            await self._wire.call(method, [wish])
        except TransientError as error:
            return error
        return None


def replacement(signed: Signed, block: int) -> str:
    """Return the UUID by which a later bundle of the same nonce for the same block replaces this one."""
    return str(uuid5(NAMESPACE_URL, f"{to_hex(signed.sender)}/{signed.nonce}/{block}"))


def _raise_unless_one_was_taken(failures: Sequence[TransientError | None]) -> None:
    """Raise when no request was taken; a missing answer first, for that one may have arrived."""
    if None in failures:
        return
    told = [error for error in failures if error is not None]
    for error in sorted(told, key=lambda each: isinstance(each, RpcError)):
        raise error
