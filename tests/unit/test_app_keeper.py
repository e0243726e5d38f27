"""One process, several chains: what one does to the others."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from keeper.app import Keeper
from keeper.app.desk import Desk
from keeper.app.opening import Opening
from keeper.errors import ConfigError, InvariantError, TransientError
from keeper.observers.observation import Observation
from keeper.supervisor import supervise
from tests.unopened import unopened


async def forever() -> None:
    """Work until cancelled."""
    await asyncio.Event().wait()


def line(name: str, engine: Callable[[], Awaitable[None]] = forever, seconds: float = 0) -> Any:
    """Return a chain whose engine does as told and whose drain takes some time."""
    drained: list[str] = []

    async def drain(_: float) -> None:
        await asyncio.sleep(seconds)
        drained.append(name)
        over.set()

    async def take() -> None:
        kept.append(name)

    kept: list[str] = []
    over = asyncio.Event()
    return SimpleNamespace(
        name=name,
        listener=SimpleNamespace(run=forever, state=SimpleNamespace(phase="live")),
        engine=SimpleNamespace(run=engine),
        observation=Observation(lambda _: None, lambda _: None),
        executor=SimpleNamespace(drain=drain),
        upkeep=SimpleNamespace(run=forever),
        snapshots=SimpleNamespace(run=forever, take=take),
        treasury=None,
        margin=None,
        strategist=SimpleNamespace(enabled=()),
        status=SimpleNamespace(phase="", is_ready=True),
        drained=drained,
        kept=kept,
        over=over,
    )


def keeper(*lines: Any) -> Keeper:
    """Return a keeper of these chains."""
    settings: Any = SimpleNamespace(chains={each.name: None for each in lines})
    made = Keeper(settings, live=True)
    made._lag = SimpleNamespace(run=forever)  # type: ignore[assignment]
    made.dispatcher = SimpleNamespace(run=forever)  # type: ignore[assignment]
    made.lines.update({each.name: each for each in lines})
    made.desk = Desk(settings.chains, made.lines, unopened())
    return made


def failing(scope: str) -> Callable[[], Awaitable[None]]:
    """Return an engine that stops with a broken invariant."""

    async def run() -> None:
        raise InvariantError(scope, "drift")

    return run


async def test_a_chain_that_stops_is_drained_and_the_others_go_on() -> None:
    bad, good = line("bad", failing("bad")), line("good")
    made = keeper(bad, good)
    assert made.is_ready()
    running = asyncio.ensure_future(made.run())
    async with asyncio.timeout(5):
        await bad.over.wait()
    assert not running.done()
    assert not good.drained
    made.is_ready()
    assert (bad.status.phase, good.status.phase) == ("stopped", "live")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("scope", ["journal", "only"])
async def test_what_all_stand_on_and_the_last_chain_end_the_process(scope: str) -> None:
    lines = [line("only", failing(scope))] + ([line("other")] if scope == "journal" else [])
    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup):
            await keeper(*lines).run()


async def test_a_chain_that_cannot_be_opened_later_leaves_those_that_run() -> None:
    async def open_one(name: str, _: AsyncExitStack) -> Any:
        raise ConfigError("the node does not hold the logs of block 1 any more")

    good, bad = line("good"), line("bad")
    made = keeper(good, bad)
    del made.lines["bad"]
    made._opening = Opening(["bad"], open_one)
    running = asyncio.ensure_future(made.run())
    async with asyncio.timeout(5):
        while "bad" not in made._stopped:  # noqa: ASYNC110 - nothing to wait for but the state
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await made._opening.close()


async def test_readiness_waits_for_every_configured_chain() -> None:
    made = keeper(line("one"), line("two"))
    del made.lines["two"]
    assert not made.is_ready()
    made.lines.clear()
    assert not made.is_ready()


async def test_chains_drain_side_by_side() -> None:
    lines = [line(str(number), seconds=0.3) for number in range(5)]
    async with asyncio.timeout(1):
        await keeper(*lines).drain(1)
    assert all(each.drained for each in lines)


async def test_a_stopping_keeper_writes_every_sound_book_down() -> None:
    bad, good = line("bad", failing("bad")), line("good")
    made = keeper(bad, good)
    running = asyncio.ensure_future(made.run())
    async with asyncio.timeout(5):
        await bad.over.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await made.drain(1)
    assert (bad.kept, good.kept) == ([], ["good"])


async def test_a_book_that_cannot_be_written_down_does_not_fail_the_stop() -> None:
    async def take() -> None:
        raise InvariantError("journal", "disk full")

    only = line("only")
    only.snapshots.take = take
    await keeper(only).drain(1)
    assert only.drained == ["only"]


async def test_a_chain_that_is_not_open_is_shown_and_holds_up_no_other() -> None:
    here, late = line("here"), line("late")
    made = keeper(here, late)
    del made.lines["late"]
    reachable = asyncio.Event()

    async def open_one(name: str, _: AsyncExitStack) -> Any:
        if not reachable.is_set():
            raise TransientError("no endpoint answers")
        made.lines[name] = late
        return late

    here.status.as_json = lambda: {"state": "ok"}
    late.status.as_json = lambda: {"state": "ok"}
    made._opening = Opening(["late"], open_one, shortest_pause=0.001, longest_pause=0.001)
    await made._opening.first_tries()
    running = asyncio.ensure_future(made.run())
    await asyncio.sleep(0)
    assert not made.is_ready()
    assert made.status()["chains"]["late"] == {
        "state": "warn",
        "phase": "starting",
        "why": "no endpoint answers",
    }
    reachable.set()
    async with asyncio.timeout(5):
        await made._opening.opened("late")
    assert made.is_ready()
    assert made.status()["state"] == "ok"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await made._opening.close()


async def test_a_failing_drain_does_not_hide_why_the_work_ended() -> None:
    async def drain() -> None:
        raise OSError("the socket is gone")

    async def work() -> None:
        raise InvariantError("chain", "drift")

    with pytest.raises(InvariantError):
        await supervise(work, drain)
