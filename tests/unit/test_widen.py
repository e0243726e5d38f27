"""Venues are widened each on its own."""

import asyncio
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from keeper.book.widen import Widener
from keeper.errors import ConfigError, TransientError
from keeper.types import Head
from keeper.units import Address
from tests.plans import address, make_head

POOL = address("pool")


async def test_one_venue_that_cannot_be_widened_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = {"venue/a": [POOL], "venue/b": [POOL]}
    told: list[tuple[str, float | None]] = []
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


class Seeker:
    """A venue that looks for its pools in a place that is none."""

    tokens = frozenset[Address]()
    is_searching = True
    pools: ClassVar[dict[Address, object]] = {}

    def watch(self) -> None:
        """Name nothing."""

    bootstrap = snapshot = restore = fold = audit = beside = absorb = watch


@pytest.mark.parametrize("error", [ConfigError("no factory"), TransientError("away")], ids=repr)
async def test_a_search_that_cannot_succeed_is_given_up_and_said(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    told: list[float | None] = []
    done = asyncio.Event()

    async def widen(*_: object) -> Head:
        if len(told) < 3:
            raise error
        return make_head(1)

    async def sleep(_: float) -> None:
        """Go on at once."""

    def failed(_part: str, _error: Exception, pause: float | None) -> None:
        told.append(pause)
        if pause is None:
            done.set()

    monkeypatch.setattr("keeper.book.widen.widen", widen)
    monkeypatch.setattr("keeper.book.widen.missing", lambda _: [])
    parts = SimpleNamespace(is_folded=lambda _: True)
    book: Any = SimpleNamespace(sources={"venue/a": Seeker()}, parts=parts)
    nothing: Any = object()
    widener = Widener(book, nothing, nothing, lambda *_: done.set(), failed, sleep=sleep)
    running = asyncio.create_task(widener.run())
    widener.search()
    async with asyncio.timeout(10):
        await done.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    widener.look()
    for _ in range(50):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert told == [1.0, 2.0, None if isinstance(error, ConfigError) else 4.0]
    assert widener._unsearched == set()
