"""Keep reads of the node's state apart from what makes and removes its blocks.

Anvil answers a call at its newest block, though asked for by its hash, from the state that it is
changing at that moment for the next one: measured, one such read of thirty told the next block's
values. A node's state by hash is that block's or an error; what anvil adds is proven false by
nothing in reach of the keeper, so the proxies hold such reads back while a block is being made.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from threading import Condition
from typing import Any

from keeper.devnet.rpc import Call, Rpc

READS = frozenset({"eth_call", "eth_getBalance", "eth_getCode", "eth_getStorageAt"})
_CHANGES = frozenset({"evm_mine", "anvil_reorg", "anvil_rollback"})
_LONGEST = 10.0
_PAUSE = 0.001


class Stillness:
    """Let any number of reads go on together, or one change; a change goes before later reads."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._reads = 0
        self._is_changing = False

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Wait until no read is under way and let none begin; for a thread beside the loop."""
        with self._condition:
            self._is_changing = True
            is_still = self._condition.wait_for(lambda: not self._reads, _LONGEST)
        try:
            assert is_still, f"{self._reads} reads of the node did not end in {_LONGEST:g} s"
            yield
        finally:
            self._is_changing = False

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Wait until no change is under way; for the event loop."""
        while not self._begin():  # noqa: ASYNC110 - it is another thread that ends it
            await asyncio.sleep(_PAUSE)
        try:
            yield
        finally:
            with self._condition:
                self._reads -= 1
                self._condition.notify_all()

    def _begin(self) -> bool:
        with self._condition:
            if self._is_changing:
                return False
            self._reads += 1
            return True


class StillRpc(Rpc):
    """Requests to the node of a play, those that change its blocks made while nothing is read."""

    def __init__(self, rpc: Rpc, stillness: Stillness) -> None:
        self._rpc = rpc
        self._stillness = stillness

    def __call__(self, method: str, *params: Any) -> Any:
        """Return the result of one request."""
        if method not in _CHANGES:
            return self._rpc(method, *params)
        with self._stillness.changing():
            return self._rpc(method, *params)

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Return the results in the order of `calls`, none of which changes a block."""
        return self._rpc.batch(calls)

    def close(self) -> None:
        """Close the connection."""
        self._rpc.close()
