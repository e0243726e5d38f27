"""Follow a chain: every block folded once and in order, the latest head offered for decisions."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NoReturn, TypeVar

import structlog

from keeper.chain.assembler import Assembler
from keeper.chain.blocks import Blocks
from keeper.chain.heads import Announced, HeadFeed, HeadQueue
from keeper.chain.ranges import LogRanges
from keeper.errors import InvariantError, ReorgTooDeepError, TransientError
from keeper.ports import Follower, Rpc
from keeper.types import Head

log = structlog.get_logger(__name__)

T = TypeVar("T")

_UNEXPECTED = 20
"""Times the pause after a load that failed for want of an answer: what else fails is rarely brief."""


class Phase(StrEnum):
    """Whether decisions may rest on what was folded."""

    SYNCING = "syncing"
    LIVE = "live"
    RECONNECTING = "reconnecting"


class Count(StrEnum):
    """What the listener counts."""

    REORGS = "reorgs"
    RECONNECTS = "reconnects"
    BACKFILLED_BLOCKS = "backfilled_blocks"
    REBUILDS = "rebuilds"


@dataclass(frozen=True, slots=True)
class ListenerState:
    """Where the listener stands; `lag` is how many announced blocks are not folded yet."""

    phase: Phase
    head: Head | None
    lag: int


@dataclass(frozen=True, slots=True)
class Tick(Generic[T]):
    """A folded head to decide on, and what was read at it, or why that failed.

    `received_at` is the monotonic time at which the head's notification arrived.
    """

    head: Head
    prefetched: T | Exception
    received_at: float


class Listener(Generic[T]):
    """Drive a follower along the chain.

    `prefetch` reads what a decision needs at a head's hash; it runs beside the log request.
    `liveness` is how many seconds without a head are suspicious (a few block times): then the node
    is asked, and a chain that moved on unannounced means a dead connection, replaced by a new one.
    `recover` is given the reason why the follower cannot be brought to the chain, and has to leave
    it at a block that the chain holds; nothing is offered meanwhile, and whatever it raises but an
    `InvariantError` of the journal has it called again.
    `run` ends only by cancellation or an `InvariantError`.
    """

    def __init__(
        self,
        chain: str,
        rpc: Rpc,
        feed: HeadFeed,
        follower: Follower,
        prefetch: Callable[[Head], Awaitable[T]],
        *,
        recover: Callable[[str], Awaitable[None]] | None = None,
        liveness: float = 36.0,
        count: Callable[[Count, int], None] = lambda *_: None,
        shortest_pause: float = 0.2,
        longest_pause: float = 15.0,
        attempts: int = 5,
        trust_bloom: bool = True,
        memory: int = 1024,
    ) -> None:
        self._chain = chain
        self._feed = feed
        self._follower = follower
        self._prefetch = prefetch
        self._recover = recover
        self._liveness = liveness
        self._count = count
        self._shortest_pause = shortest_pause
        self._longest_pause = longest_pause
        self._attempts = attempts
        self._blocks = Blocks(rpc, trust_bloom=trust_bloom)
        self._assembler = Assembler(
            chain,
            self._blocks,
            LogRanges(rpc),
            follower,
            touched=self._withdraw,
            reorged=self._note_reorg,
            memory=memory,
        )
        self._phase = Phase.SYNCING
        self._announced = 0
        self._failures = 0
        self._ever_offered = False
        self._unproven = False
        self._tick: Tick[T] | None = None
        self._offered = asyncio.Event()

    @property
    def state(self) -> ListenerState:
        """Return phase, folded head and lag for the status page."""
        head = self._follower.head
        lag = 0 if head is None else max(self._announced - head.number, 0)
        return ListenerState(self._phase, head, lag)

    async def next(self) -> Tick[T]:
        """Wait for the latest folded head; one that was overtaken or undone is never returned.

        Awaited directly, it returns while the follower still stands at the tick's head.
        """
        while self._tick is None:
            self._offered.clear()
            await self._offered.wait()
        tick, self._tick = self._tick, None
        return tick

    async def catch_up(self, to: Head) -> None:
        """Fold every block up to a head without offering it; for recovery before `run`."""
        self._announced = max(self._announced, to.number)
        self._count_backfilled(await self._assembler.advance(to))

    async def run(self) -> None:
        """Follow the chain, on a new connection after every loss, until cancelled."""
        while True:
            pause = self._shortest_pause
            try:
                async with self._feed.open() as queue:
                    await self._follow(queue)
            except ReorgTooDeepError as error:
                await self._rebuild(error)
                continue
            except TransientError as error:
                self._phase = Phase.RECONNECTING
                pause = self._pause()
                log.warning(
                    "connection.lost",
                    chain=self._chain,
                    error=str(error),
                    retry_seconds=round(pause, 2),
                )
            await asyncio.sleep(pause)
            self._count(Count.RECONNECTS, 1)

    async def _follow(self, queue: HeadQueue) -> NoReturn:
        # Subscribed first, asked second: whatever was missed while away lies up to this head.
        latest = Announced(await self._blocks.latest(), time.monotonic())
        await self._settle([latest], announced=False)
        self._unproven = False
        if not self._ever_offered and latest.head.hash == self._assembler.head.hash:
            await self._offer(latest, self._prefetched(latest.head))
        self._phase = Phase.LIVE
        while True:
            try:
                async with asyncio.timeout(self._liveness):
                    batch = await queue.take()
            except TimeoutError:
                await self._probe(queue)
                continue
            await self._settle(batch, announced=True)
            self._failures = 0
            await asyncio.sleep(0)  # whoever waits for the tick sees it before the next fold

    async def _rebuild(self, error: ReorgTooDeepError) -> None:
        """Have the follower loaded anew, for as long as the node does not answer."""
        if self._recover is None:
            raise error
        self._phase = Phase.SYNCING
        self._withdraw()
        self._count(Count.REBUILDS, 1)
        if self._unproven:
            # The last load did not lead to the chain either: nodes may contradict each other.
            await asyncio.sleep(self._pause())
        while True:
            try:
                await self._recover(str(error))
            except TransientError as failed:
                await self._retry_rebuild(failed, self._pause())
            except Exception as failed:
                if isinstance(failed, InvariantError) and failed.scope == "journal":
                    raise
                await self._retry_rebuild(failed, _UNEXPECTED * self._pause())
            else:
                self._unproven = True
                self._ever_offered = False
                return

    async def _retry_rebuild(self, failed: Exception, pause: float) -> None:
        log.warning(
            "rebuild.retried",
            chain=self._chain,
            error=str(failed) or type(failed).__name__,
            retry_seconds=round(pause, 2),
        )
        await asyncio.sleep(pause)

    async def _probe(self, queue: HeadQueue) -> None:
        latest = await self._blocks.latest()
        if not queue and not self._assembler.holds(latest):
            silence = f"no head for {self._liveness:g} s"
            queue.end(TransientError(f"{silence} while the chain reached block {latest.number}"))

    async def _settle(self, batch: Sequence[Announced], *, announced: bool) -> None:
        """Fold up to the last head announced; when it is gone meanwhile, up to the latest one."""
        target = batch[-1]
        self._announced = target.head.number
        known = [each.head for each in batch]
        for attempt in range(1, self._attempts + 1):
            try:
                await self._step(target, known if announced else ())
                await self._step_over_late(batch)
            except TransientError as error:
                if attempt == self._attempts:
                    raise
                pause = self._pause()
                log.info("head.retried", chain=self._chain, error=str(error))
                await asyncio.sleep(pause)
                target = Announced(await self._blocks.latest(), time.monotonic())
                known = []
            else:
                return

    async def _step_over_late(self, batch: Sequence[Announced]) -> None:
        """Go on to heads that were announced early: before the one they stand on."""
        for each in sorted(batch, key=lambda announced: announced.head.number):
            if each.head.parent == self._assembler.head.hash:
                await self._step(each, ())

    async def _step(self, target: Announced, known: Sequence[Head]) -> None:
        """Fold up to a head while its prefetch runs, then offer it."""
        if self._assembler.holds(target.head):
            return
        prefetching = asyncio.ensure_future(self._prefetched(target.head))
        try:
            folded = await self._assembler.advance(target.head, known)
            self._count_backfilled(folded - max(len(known), 1) if known else folded)
            await self._offer(target, prefetching)
        finally:
            prefetching.cancel()
            await asyncio.gather(prefetching, return_exceptions=True)

    async def _offer(self, target: Announced, reading: Awaitable[T | Exception]) -> None:
        prefetched = await reading
        self._phase = Phase.LIVE
        self._tick = Tick(target.head, prefetched, target.received_at)
        self._ever_offered = True
        self._offered.set()

    async def _prefetched(self, head: Head) -> T | Exception:
        try:
            async with asyncio.timeout(self._liveness):
                return await self._prefetch(head)
        except TimeoutError:
            return TransientError(f"reads at block {head.number} took over {self._liveness:g} s")
        except Exception as error:  # noqa: BLE001 - handed to the consumer, who decides
            return error

    def _withdraw(self) -> None:
        self._tick = None

    def _note_reorg(self, depth: int) -> None:
        log.warning("chain.reorged", chain=self._chain, depth=depth)
        self._count(Count.REORGS, 1)

    def _count_backfilled(self, blocks: int) -> None:
        if blocks > 0:
            self._count(Count.BACKFILLED_BLOCKS, blocks)

    def _pause(self) -> float:
        """Return the next back-off: doubling, capped, jittered so that keepers do not align."""
        longest: float = min(self._shortest_pause * 2**self._failures, self._longest_pause)
        self._failures = min(self._failures + 1, 30)
        return longest * random.uniform(0.5, 1.0)
