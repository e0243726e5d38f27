"""Pauses of chains that are still loading: on disk at once, and in force when they are there."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

import structlog

from keeper.journal.breakers import BreakerChange
from keeper.ports import Clock
from keeper.risk import Risk
from keeper.risk.latches import PAUSED, Latches

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Record(Protocol):
    """What changes of breakers are written to."""

    async def breaker(self, change: BreakerChange) -> None:
        """Record one change; on disk when this returns."""
        ...


class Unopened:
    """Take what an operator says of chains that are not open, in order, and write it down.

    A chain that reads the journal after that finds it there; to one that read it before, it is told by
    `opened`. `told` reads how every breaker stands in the journal, `risk` gives an open chain's.
    """

    def __init__(
        self,
        journal: Record,
        told: Callable[[], Iterable[BreakerChange]],
        clock: Clock,
        risk: Callable[[str], Risk | None],
    ) -> None:
        self._journal = journal
        self._told = told
        self._clock = clock
        self._risk = risk
        self._changes: dict[str, list[BreakerChange]] = {}
        self._pauses: dict[str, BreakerChange] = {}
        self._records: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()

    def pause(self, chain: str, cause: str) -> None:
        """Hold a chain back; in force whatever the disk does, and on it after `flush`."""
        self.paused(chain, cause)
        change = self._pauses[chain]
        self._keep(change)
        self._begin(self._write(change))

    def paused(self, chain: str, cause: str) -> None:
        """Note a pause, of a chain that opened meanwhile too: no resume begun before it ends it."""
        self._pauses[chain] = BreakerChange(
            self._clock.time(), chain, PAUSED, True, f"by {cause}", cause
        )

    def resume(self, chain: str, cause: str) -> asyncio.Task[list[str]]:
        """Close what an operator may close; what was open is known once it is on disk."""
        return self._begin(self._resume(chain, cause, self._pauses.get(chain)))

    def opened(self, chain: str, risk: Risk) -> None:
        """Tell a chain that is there now what was said while it was loading."""
        risk.restore((), (), self._changes.pop(chain, ()))

    async def flush(self) -> None:
        """Return once everything said is on disk."""
        await asyncio.gather(*self._records)

    async def _resume(self, chain: str, cause: str, before: BreakerChange | None) -> list[str]:
        async with self._turn:
            changes: list[BreakerChange] = []
            latches = Latches(chain, None, changes.append)
            latches.restore(await asyncio.to_thread(self._told))
            latches.close(cause, self._clock.time())
            closed: list[str] = []
            for change in changes:
                await self._journal.breaker(change)
                since = self._pauses.get(chain)
                if change.name == PAUSED and since is not None and since is not before:
                    # it was paused again while this was written
                    await self._journal.breaker(since)
                else:
                    self._keep(change)
                    closed.append(change.name)
            return closed

    async def _write(self, change: BreakerChange) -> None:
        async with self._turn:
            await self._journal.breaker(change)

    def _keep(self, change: BreakerChange) -> None:
        fields = {"chain": change.chain, "breaker": change.name, "detail": change.detail}
        if change.is_open:
            log.error("breaker.opened", **fields, cause=change.cause)
        else:
            log.warning("breaker.closed", **fields, cause=change.cause)
        risk = self._risk(change.chain)
        if risk is None:
            self._changes.setdefault(change.chain, []).append(change)
        else:
            risk.restore((), (), [change])

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._records.add(task)
        task.add_done_callback(self._records.discard)
        return task
