"""After every fault the folds equal the canonical chain's blocks and logs: once, in order."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import pytest

from keeper.chain.endpoint import connect
from keeper.chain.heads import PolledHeads, SocketHeads
from keeper.chain.listener import Count, Listener, Phase
from keeper.types import Head
from keeper.units import Address
from tests.chaos.node import EMITTERS, WATCH, Node
from tests.chaos.proxy import FaultProxy
from tests.fake_chain import RecordingFollower

A, B, C, UNWATCHED = EMITTERS


class Run:
    """A listener behind the proxy, and what it recorded."""

    def __init__(
        self,
        node: Node,
        listener: Listener[None],
        follower: RecordingFollower,
        counts: dict[Count, int],
    ) -> None:
        self.node = node
        self.listener = listener
        self.follower = follower
        self.counts = counts
        self.start = follower.head

    async def exact(self, head: Head) -> None:
        await self.follower.reach(head)
        assert self.follower.blocks[1:] == await self.node.canonical(self.start)


async def nothing(head: Head) -> None:
    """Read nothing beside the logs."""


@contextlib.asynccontextmanager
async def following(
    node: Node, proxy: FaultProxy, *, polled: bool = False, liveness: float = 20.0
) -> AsyncIterator[Run]:
    """Follow through the proxy until live; when it ends, no task and no socket is left."""
    before = asyncio.all_tasks()
    start = await node.latest()
    url = proxy.http_url if polled else proxy.ws_url
    async with connect(url, "proxied", timeout=0.5, attempts=8) as rpc:
        feed = (
            PolledHeads(rpc, "proxied", interval=0.01)
            if polled
            else SocketHeads(url, "heads", open_timeout=0.5)
        )
        follower = RecordingFollower(start, WATCH)
        counts = dict.fromkeys(Count, 0)

        def count(what: Count, amount: int) -> None:
            counts[what] += amount

        listener = Listener(
            "chaos",
            rpc,
            feed,
            follower,
            nothing,
            liveness=liveness,
            count=count,
            shortest_pause=0.01,
            longest_pause=0.05,
        )
        run = Run(node, listener, follower, counts)
        task = asyncio.create_task(listener.run())
        try:
            async with asyncio.timeout(20):
                await listener.next()
                yield run
                await listener.next()
                await until(lambda: listener.state.phase is Phase.LIVE)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await proxy.until_connections(0)
    await no_task_beside(before)


async def until(condition: Callable[[], bool]) -> None:
    """Let the listener and the proxy go on until a condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - counters and phases raise no event
            await asyncio.sleep(0.002)


async def no_task_beside(before: set[asyncio.Task[object]]) -> None:
    """Wait for the proxy's own tasks to see the closed sockets, then find none of ours."""
    async with asyncio.timeout(5):
        while left := [t for t in asyncio.all_tasks() - before if "keeper/chain/" in repr(t)]:
            await asyncio.wait(left, timeout=0.05)


@pytest.mark.parametrize("fault", ["drop", "close_cleanly", "half_open"])
async def test_a_lost_connection(node: Node, proxy: FaultProxy, fault: str) -> None:
    liveness = 0.3 if fault == "half_open" else 20.0
    async with following(node, proxy, liveness=liveness) as run:
        await run.exact(await node.mine_many([[A], [], [B, UNWATCHED]]))
        if fault == "close_cleanly":
            await proxy.close_cleanly()
        else:
            getattr(proxy, fault)()
        await run.exact(await node.mine_many([[A, B], [], [UNWATCHED], [C]]))
        assert run.counts[Count.RECONNECTS] >= 1
        await run.exact(await node.mine(A))
    assert proxy.injected[fault.removesuffix("_cleanly")] >= 1


async def test_a_node_that_is_gone_for_a_while(node: Node, proxy: FaultProxy) -> None:
    async with following(node, proxy) as run:
        proxy.refusing = True
        proxy.drop()
        await proxy.until_connections(0)
        head = await node.mine_many([[A], [B], [], [C, A]])
        await until(lambda: proxy.injected["refuse"] >= 3)
        assert run.listener.state.phase is Phase.RECONNECTING
        proxy.refusing = False
        await run.exact(head)


async def test_a_silent_gap_is_seen_at_the_next_head(node: Node, proxy: FaultProxy) -> None:
    async with following(node, proxy) as run:
        proxy.lose_heads = 12
        await node.mine_many([[A], [], [B, C]] * 4)
        await until(lambda: proxy.lose_heads == 0)
        await run.exact(await node.mine(C))
        assert run.counts[Count.RECONNECTS] == 0
        assert run.counts[Count.BACKFILLED_BLOCKS] == 12


