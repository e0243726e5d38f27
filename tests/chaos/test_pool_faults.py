"""Two endpoints, one of them at fault: every block folded once and in order, reads go on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from keeper.chain.connect import connect_pool
from keeper.chain.listener import Count, Listener
from keeper.chain.pool import EndpointPool
from keeper.chain.survey import Standing
from keeper.errors import RpcError, TransientError
from tests.chaos.node import EMITTERS, WATCH, Node
from tests.chaos.proxy import FaultProxy
from tests.chaos.test_listener_faults import Run, no_task_beside, nothing, until
from tests.fake_chain import RecordingFollower

A, B, C, UNWATCHED = EMITTERS
ROWS = [[A], [], [B, UNWATCHED], [C, A], [B]]


class Pair:
    """A listener on a pool of two proxied endpoints; the first one is at fault."""

    def __init__(self, run: Run, pool: EndpointPool, bad: FaultProxy, good: FaultProxy) -> None:
        self.run = run
        self.pool = pool
        self.bad = bad
        self.good = good

    @property
    def standing(self) -> Standing:
        return self.pool.states()[0].standing

    def asked_first(self) -> FaultProxy:
        """Return the endpoint that reads go to."""
        preferred = next(state.alias for state in self.pool.states() if state.preferred)
        return self.bad if preferred == "bad" else self.good

    async def exact(self) -> None:
        """Make blocks, and find each folded once and in order."""
        await self.run.exact(await self.run.node.mine_many(ROWS))

    async def read(self) -> None:
        """Read the tip by its hash, as the line does, in a time a head would allow."""
        head = await self.run.node.latest()
        async with asyncio.timeout(3):
            params = ["0x" + head.hash.hex(), False]
            assert (await self.pool.request("eth_getBlockByHash", params)) is not None


@pytest.fixture
async def other(node_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(node_url) as between:
        yield between


@contextlib.asynccontextmanager
async def paired(
    node: Node,
    bad: FaultProxy,
    good: FaultProxy,
    *,
    http: bool = False,
    good_http: bool = False,
    probe_interval: float = 0.1,
) -> AsyncIterator[Pair]:
    """Follow through both until live; when it ends, no task and no socket is left."""
    before = asyncio.all_tasks()
    start = await node.latest()
    urls = (
        bad.http_url if http else bad.ws_url,
        good.http_url if http or good_http else good.ws_url,
    )
    chain_id = int(await node.endpoint.request("eth_chainId", []), 16)
    async with connect_pool(
        list(zip(urls, ("bad", "good"), strict=True)),
        chain_id,
        poll_interval=0.02,
        probe_interval=probe_interval,
        shortest_probe_interval=0.02,
        patience=0.3,
        longest_request=0.6,
        stagger=0.1,
        socket_retry=0.2,
    ) as (pool, heads):
        follower = RecordingFollower(start, WATCH)
        counts = dict.fromkeys(Count, 0)

        def count(what: Count, amount: int) -> None:
            counts[what] += amount

        listener = Listener(
            "chaos",
            pool,
            heads,
            follower,
            nothing,
            liveness=0.5,
            count=count,
            shortest_pause=0.01,
            longest_pause=0.05,
        )
        task = asyncio.create_task(listener.run())
        try:
            async with asyncio.timeout(30):
                await listener.next()
                yield Pair(Run(node, listener, follower, counts), pool, bad, good)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await bad.until_connections(0)
    await good.until_connections(0)
    await no_task_beside(before)


def strike(proxy: FaultProxy, fault: str) -> None:
    match fault:
        case "gone":
            proxy.refusing = True
            proxy.drop()
        case "silent":
            proxy.silent = True
        case "lag":
            proxy.lag = 3
        case "other_chain":
            proxy.chain_id = 1
        case "limit":
            proxy.limiting = True


def heal(proxy: FaultProxy) -> None:
    proxy.refusing = proxy.silent = proxy.limiting = False
    proxy.lag = 0
    proxy.chain_id = None


@pytest.mark.parametrize("http", [False, True])
@pytest.mark.parametrize(
    ("fault", "standing"),
    [
        ("gone", Standing.SILENT),
        ("silent", Standing.SILENT),
        ("lag", Standing.BEHIND),
        ("other_chain", Standing.OTHER_CHAIN),
    ],
)
async def test_one_endpoint_at_fault(
    node: Node, proxy: FaultProxy, other: FaultProxy, fault: str, standing: Standing, http: bool
) -> None:
    async with paired(node, proxy, other, http=http) as pair:
        await pair.exact()
        strike(proxy, fault)
        await pair.read()
        await pair.exact()
        await until(lambda: pair.standing is standing and sum(proxy.injected.values()) >= 1)
        await pair.read()
        await pair.exact()
        heal(proxy)
        await until(lambda: pair.standing is Standing.USABLE)
        strike(other, fault)
        await pair.read()
        await pair.exact()


@pytest.mark.parametrize("silent", [False, True])
async def test_the_only_socket_is_half_open_while_the_other_endpoint_answers_by_http(
    node: Node, proxy: FaultProxy, other: FaultProxy, silent: bool
) -> None:
    async with paired(node, proxy, other, good_http=True) as pair:
        await pair.exact()
        subscribed = proxy.requests["eth_subscribe"]
        assert subscribed >= 1
        proxy.half_open()
        # A node that hangs answers no new socket either; a lost path in between heals with one.
        proxy.silent = silent
        polled = other.received["eth_getBlockByNumber"]
        await pair.exact()
        await pair.read()
        assert proxy.injected["half_open"] >= 1
        assert pair.run.counts[Count.RECONNECTS] >= 1
        if silent:
            await until(lambda: pair.standing is Standing.SILENT)
            assert pair.asked_first() is other
            await pair.exact()
            assert proxy.requests["eth_subscribe"] == subscribed
            assert other.received["eth_getBlockByNumber"] > polled
            assert other.connections == 0
            proxy.heal()
            await until(lambda: proxy.requests["eth_subscribe"] > subscribed)
            await pair.exact()
        else:
            await until(lambda: proxy.requests["eth_subscribe"] > subscribed)
            await pair.exact()
            await until(lambda: pair.standing is Standing.USABLE)


async def test_an_endpoint_that_limits_the_rate(
    node: Node, proxy: FaultProxy, other: FaultProxy
) -> None:
    async with paired(node, proxy, other, http=True) as pair:
        limited = pair.asked_first()
        strike(limited, "limit")
        await pair.read()
        await pair.exact()
        await until(lambda: limited.injected["limit"] >= 1)
        await pair.read()


async def test_no_endpoint_for_a_while(node: Node, proxy: FaultProxy, other: FaultProxy) -> None:
    async with paired(node, proxy, other) as pair:
        await pair.exact()
        for each in (proxy, other):
            strike(each, "gone")
        await until(lambda: {s.standing for s in pair.pool.states()} == {Standing.SILENT})
        with pytest.raises(TransientError, match="no usable endpoint: bad gives no answer, good"):
            await pair.pool.request("eth_sendRawTransaction", ["0x02"])
        head = await node.mine_many(ROWS)
        for each in (proxy, other):
            heal(each)
        await pair.run.exact(head)


@pytest.mark.parametrize("fault", ["none", "gone", "silent", "refused"])
async def test_every_hand_over_reaches_one_endpoint(
    node: Node, proxy: FaultProxy, other: FaultProxy, fault: str
) -> None:
    method = "eth_sendRawTransaction"
    # Rare looks: a slow moment of the machine must not change who is asked.
    async with paired(node, proxy, other, http=True, probe_interval=60) as pair:
        first = pair.asked_first()
        second = other if first is proxy else proxy
        for position in range(4):
            before = first.received[method], second.received[method]
            if fault == "refused":
                for each in (first, second):
                    each.errors[method] = [{"code": -32000, "message": "nonce too low"}]
            elif fault != "none":
                strike(first, fault)
            # No transaction at all: the node refuses it, so nothing is left in its pool.
            with pytest.raises(TransientError) as raised:
                await pair.pool.request(method, ["0x02"])
            reached = first.received[method] - before[0], second.received[method] - before[1]
            is_answer = isinstance(raised.value, RpcError)
            if fault in {"none", "refused"}:
                assert is_answer
                assert sum(reached) == 1
            else:
                assert reached == ((0, 1) if position else (1, 0)), "the next call asks another"
                assert is_answer == bool(position)
