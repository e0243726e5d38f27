"""Every block is folded once, in order, with exactly its logs; ticks are the latest head only."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from keeper.chain.heads import HeadQueue, PolledHeads
from keeper.chain.listener import Count, Listener, Phase
from keeper.errors import InvariantError, ReorgTooDeepError, RpcError, TransientError
from keeper.types import Head, Log, Watch
from keeper.units import Address
from tests.fake_chain import TOPIC, FakeChain, FakeFeed, RecordingFollower, address

WATCH = Watch(frozenset({address(1), address(2)}), frozenset({TOPIC}))


class Setup:
    """A chain, a feed, a follower at the chain's first block, and the listener between them."""

    def __init__(self, limit: int = 1024, liveness: float = 5.0) -> None:
        self.chain = FakeChain()
        self.feed = FakeFeed(limit)
        self.follower = RecordingFollower(self.chain.head, WATCH)
        self.counts = dict.fromkeys(Count, 0)
        self.prefetched: list[Head] = []
        self.prefetch_error: Exception | None = None
        self.prefetching = asyncio.Event()
        self.prefetching.set()
        self.listener = self.listener_for(self.chain, self.follower, liveness)

    def listener_for(
        self, chain: FakeChain, follower: RecordingFollower, liveness: float = 5.0
    ) -> Listener[str]:
        return Listener(
            "fake",
            chain,
            self.feed,
            follower,
            self.prefetch,
            liveness=liveness,
            count=self.count,
            shortest_pause=0.001,
            longest_pause=0.002,
        )

    async def prefetch(self, head: Head) -> str:
        self.prefetched.append(head)
        await self.prefetching.wait()
        if self.prefetch_error is not None:
            raise self.prefetch_error
        return f"prices at {head.number}"

    def count(self, what: Count, amount: int) -> None:
        self.counts[what] += amount

    def announce_new(self, *emitters: Address) -> Head:
        head = self.chain.mine(*emitters)
        self.feed.announce(head)
        return head

    def canonical(self) -> list[tuple[Head, tuple[Log, ...]]]:
        """Fold the chain the plain way: each block with what is watched once it is folded."""
        ideal = RecordingFollower(self.chain.header(0), WATCH)
        ideal.discoveries = self.follower.discoveries
        for number in range(1, self.chain.head.number + 1):
            head, watch = self.chain.header(number), ideal.watch()
            ideal.fold(head, self.chain.logs(number, watch))
            while ideal.watch() != watch:
                watch = ideal.watch()
                ideal.undo()
                ideal.fold(head, self.chain.logs(number, watch))
        return ideal.blocks

    def assert_exact(self) -> None:
        assert self.follower.blocks == self.canonical()


@contextlib.asynccontextmanager
async def running(setup: Setup) -> AsyncIterator[None]:
    """Run the listener; its first tick, for the head it starts at, is taken."""
    task = asyncio.create_task(setup.listener.run())
    try:
        async with asyncio.timeout(10):
            await setup.listener.next()
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Let the listener go on until a condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a counter of the fake raises no event
            await asyncio.sleep(0.002)


async def test_a_head_is_folded_with_its_logs_and_offered_with_its_prefetch() -> None:
    setup = Setup()
    async with running(setup):
        head = setup.announce_new(address(1), address(3), address(2))
        tick = await setup.listener.next()
        assert (tick.head, tick.prefetched) == (head, f"prices at {head.number}")
        assert setup.follower.head == tick.head
        assert [log.address for log in setup.follower.blocks[-1][1]] == [address(1), address(2)]
        assert setup.listener.state.phase is Phase.LIVE
        assert setup.listener.state.lag == 0
    setup.assert_exact()


async def test_a_quiet_head_costs_no_request_and_a_busy_one_costs_one() -> None:
    setup = Setup()
    async with running(setup):
        setup.chain.requests.clear()
        setup.announce_new()
        await setup.listener.next()
        setup.announce_new(address(9))
        await setup.listener.next()
        assert not setup.chain.requests
        setup.announce_new(address(1))
        await setup.listener.next()
        assert setup.chain.requests == {"eth_getLogs": 1}
    setup.assert_exact()


async def test_a_failed_prefetch_is_offered_as_its_error() -> None:
    setup = Setup()
    async with running(setup):
        setup.prefetch_error = TransientError("no prices")
        head = setup.announce_new(address(1))
        tick = await setup.listener.next()
        assert tick.head == head
        assert tick.prefetched is setup.prefetch_error
    setup.assert_exact()


