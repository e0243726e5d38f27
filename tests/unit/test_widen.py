"""Venues are widened each on its own."""

import asyncio
from typing import Any

import pytest

from keeper.book.widen import Widener
from keeper.errors import TransientError
from keeper.types import Head
from tests.plans import address, make_head

POOL = address("pool")


async def test_one_venue_that_cannot_be_widened_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = {"venue/a": [POOL], "venue/b": [POOL]}
    told: list[tuple[str, float]] = []
    rests, done = asyncio.Event(), asyncio.Event()

    async def widen(_: object, part: str, *rest: object) -> Head:
        if part == "venue/a":
            raise TransientError("away")
        del left[part]
        return make_head(1)

    async def sleep(_: float) -> None:
        if len(told) == 3:
            rests.set()
            await asyncio.Event().wait()

    monkeypatch.setattr("keeper.book.widen.widen", widen)
    monkeypatch.setattr("keeper.book.widen.missing", lambda _: list(left.items()))
    nothing: Any = object()
    widener = Widener(
        *(nothing, nothing, nothing),
        lambda part, _tokens, _head: done.set() if part == "venue/b" else None,
        lambda part, _error, pause: told.append((part, pause)),
        sleep=sleep,
    )
    monkeypatch.setattr(widener, "look", widener._due.set)
    running = asyncio.create_task(widener.run())
    widener.look()
    async with asyncio.timeout(10):
        await done.wait()
    left["venue/b"] = [POOL]
    done.clear()
    # a rests for long by now, and what is listed meanwhile is loaded for b
    async with asyncio.timeout(10):
        await rests.wait()
        widener.look()
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert told == [("venue/a", 1.0), ("venue/a", 2.0), ("venue/a", 4.0)]
