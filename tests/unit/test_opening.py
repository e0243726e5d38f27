"""Chains opened side by side: one that cannot be reached holds up no other."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from keeper.app.opening import Opening
from keeper.errors import ConfigError, InvariantError, TransientError

FAST = {"shortest_pause": 0.001, "longest_pause": 0.002}


class Doors:
    """Opens by name after as many failures as told; counts what is left open."""

    def __init__(self, **failures: int) -> None:
        self.failures = failures
        self.tries: Counter[str] = Counter()
        self.left_open: list[str] = []
        self.error: Exception = TransientError("no endpoint answers")

    async def open(self, name: str, stack: AsyncExitStack) -> str:
        self.left_open.append(name)
        stack.callback(self.left_open.remove, name)
        self.tries[name] += 1
        if self.tries[name] <= self.failures[name]:
            raise self.error
        return name.upper()


async def test_the_reachable_open_at_once_and_the_others_when_they_can() -> None:
    doors = Doors(near=0, far=3)
    opening = Opening(["near", "far"], doors.open, shortest_pause=0.05, longest_pause=0.05)
    async with asyncio.timeout(5):
        await opening.first_tries()
        assert opening.reasons == {"far": "no endpoint answers"}
        assert doors.left_open == ["near"]
        assert await opening.opened("near") == "NEAR"
        assert await opening.opened("far") == "FAR"
    assert doors.tries == {"near": 1, "far": 4}
    assert not opening.reasons
    await opening.close()
    assert doors.left_open == []


@pytest.mark.parametrize("error", [InvariantError("bad", "sums"), KeyError("symbol")])
async def test_what_is_wrong_with_one_chain_alone_holds_up_no_other(error: Exception) -> None:
    doors = Doors(good=0, bad=1)
    doors.error = error
    opening = Opening(["good", "bad"], doors.open, **FAST)
    async with asyncio.timeout(5):
        await opening.first_tries()
        assert await opening.opened("good") == "GOOD"
        with pytest.raises(type(error)):
            await opening.opened("bad")
    assert doors.left_open == ["good"]
    await opening.close()


async def test_without_a_chain_that_opens_there_is_nothing_to_run() -> None:
    doors = Doors(one=1, two=1)
    doors.error = InvariantError("x", "sums")
    opening = Opening(["one", "two"], doors.open, **FAST)
    async with asyncio.timeout(5):
        with pytest.raises(InvariantError):
            await opening.first_tries()
    await opening.close()


@pytest.mark.parametrize("error", [ConfigError("wrong"), InvariantError("journal", "disk full")])
async def test_what_no_later_try_mends_is_raised_and_nothing_stays_open(error: Exception) -> None:
    doors = Doors(good=0, bad=1)
    doors.error = error
    opening = Opening(["good", "bad"], doors.open, **FAST)
    async with asyncio.timeout(5):
        with pytest.raises(type(error)):
            await opening.first_tries()
    await opening.close()
    assert doors.left_open == []
    assert doors.tries["bad"] == 1


async def test_a_slow_one_is_not_waited_for_for_ever() -> None:
    async def open_one(name: str, _: AsyncExitStack) -> str:
        if name == "slow":
            await asyncio.Event().wait()
        return name

    opening = Opening(["slow", "quick"], open_one)
    async with asyncio.timeout(5):
        await opening.first_tries(patience=0.01)
        assert await opening.opened("quick") == "quick"
    assert opening.reasons == {"slow": "its state is being loaded"}
    await opening.close()


async def test_waiting_for_one_can_be_given_up_without_ending_it() -> None:
    doors = Doors(far=2)
    opening = Opening(["far"], doors.open, **FAST)
    waiting = asyncio.create_task(opening.opened("far"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(5):
        assert await opening.opened("far") == "FAR"
    await opening.close()