async def test_decisions_skip_heads_and_folding_does_not() -> None:
    setup = Setup()
    async with running(setup):
        heads = [setup.chain.mine(address(1)) for _ in range(20)]
        setup.feed.announce(*heads)
        tick = await setup.listener.next()
        assert tick.head == heads[-1]
        assert setup.prefetched[-1] == heads[-1]
        assert len(setup.prefetched) == 2
    setup.assert_exact()
    assert setup.counts[Count.BACKFILLED_BLOCKS] == 0


async def test_a_tick_is_withdrawn_when_the_next_block_is_folded() -> None:
    setup = Setup()
    async with running(setup):
        first = setup.announce_new(address(1))
        await until(lambda: setup.listener._tick is not None)
        setup.prefetching.clear()
        second = setup.announce_new(address(1))
        await setup.follower.reach(second)
        waiting = asyncio.create_task(setup.listener.next())
        await asyncio.sleep(0)
        assert not waiting.done(), f"block {first.number} was offered after block {second.number}"
        setup.prefetching.set()
        assert (await waiting).head == second


async def test_blocks_nobody_announced_are_filled_in() -> None:
    setup = Setup()
    async with running(setup):
        for number in range(5):
            setup.chain.mine(*[address(1)] * (number % 3))
        head = setup.announce_new(address(2))
        assert (await setup.listener.next()).head == head
    setup.assert_exact()
    assert setup.counts[Count.BACKFILLED_BLOCKS] == 5


@pytest.mark.parametrize("cap", [None, 3])
async def test_a_gap_longer_than_the_window_is_filled_in_order(cap: int | None) -> None:
    setup = Setup()
    setup.chain.range_cap = cap
    async with running(setup):
        for number in range(300):
            setup.chain.mine(*[address(number % 4)] * (number % 3))
        setup.announce_new(address(2))
        await setup.listener.next()
    setup.assert_exact()


@pytest.mark.parametrize("known", [0, 15])
async def test_a_range_answer_that_misses_blocks_is_not_believed(known: int) -> None:
    setup = Setup()

    def lagging(method: str, params: Sequence[Any]) -> object:
        if method != "eth_getLogs" or "fromBlock" not in params[0]:
            return None
        return setup.chain._get_logs({**params[0], "toBlock": hex(known)})

    setup.chain.answering = lagging
    async with running(setup):
        for _ in range(30):
            setup.chain.mine(address(1))
        setup.announce_new()
        await setup.listener.next()
    setup.assert_exact()


@pytest.mark.parametrize("depth", [1, 5, 40])
@pytest.mark.parametrize("announce_all", [True, False])
async def test_a_reorg_is_undone_to_the_common_ancestor(depth: int, announce_all: bool) -> None:
    setup = Setup()
    async with running(setup):
        setup.feed.announce(*[setup.chain.mine(address(1)) for _ in range(50)])
        await setup.follower.reach(setup.chain.head)
        setup.chain.roll_back(depth)
        branch = [setup.chain.mine(*[address(2)] * (n % 3)) for n in range(depth + 1)]
        setup.feed.announce(*(branch if announce_all else branch[-1:]))
        await setup.follower.reach(branch[-1])
    setup.assert_exact()
    assert setup.follower.undos == depth
    assert setup.counts[Count.REORGS] == 1


async def test_a_reorg_to_a_lower_head_is_followed() -> None:
    setup = Setup()
    async with running(setup):
        setup.feed.announce(*[setup.chain.mine(address(1)) for _ in range(10)])
        await setup.follower.reach(setup.chain.head)
        setup.chain.roll_back(5)
        setup.announce_new(address(2))
        await setup.follower.reach(setup.chain.head)
    setup.assert_exact()


