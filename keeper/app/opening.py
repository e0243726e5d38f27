"""Open every chain on its own: one that cannot be reached is tried again, and holds up no other."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Generic, TypeVar

import structlog

from keeper.errors import ConfigError, InvariantError, TransientError

log = structlog.get_logger(__name__)

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds the chains that are open wait for the others, whose first load may take an hour."""


class Opening(Generic[T]):
    """Open things by name side by side, each with what it holds open; to be closed by `close`.

    `open_one` may raise `TransientError` any number of times: it is called again after a pause that
    doubles. `reasons` says of each that is not open why.
    """

    def __init__(
        self,
        names: Iterable[str],
        open_one: Callable[[str, AsyncExitStack], Awaitable[T]],
        *,
        shortest_pause: float = 1.0,
        longest_pause: float = 60.0,
    ) -> None:
        self._open_one = open_one
        self._shortest_pause = shortest_pause
        self._longest_pause = longest_pause
        self._stacks: list[AsyncExitStack] = []
        self._tried = {name: asyncio.Event() for name in names}
        self.reasons = dict.fromkeys(self._tried, "its state is being loaded")
        self._tasks = {
            name: asyncio.create_task(self._open(name), name=f"{name}-opening")
            for name in self._tried
        }

    async def first_tries(self, patience: float = PATIENCE) -> None:
        """Wait until each is open or could not be reached once; raise what a later try cannot mend.

        What is wrong with some alone is left to whoever waits for them, as it is after the start:
        only the settings, the journal, and the failure of all are raised.
        """
        waits = [asyncio.create_task(event.wait()) for event in self._tried.values()]
        try:
            await asyncio.wait(waits, timeout=patience)
        finally:
            for wait in waits:
                wait.cancel()
        ended = [task.exception() for task in self._tasks.values() if task.done()]
        failed = [error for error in ended if error is not None]
        for error in failed:
            if _is_shared(error) or len(failed) == len(self._tasks):
                raise error

    async def opened(self, name: str) -> T:
        """Wait until one is open."""
        return await asyncio.shield(self._tasks[name])

    async def close(self) -> None:
        """Stop trying and close everything, the last opened first."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        while self._stacks:
            await self._stacks.pop().aclose()

    async def _open(self, name: str) -> T:
        pause = self._shortest_pause
        try:
            while True:
                try:
                    return await self._try(name)
                except TransientError as error:
                    self.reasons[name] = str(error)
                    self._tried[name].set()
                    log.warning(
                        "chain.unreachable",
                        chain=name,
                        error=str(error),
                        retry_seconds=round(pause, 1),
                    )
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, self._longest_pause)
        finally:
            self._tried[name].set()

    async def _try(self, name: str) -> T:
        async with AsyncExitStack() as stack:
            opened = await self._open_one(name, stack)
            self._stacks.append(stack.pop_all())
        del self.reasons[name]
        return opened


def _is_shared(error: BaseException) -> bool:
    """Tell whether an error is of what all chains stand on: the settings, or the record."""
    if isinstance(error, InvariantError):
        return error.scope == "journal"
    return isinstance(error, ConfigError)
