"""Bundles: a transaction and those that have to be before it, for each of the next blocks."""

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import NAMESPACE_URL, uuid5

from keeper.errors import RpcError, TransientError
from keeper.execution.relays.wire import RelayWire
from keeper.types import Signed
from keeper.units import Address, to_hex

Asked = asyncio.Future[TransientError | None]
"""A request on its way: None once it was taken."""

Line = tuple[Address, int]
"""A sender's nonce."""

APART = 0.005
"""Seconds by which bundles for later blocks follow: to every builder goes the next block's first."""


class Bundles:
    """Speak `eth_sendBundle` to one builder.

    A bundle holds for one block and replaces the one its last nonce had there before, by its
    `replacementUuid`. It is included whole or not at all, so one that would revert costs nothing.
    """

    def __init__(self, wire: RelayWire) -> None:
        self.name = wire.name
        self._wire = wire
        self._asking: dict[Line, set[Asked]] = {}

    async def send(self, signed: Signed, before: Sequence[Signed], first: int, last: int) -> None:
        """Submit for every block of a range; raise only when no block's bundle was taken.

        The answer for the first block is enough: the others are not waited for then.
        """
        await self._told(signed)
        txs = [to_hex(each.raw) for each in (*before, signed)]
        asked = [
            self._begin(
                signed,
                "eth_sendBundle",
                {
                    "txs": txs,
                    "blockNumber": hex(block),
                    "replacementUuid": replacement(signed, block),
                },
                0.0 if block == first else APART,
            )
            for block in range(first, last + 1)
        ]
        if await asyncio.shield(asked[0]) is not None:
            _raise_unless_one_was_taken(await asyncio.shield(asyncio.gather(*asked)))

    async def cancel(self, signed: Signed, first: int, last: int) -> None:
        """Ask for the bundles of these blocks to be forgotten; no builder promises it."""
        await self._told(signed)
        asked = [
            self._begin(signed, "eth_cancelBundle", {"replacementUuid": replacement(signed, block)})
            for block in range(first, last + 1)
        ]
        _raise_unless_one_was_taken(await asyncio.shield(asyncio.gather(*asked)))

    async def close(self) -> None:
        """Wait for no more answers and let go of the connections."""
        asking = [asked for line in self._asking.values() for asked in line]
        for asked in asking:
            asked.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._wire.close()

    def _begin(self, signed: Signed, method: str, wish: object, pause: float = 0.0) -> Asked:
        """Ask beside the work; whoever stops waiting does not break the request off."""
        line = signed.sender, signed.nonce
        asked = asyncio.ensure_future(self._ask(method, wish, pause))
        self._asking.setdefault(line, set()).add(asked)
        asked.add_done_callback(partial(self._answered, line))
        return asked

    def _answered(self, line: Line, asked: Asked) -> None:
        self._asking[line].discard(asked)
        if not self._asking[line]:
            del self._asking[line]

    async def _told(self, signed: Signed) -> None:
        """Wait for what was asked of this nonce: a request that overtakes it would be replaced by it."""
        asking = self._asking.get((signed.sender, signed.nonce))
        if asking:
            await asyncio.wait(asking)

    async def _ask(self, method: str, wish: object, pause: float) -> TransientError | None:
        if pause:
            await asyncio.sleep(pause)
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
