"""What fails while a chain is followed ends neither that chain nor another, and leaves no wrong state."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from keeper.chain.backfill import logs_by_block
from keeper.chain.blocks import Blocks
from keeper.chain.jsonrpc import LimitedError
from keeper.chain.listener import Listener, Phase
from keeper.chain.patience import Patience
from keeper.chain.prober import Prober
from keeper.chain.ranges import LogRanges
from keeper.chain.roster import Roster
from keeper.chain.survey import Survey
from keeper.errors import ConfigError, InvariantError, ReorgTooDeepError, RpcError
from keeper.types import Head, Watch
from tests.fake_chain import TOPIC, FakeChain, FakeFeed, RecordingFollower, address

WATCH = Watch(frozenset({address(1)}), frozenset({TOPIC}))


class Lost:
    """A listener whose follower stands on a block that the chain replaced, and what loads it anew."""

    def __init__(self) -> None:
        self.chain = FakeChain()
        self.feed = FakeFeed()
        start = [self.chain.mine() for _ in range(3)][-1]
        self.follower = RecordingFollower(start, WATCH)
        self.chain.roll_back(2)
        for _ in range(4):
            self.chain.mine(address(1))
        self.errors: list[Exception] = []
        self.loads: list[float] = []
        self.heals = True
        self.listener: Listener[None] = Listener(
            "fake",
            self.chain,
            self.feed,
            self.follower,
            self.prefetch,
            recover=self.recover,
            shortest_pause=0.02,
            longest_pause=0.04,
        )

    async def prefetch(self, _: Head) -> None:
        return None

    async def recover(self, _: str) -> None:
        self.loads.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        if self.heals:
            self.follower.blocks = [(self.chain.header(1), ())]


@pytest.mark.parametrize(
    "error",
    [
        InvariantError("m", "the totals do not add up"),
        ConfigError("the node does not hold the logs of block 1 any more"),
        ReorgTooDeepError("fake", "once more"),
        KeyError("a bug"),
    ],
)
async def test_a_load_that_fails_while_in_use_is_begun_again(error: Exception) -> None:
    lost = Lost()
    lost.errors = [error]
    task = asyncio.create_task(lost.listener.run())
    async with asyncio.timeout(5):
        tick = await lost.listener.next()
    assert tick.head == lost.chain.head
    assert len(lost.loads) == 2
    assert lost.listener.state.phase is Phase.LIVE
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_a_journal_nothing_is_loaded_again() -> None:
    lost = Lost()
    lost.errors = [InvariantError("journal", "disk full")]
    with pytest.raises(InvariantError, match="disk full"):
        await lost.listener.run()
    assert len(lost.loads) == 1


async def test_a_load_that_does_not_lead_to_the_chain_is_not_repeated_at_once() -> None:
    lost = Lost()
    lost.heals = False
    task = asyncio.create_task(lost.listener.run())
    async with asyncio.timeout(5):
        while len(lost.loads) < 5:  # noqa: ASYNC110 - the fake raises no event
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    pauses = [after - before for before, after in zip(lost.loads, lost.loads[1:], strict=False)]
    assert min(pauses) >= 0.01


async def test_a_range_that_one_node_dropped_is_asked_for_block_by_block() -> None:
    chain = FakeChain()
    heads = [chain.mine(address(1)) for _ in range(12)]

    def pruned(method: str, params: object) -> object:
        if method == "eth_getLogs" and "fromBlock" in str(params):
            raise RpcError(method, -32000, "history has been pruned for this block")
        return None

    chain.answering = pruned
    found = await logs_by_block(Blocks(chain), LogRanges(chain), heads, WATCH)
    assert [len(logs) for logs in found] == [1] * 12


async def test_a_provider_that_asks_for_a_day_is_asked_again_within_minutes() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    patience = Patience(monotonic=lambda: 0.0, sleep=sleep)
    await patience.bear(LimitedError("slow down", 86_400.0))
    assert 60 <= slept[0] <= 300


async def test_an_endpoint_that_breaks_a_look_is_looked_at_again() -> None:
    chain = FakeChain()
    looks = 0

    class Odd:
        async def request(self, method: str, params: Sequence[object]) -> object:
            nonlocal looks
            if method == "eth_chainId":
                return "0x1"
            looks += 1
            if looks == 1:
                raise OverflowError("a date out of range")
            return await chain.request(method, params)

    roster = Roster([("odd", Odd())], time.monotonic)
    prober = Prober(roster, Survey(1), time.monotonic)
    looking = asyncio.create_task(prober.run(0.01, 0.005))
    async with asyncio.timeout(5):
        while not roster.order():  # noqa: ASYNC110 - the fake raises no event
            await asyncio.sleep(0.005)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await prober.close()