async def test_a_subscription_that_went_silent(node: Node, proxy: FaultProxy) -> None:
    async with following(node, proxy, liveness=0.3) as run:
        proxy.lose_heads = 2
        await run.exact(await node.mine_many([[A], [B]]))
        assert run.counts[Count.RECONNECTS] >= 1


@pytest.mark.parametrize("polled", [False, True])
async def test_a_reorg_of_five_blocks(node: Node, proxy: FaultProxy, polled: bool) -> None:
    async with following(node, proxy, polled=polled) as run:
        await run.exact(await node.mine_many([[A], [B], [C], [A, B], [], [A]]))
        await run.exact(await node.reorg(5, [[C], [], [A, UNWATCHED], [C, C], []]))
        assert run.follower.undos == 5
        assert run.counts[Count.REORGS] == 1
        await run.exact(await node.mine(A))


async def test_a_reorg_while_the_connection_is_lost(node: Node, proxy: FaultProxy) -> None:
    async with following(node, proxy) as run:
        await run.exact(await node.mine_many([[A], [B], [C], [A, B]]))
        proxy.refusing = True
        proxy.drop()
        await proxy.until_connections(0)
        await node.reorg(3, [[A], [], [C, C]])
        head = await node.mine_many([[A], []])
        proxy.refusing = False
        await run.exact(head)
        assert run.follower.undos == 3


async def test_a_node_that_finds_the_range_too_large(node: Node, proxy: FaultProxy) -> None:
    proxy.range_cap = 3
    async with following(node, proxy) as run:
        proxy.lose_heads = 80
        await node.mine_many([[A], [B, UNWATCHED]] * 40)
        await until(lambda: proxy.lose_heads == 0)
        await run.exact(await node.mine(C))
    assert proxy.injected["range_cap"] >= 1


async def test_errors_and_limits_are_outlasted(node: Node, proxy: FaultProxy) -> None:
    async with following(node, proxy) as run:
        proxy.errors["eth_getLogs"] = [
            {"code": -32000, "message": "unknown block"},
            {"code": 429, "message": "too many requests"},
            {"code": -32000, "message": "header not found"},
        ]
        proxy.errors["eth_getBlockByNumber"] = [{"code": -32603, "message": "internal error"}]
        await run.exact(await node.mine(A))
        await run.exact(await node.mine(B))
    assert proxy.injected["error"] >= 3


async def test_a_slow_node_loses_nothing(node: Node, proxy: FaultProxy) -> None:
    async with following(node, proxy) as run:
        proxy.delay = 0.02
        await run.exact(await node.mine_many([[A], [B], [], [C]] * 5))


async def test_polling_through_an_outage(node: Node, proxy: FaultProxy) -> None:
    async with following(node, proxy, polled=True) as run:
        await run.exact(await node.mine_many([[A], [B]]))
        proxy.refusing = True
        head = await node.mine_many([[A], [B], []])
        await until(lambda: proxy.injected["refuse"] >= 2)
        proxy.refusing = False
        await run.exact(head)


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm_of_faults(node: Node, proxy: FaultProxy, seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")

    def rows(count: int) -> list[list[Address]]:
        return [rng.choices(EMITTERS, k=rng.randrange(4)) for _ in range(count)]

    async with following(node, proxy, liveness=0.2) as run:
        head = await node.mine_many(rows(8))
        await run.exact(head)
        for _ in range(8):
            match rng.choice(["drop", "close", "half_open", "lose", "reorg", "error", "cap"]):
                case "drop":
                    proxy.drop()
                case "close":
                    await proxy.close_cleanly()
                case "half_open":
                    proxy.half_open()
                case "lose":
                    proxy.lose_heads += rng.randrange(1, 4)
                case "reorg":
                    depth = rng.randrange(1, 6)
                    await node.reorg(depth, rows(depth))
                case "error":
                    proxy.errors["eth_getLogs"] = [{"code": -32000, "message": "unknown block"}] * 2
                case _:
                    proxy.range_cap = rng.randrange(1, 20)
            head = await node.mine_many(rows(rng.randrange(1, 4)))
        await run.exact(head)
    print(f"injected {dict(proxy.injected)}, folds {run.follower.folds}")