async def test_a_reorg_below_what_is_kept_has_the_follower_loaded_anew() -> None:
    setup = Setup()
    reasons: list[str] = []
    phases: list[Phase] = []

    async def recover(reason: str) -> None:
        reasons.append(reason)
        phases.append(setup.listener.state.phase)
        assert setup.listener._tick is None
        if len(reasons) < 3:
            raise TransientError("no endpoint answers")
        # what stands in the place of a snapshot: a block below the reorg
        setup.follower.blocks = [(setup.chain.header(1), ())]
        await setup.listener.catch_up(setup.chain.header(3))

    setup.listener._recover = recover
    start = [setup.chain.mine() for _ in range(6)][-1]
    setup.follower.blocks = [(start, ())]
    task = asyncio.create_task(setup.listener.run())
    await setup.listener.next()
    setup.chain.roll_back(4)
    for _ in range(8):
        setup.chain.mine(address(1))
    setup.feed.announce(setup.chain.head)
    async with asyncio.timeout(5):
        tick = await setup.listener.next()
    assert tick.head == setup.chain.head
    assert len(reasons) == 3
    assert "reorganised below block 6" in reasons[0]
    assert set(phases) == {Phase.SYNCING}
    assert setup.counts[Count.REBUILDS] == 1
    assert setup.listener.state.phase is Phase.LIVE
    assert setup.follower.blocks[1:] == setup.canonical()[2:]
    setup.feed.announce(setup.chain.mine(address(2)))
    async with asyncio.timeout(5):
        assert (await setup.listener.next()).head == setup.chain.head
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_reorg_below_what_is_kept_is_an_invariant_error() -> None:
    setup = Setup()
    start = [setup.chain.mine() for _ in range(3)][-1]
    setup.follower.blocks = [(start, ())]
    task = asyncio.create_task(setup.listener.run())
    await setup.listener.next()
    setup.chain.roll_back(2)
    for _ in range(4):
        setup.chain.mine()
    setup.feed.announce(setup.chain.head)
    with pytest.raises(InvariantError, match="reorganised below block 3"):
        await task


async def test_late_and_repeated_notifications_change_nothing() -> None:
    setup = Setup()
    async with running(setup):
        heads = [setup.chain.mine(address(1)) for _ in range(6)]
        setup.feed.announce(heads[0], heads[0], heads[2], heads[1], heads[5], heads[4], heads[5])
        await setup.follower.reach(heads[5])
        setup.feed.announce(heads[3])
        head = setup.announce_new(address(2))
        await setup.follower.reach(head)
    setup.assert_exact()
    assert (setup.follower.folds, setup.follower.undos) == (7, 0)


async def test_a_head_announced_before_its_parent_is_reached() -> None:
    setup = Setup()
    async with running(setup):
        parent, child = setup.chain.mine(address(1)), setup.chain.mine(address(2))
        setup.feed.announce(child, parent)
        await setup.follower.reach(child)
        assert setup.counts[Count.RECONNECTS] == 0
    setup.assert_exact()


async def test_a_contract_discovered_in_a_block_is_watched_from_that_block() -> None:
    setup = Setup()
    setup.follower.discoveries = {address(1): address(7), address(7): address(8)}
    async with running(setup):
        head = setup.announce_new(address(7), address(1), address(8))
        tick = await setup.listener.next()
        assert tick.head == head
        assert [log.address for log in setup.follower.blocks[-1][1]] == [
            address(7),
            address(1),
            address(8),
        ]
        # The same within a back-filled gap: what was fetched ahead is fetched again.
        setup.follower.discoveries[address(8)] = address(9)
        setup.chain.mine(address(8), address(9))
        setup.chain.mine(address(9))
        setup.announce_new(address(9), address(9))
        await setup.listener.next()
    setup.assert_exact()


async def test_a_dropped_connection_is_replaced_and_the_gap_filled() -> None:
    setup = Setup()
    async with running(setup):
        setup.announce_new(address(1))
        await setup.listener.next()
        setup.feed.refusals = 3
        setup.feed.drop()
        missed = [setup.chain.mine(address(1)) for _ in range(4)][-1]
        assert (await setup.listener.next()).head == missed
        assert setup.feed.opened == 2
        assert setup.counts[Count.RECONNECTS] == 4
        assert setup.counts[Count.BACKFILLED_BLOCKS] == 4
    setup.assert_exact()


async def test_a_silent_connection_is_replaced_only_when_the_chain_moved_on() -> None:
    setup = Setup(liveness=0.02)
    async with running(setup):
        await until(lambda: setup.chain.requests["eth_getBlockByNumber"] >= 4)
        assert setup.feed.opened == 1
        silent = setup.feed._queue
        assert silent is not None
        missed = setup.chain.mine(address(1))
        await setup.follower.reach(missed)
        assert setup.feed.opened == 2
        assert "no head for 0.02 s" in str(silent.error), "it ends: its endpoint is at fault"
    setup.assert_exact()


