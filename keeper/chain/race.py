"""Ask one after another until one tells: the next starts when the last passed, or took too long."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar


class Said(Protocol):
    """How one attempt ended: `is_final` ends the race, `is_answer` is worth something without it."""

    @property
    def is_final(self) -> bool: ...

    @property
    def is_answer(self) -> bool: ...


S = TypeVar("S", bound=Said)


async def race(
    starts: Sequence[Callable[[], Coroutine[Any, Any, S]]],
    stagger: float | None,
    opinion: float,
) -> list[S]:
    """Return how the attempts ended, in that order; only the last one may be final.

    After `stagger` seconds without an end the next attempt starts beside the running ones; None
    waits for the end. Once there is an answer, the others have `opinion` seconds to better it.
    Attempts still running at the end are cancelled.
    """
    waiting = deque(starts)
    running: set[asyncio.Task[S]] = set()
    said: list[S] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(waiting.popleft()()))
            answered = any(one.is_answer for one in said)
            patience = opinion if answered else stagger if waiting else None
            done, running = await asyncio.wait(
                running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                said.append(task.result())
                if said[-1].is_final:
                    return said
            if not done and answered and not waiting:
                return said
        return said
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
