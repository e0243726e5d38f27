"""One feed of heads over several endpoints: the best WebSocket, the next after a loss."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Protocol

import structlog

from keeper.chain.heads import HeadFeed, HeadQueue
from keeper.errors import TransientError
from keeper.types import Head

log = structlog.get_logger(__name__)


class _ReplacedError(TransientError):
    """Report that polling ends for something better: nobody failed."""


class Standings(Protocol):
    """What the feed asks of the pool."""

    @property
    def preferred(self) -> str:
        """Return the alias of the endpoint that is read from, "" before the first read."""
        ...

    def order(self) -> list[str]:
        """Return the aliases of the usable endpoints, best first."""
        ...

    def prefer(self, alias: str) -> None:
        """Read from the endpoint that tells of the heads."""
        ...

    def told(self, alias: str, head: Head) -> None:
        """Take in that an endpoint announced a block."""
        ...

    def blame(self, alias: str) -> None:
        """Count a fault against an endpoint."""
        ...

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the endpoints holds."""
        ...

    def nobody(self) -> TransientError:
        """Return the error that says why no endpoint can be asked."""
        ...


class PooledHeads:
    """Open a subscription at one endpoint; end it when that endpoint is left out.

    The endpoint whose connection ended last is tried after the others. Without any WebSocket the
    latest head is polled, for `polling` seconds and then until a WebSocket endpoint is usable.
    What goes wrong while a connection holds is the fault of the endpoint that is read from: the
    pool takes any answer, and only the body of `open` finds out what is wrong with it.
    """

    def __init__(
        self,
        pool: Standings,
        sockets: Mapping[str, HeadFeed],
        polled: HeadFeed | None,
        *,
        polling: float = 60.0,
    ) -> None:
        self._pool = pool
        self._sockets = sockets
        self._polled = polled
        self._polling = polling
        self._lost = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[HeadQueue]:
        async with AsyncExitStack() as stack:
            alias, queue = await self._first(stack)
            watching = asyncio.create_task(self._end_in_time(alias, queue))
            try:
                yield queue
            except TransientError as error:
                self._lost = alias
                if not isinstance(error, _ReplacedError):
                    self._blame(alias if error is queue.error else "")
                raise
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _first(self, stack: AsyncExitStack) -> tuple[str, HeadQueue]:
        failure = self._pool.nobody()
        for alias in sorted(self._usable(), key=lambda each: each == self._lost):
            try:
                queue = await stack.enter_async_context(self._sockets[alias].open())
            except TransientError as error:
                self._pool.blame(alias)
                failure = error
                continue
            self._pool.prefer(alias)
            queue.heard = partial(self._pool.told, alias)
            return alias, queue
        if self._polled is None:
            raise failure
        return "", await stack.enter_async_context(self._polled.open())

    async def _end_in_time(self, alias: str, queue: HeadQueue) -> None:
        """End a subscription of an endpoint left out, and polling once it can be replaced."""
        if alias:
            await self._pool.until(lambda: alias not in self._pool.order())
            queue.end(TransientError(f"{alias}: left out"))
        elif self._sockets:
            await asyncio.sleep(self._polling)
            await self._pool.until(lambda: bool(self._usable()))
            queue.end(_ReplacedError("a WebSocket can be tried again"))

    def _blame(self, alias: str) -> None:
        if culprit := alias or self._pool.preferred:
            self._pool.blame(culprit)

    def _usable(self) -> list[str]:
        return [alias for alias in self._pool.order() if alias in self._sockets]