async def test_an_overflowing_queue_ends_the_connection_and_loses_nothing() -> None:
    setup = Setup(limit=3)
    async with running(setup):
        heads = [setup.chain.mine(address(1)) for _ in range(6)]
        with pytest.raises(TransientError, match="more than 3"):
            setup.feed.announce(*heads)
        await setup.follower.reach(heads[-1])
        assert setup.feed.opened == 2
    setup.assert_exact()


async def test_a_failed_log_request_is_asked_again_and_nothing_is_folded_twice() -> None:
    setup = Setup()
    failures = 3

    def failing(method: str, params: Sequence[Any]) -> object:
        nonlocal failures
        if method == "eth_getLogs" and failures:
            failures -= 1
            raise RpcError(method, -32000, "unknown block")
        return None

    setup.chain.answering = failing
    async with running(setup):
        head = setup.announce_new(address(1))
        assert (await setup.listener.next()).head == head
    setup.assert_exact()
    assert (failures, setup.follower.folds) == (0, 1)


async def test_logs_of_another_block_are_refused() -> None:
    setup = Setup()
    wrong = True

    def lying(method: str, params: Sequence[Any]) -> object:
        nonlocal wrong
        if method == "eth_getLogs" and wrong:
            wrong = False
            query = {**params[0], "blockHash": "0x" + setup.chain.header(1).hash.hex()}
            return setup.chain._get_logs(query)
        return None

    async with running(setup):
        setup.announce_new(address(1))
        await setup.listener.next()
        setup.chain.answering = lying
        setup.announce_new(address(1))
        await setup.listener.next()
    assert not wrong
    setup.assert_exact()


async def test_a_node_behind_the_start_is_waited_for() -> None:
    setup = Setup()
    head = [setup.chain.mine() for _ in range(5)][-1]
    setup.follower.blocks = [(head, ())]
    setup.chain.roll_back(3)
    task = asyncio.create_task(setup.listener.run())
    await until(lambda: setup.counts[Count.RECONNECTS] >= 2)
    assert setup.listener.state.phase is Phase.RECONNECTING
    assert setup.follower.head == head
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("told_once", [False, True])
async def test_another_block_at_the_height_of_the_start_is_a_deep_reorg(told_once: bool) -> None:
    setup = Setup()
    start = [setup.chain.mine() for _ in range(3)][-1]
    setup.follower.blocks = [(start, ())]
    setup.chain.roll_back(1)
    other = setup.chain.mine()
    assert other.number == start.number
    if told_once:  # one wrong header is no chain
        setup.chain.roll_back(1)
        setup.chain._canonical.append("0x" + start.hash.hex())
    with pytest.raises(TransientError if told_once else ReorgTooDeepError):
        await setup.listener.catch_up(other)
    assert setup.follower.head == start


async def test_following_without_a_start_is_an_invariant_error() -> None:
    class Unstarted(RecordingFollower):
        @property
        def head(self) -> Head | None:  # type: ignore[override]
            return None

    chain = FakeChain()
    follower = Unstarted(chain.head, WATCH)
    with pytest.raises(InvariantError, match="bootstrapped"):
        await Setup().listener_for(chain, follower).catch_up(chain.head)


async def test_catching_up_folds_without_offering() -> None:
    setup = Setup()
    for number in range(100):
        setup.chain.mine(*[address(1)] * (number % 2))
    await setup.listener.catch_up(setup.chain.head)
    setup.assert_exact()
    assert not setup.prefetched
    assert setup.counts[Count.BACKFILLED_BLOCKS] == 100


async def test_polling_sees_every_block() -> None:
    setup = Setup()
    feed = PolledHeads(setup.chain, "polled", interval=0.001)
    setup.listener = Listener(
        "fake", setup.chain, feed, setup.follower, setup.prefetch, shortest_pause=0.001
    )
    async with running(setup):
        for number in range(10):
            head = setup.chain.mine(*[address(1)] * (number % 3))
            if number % 3 == 0:
                await setup.follower.reach(head)
        await setup.follower.reach(setup.chain.head)
    setup.assert_exact()


async def test_the_queue_gives_what_came_before_its_end_first() -> None:
    chain = FakeChain()
    queue = HeadQueue(lambda head: head)
    queue.append(chain.head)
    queue.end(TransientError("closed"))
    assert [each.head for each in await queue.take()] == [chain.head]
    with pytest.raises(TransientError, match="closed"):
        await queue.take()
    with pytest.raises(TransientError, match="closed"):
        queue.append(chain.head)
