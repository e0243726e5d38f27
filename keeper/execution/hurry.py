"""Ask a node within a bounded time: decisions wait for the answers."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from keeper.errors import TransientError
from keeper.ports import Rpc

T = TypeVar("T")


class Hurried:
    """Ask within one span of time for a whole round; after it nothing is answered."""

    def __init__(self, rpc: Rpc, seconds: float) -> None:
        self._rpc = rpc
        self._seconds = seconds
        self._until = 0.0

    def begin(self) -> None:
        """Start a round."""
        self._until = asyncio.get_running_loop().time() + self._seconds

    async def request(self, method: str, params: Sequence[object]) -> Any:
        """Return the result; raise `TransientError` when the round is over before it came."""
        return await self.hurry(self._rpc.request(method, params))

    async def hurry(self, work: Awaitable[T]) -> T:
        """Wait for something until the round is over."""
        try:
            async with asyncio.timeout_at(self._until):
                return await work
        except TimeoutError:
            raise TransientError(f"no answer within {self._seconds:g} s") from None
