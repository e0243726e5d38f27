"""A look at the chain that is repeated beside the line, every so many heads."""

import asyncio
from collections.abc import Awaitable, Callable

from keeper.errors import TransientError

HEADS = 100
"""Heads between two looks."""


class Looking:
    """Repeat a look now and then, one at a time; `unread` is told why one came to nothing."""

    def __init__(
        self, look: Callable[[], Awaitable[None]], unread: Callable[[TransientError], None]
    ) -> None:
        self._look = look
        self._unread = unread
        self._left = HEADS
        self._task: asyncio.Task[None] | None = None

    def pass_head(self, *, now: bool = False) -> None:
        """Count a head; look when it is time to, or `now`."""
        self._left = 0 if now else self._left - 1
        if self._left <= 0 and (self._task is None or self._task.done()):
            self._left = HEADS
            self._task = asyncio.ensure_future(self._again())

    async def close(self) -> None:
        """End a look that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _again(self) -> None:
        try:
            await self._look()
        except TransientError as error:
            self._unread(error)
