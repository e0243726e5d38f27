"""A keeper and a local chain side by side, stepped block by block; nothing waits for the clock."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from keeper.app import Keeper
from keeper.app.line import Line
from keeper.config import Settings
from keeper.devnet import Devnet
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.observers.observation import Event

SETTLE_SECONDS = 30.0
"""Longest wait for the keeper to be done with a head, usually; it is a failure, not a delay."""

Answer = TypeVar("Answer")


class Stage:
    """Step the chain and wait until the keeper is done with the head."""

    def __init__(
        self,
        net: Devnet,
        keeper: Keeper,
        line: Line,
        working: asyncio.Task[None],
        patience: float = SETTLE_SECONDS,
    ) -> None:
        self.net = net
        self._patience = patience
        self.keeper = keeper
        self.line = line
        self._working = working
        self._changed = asyncio.Event()
        self._done = -1
        self.reports: deque[Report] = deque()
        self.events: deque[Event] = deque()
        line.observation.add(self._observe)

    async def step(self, act: Callable[[], Answer]) -> Answer:
        """Do something that makes blocks, then wait until the keeper is done with the last one."""
        answer = await asyncio.to_thread(act)
        await self.settle()
        return answer

    async def mine(self, blocks: int = 1) -> None:
        """Make blocks one by one, each settled."""
        for _ in range(blocks):
            await self.step(self.net.mine)

    async def settle(self) -> None:
        """Wait until the keeper has reported on the chain's latest head."""
        await self.reach(await asyncio.to_thread(self.net.chain.block_number))

    async def reach(self, latest: int) -> None:
        """Wait until the keeper has reported on a head of this height, asking nobody."""
        try:
            async with asyncio.timeout(self._patience):
                while self._done < latest:
                    self._changed.clear()
                    changing = asyncio.ensure_future(self._changed.wait())
                    await asyncio.wait(
                        {changing, self._working}, return_when=asyncio.FIRST_COMPLETED
                    )
                    changing.cancel()
                    if self._working.done():
                        self._working.result()
                        raise TransientError("the keeper stopped")
        except TimeoutError:
            raise TransientError(
                f"the keeper is at block {self._done}, the chain at {latest}"
            ) from None

    def _observe(self, subject: Report | Event) -> None:
        if isinstance(subject, Event):
            self.events.append(subject)
            return
        self.reports.append(subject)
        self._done = subject.view.head.number
        self._changed.set()


@asynccontextmanager
async def staged(
    net: Devnet, settings: Settings, *, live: bool, patience: float = SETTLE_SECONDS
) -> AsyncIterator[Stage]:
    """Run a keeper on a local chain for the length of the block, from its first settled head.

    `patience` is how many seconds a head may take.
    """
    async with Keeper(settings, live=live) as keeper:
        (line,) = keeper.lines.values()
        working = asyncio.create_task(keeper.run())
        try:
            stage = Stage(net, keeper, line, working, patience)
            await stage.settle()
            yield stage
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
