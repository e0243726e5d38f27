"""A long row of calls at one block: a bounded number of multicalls in flight, results in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice

from keeper.chain.patience import Patience
from keeper.errors import StateGoneError, TransientError
from keeper.ports import Progress
from keeper.types import Call, CallResult

Ask = Callable[[Sequence[Call]], Awaitable[list[CallResult]]]


class Sweep:
    """Make calls in portions of `size`; at most `in_flight` portions are held at a time."""

    def __init__(
        self,
        progress: Progress,
        *,
        size: int,
        in_flight: int = 8,
        patience: Callable[[], Patience] = Patience,
    ) -> None:
        self._progress = progress
        self._size = size
        self._in_flight = in_flight
        self._patience = patience

    async def run(
        self,
        stage: str,
        ask: Ask,
        calls: Iterable[Call],
        total: int,
        take: Callable[[Sequence[CallResult]], None],
    ) -> None:
        """Hand over every result in the order of the calls."""
        row = iter(calls)
        patience = self._patience()
        running: deque[asyncio.Task[list[CallResult]]] = deque()
        done = 0
        try:
            while True:
                while len(running) < self._in_flight and (portion := list(islice(row, self._size))):
                    running.append(asyncio.create_task(_patiently(ask, portion, patience)))
                if not running:
                    return
                results = await running.popleft()
                take(results)
                done += len(results)
                self._progress.report(stage, "reads", done, total)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def _patiently(ask: Ask, portion: Sequence[Call], patience: Patience) -> list[CallResult]:
    while True:
        try:
            results = await ask(portion)
        except StateGoneError:
            raise
        except TransientError as error:
            await patience.bear(error)
        else:
            patience.renew()
            return results
