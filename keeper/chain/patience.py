"""How long work that takes minutes bears with a node that gives no answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from keeper.chain.jsonrpc import LimitedError
from keeper.errors import RpcError, TransientError

_LONGEST_PAUSE = 30.0
_LONGEST_REST = 300.0
"""A quota of a day is asked about again now and then: another endpoint may be there by then."""


class Patience:
    """Pause after a fault, longer the longer nothing comes; give up after `seconds` of that.

    Shared by all requests of one piece of work: an answer to any of them renews it, and those that
    fail together pause together. A rate limit is waited out as the node asks.
    """

    def __init__(
        self,
        seconds: float = 180.0,
        *,
        shortest_pause: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._seconds = seconds
        self._shortest_pause = shortest_pause
        self._monotonic = monotonic
        self._sleep = sleep
        self._answered = monotonic()
        self._until = self._answered

    def renew(self) -> None:
        """Note an answer."""
        self._answered = self._monotonic()

    async def bear(self, error: TransientError) -> None:
        """Wait before the next try; raise the error when it is an answer, or the last of too many."""
        now = self._monotonic()
        silent = now - self._answered
        if isinstance(error, RpcError) or silent > self._seconds:
            raise error
        if now >= self._until:
            pause = min(max(silent / 2, self._shortest_pause), _LONGEST_PAUSE)
            if isinstance(error, LimitedError) and error.wait is not None:
                pause = min(max(error.wait, self._shortest_pause), _LONGEST_REST)
            self._until = now + pause
        await self._sleep(self._until - now)
