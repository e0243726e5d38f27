"""Priority fees of recent blocks, read beside the line and never waited for."""

import asyncio
from collections.abc import Callable

from keeper.chain.parse import quantity
from keeper.errors import TransientError
from keeper.fees import FeeHistory, parse_rewards
from keeper.ports import Rpc
from keeper.types import Head
from keeper.units import Wei

BLOCKS = 20
PERCENTILES = (10, 25, 50, 75, 90)
EVERY = 10
"""Heads between two reads while nothing is bid on."""
OLDEST = 3 * EVERY
"""Heads after which a history tells nothing any more."""


class FeeHistories:
    """Keep the newest fee history; at most one read per head, and one at a time.

    `on_unread` is told of the first of several failures, and `latest` falls back to None in the end.
    """

    def __init__(self, rpc: Rpc, on_unread: Callable[[Exception], None]) -> None:
        self._rpc = rpc
        self._on_unread = on_unread
        self._held: FeeHistory | None = None
        self._asked = -EVERY
        self._base_fee = Wei(0)
        self._failing = False
        self._reading: asyncio.Task[None] | None = None

    def begin(self, head: Head, *, bidding: bool) -> None:
        """Start a read at a head if one is due: always while something is bid on.

        So it is while the base fee rises: others want in, and the first bid after a quiet time
        should know what they pay.
        """
        is_old = not 0 <= head.number - self._asked < EVERY
        is_due = bidding or is_old or 8 * head.base_fee > 9 * self._base_fee
        if not is_due or head.number == self._asked:
            return
        if self._reading is not None and not self._reading.done():
            return
        self._asked, self._base_fee = head.number, head.base_fee
        self._reading = asyncio.create_task(self._read(head), name="fee-history")

    def latest(self, head: Head) -> FeeHistory | None:
        """Return the newest history, None when it is too old or of a later block."""
        held = self._held
        if held is None or not 0 <= head.number - held.newest <= OLDEST:
            return None
        return held

    async def settled(self) -> None:
        """Wait for a read on its way: where nothing is racing."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def close(self) -> None:
        """Give up a read on its way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, head: Head) -> None:
        params = [hex(BLOCKS), hex(head.number), list(PERCENTILES)]
        try:
            answer = await self._rpc.request("eth_feeHistory", params)
            rewards = [[quantity(fee) for fee in row] for row in answer["reward"]]
            full = [ratio > 0 for ratio in answer["gasUsedRatio"]]
            rows = parse_rewards(PERCENTILES, rewards, full)
        except (TransientError, ValueError, TypeError, KeyError, AttributeError) as error:
            if not self._failing:
                self._failing = True
                self._on_unread(error)
            return
        self._failing = False
        self._held = FeeHistory(head.number, PERCENTILES, rows)
