"""The listener and the reader on a node with the real contracts."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from keeper.chain.endpoint import Endpoint, connect
from keeper.chain.heads import PolledHeads, SocketHeads
from keeper.chain.listener import Listener, Tick
from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.devnet.calls import calldata
from keeper.errors import RpcError, StateGoneError
from keeper.types import Call, CallResult, Head, Watch
from keeper.units import Address, Hash
from tests.fake_chain import RecordingFollower

TRANSFER = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")

pytestmark = pytest.mark.chain

Aside = Callable[..., Awaitable[Any]]


def price_calls(net: Devnet) -> list[Call]:
    oracle = Address(net.market.oracle)
    return [
        Call(oracle, calldata("getAssetPrice(address)", [token.address]))
        for token in net.tokens.values()
    ]


def watch_of(net: Devnet) -> Watch:
    tokens = frozenset(Address(token.address) for token in net.tokens.values())
    return Watch(tokens, frozenset({TRANSFER}))


@contextlib.asynccontextmanager
async def following(
    net: Devnet, url: str, requests: Counter[str]
) -> AsyncIterator[tuple[Listener[list[CallResult]], RecordingFollower]]:
    """Follow the chain with every asset's price read at each head."""

    def observe(alias: str, method: str, result: str, seconds: float) -> None:
        requests[method] += 1

    async with connect(url, "devnet", observe) as rpc:
        reader = ChainReader(rpc, Address(net.multicall))
        follower = RecordingFollower(await reader.head(), watch_of(net))
        calls = price_calls(net)
        by_socket = url.startswith("ws")
        feed = (
            SocketHeads(url, "devnet") if by_socket else PolledHeads(rpc, "devnet", interval=0.01)
        )

        async def prices(head: Head) -> list[CallResult]:
            return await reader.multicall(calls, head.hash)

        listener = Listener("devnet", rpc, feed, follower, prices)
        task = asyncio.create_task(listener.run())
        try:
            async with asyncio.timeout(60):
                await listener.next()
                yield listener, follower
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def read(tick: Tick[list[CallResult]]) -> list[int]:
    assert not isinstance(tick.prefetched, Exception)
    assert all(result.ok for result in tick.prefetched)
    return [int.from_bytes(result.data, "big") for result in tick.prefetched]


async def test_a_quiet_head_costs_its_prices_and_a_busy_one_its_logs_too(
    net: Devnet, aside: Aside
) -> None:
    requests: Counter[str] = Counter()
    async with following(net, net.ws_url, requests) as (listener, follower):
        requests.clear()
        await aside(net.mine)
        quiet = await listener.next()
        assert requests == {"eth_call": 1}
        assert follower.blocks[-1][0] == quiet.head
        assert not follower.blocks[-1][1]
        requests.clear()
        await aside(net.give, "USDC", net.users[0].address, 10**6)
        busy = await listener.next()
        assert requests == {"eth_call": 1, "eth_getLogs": 1}
        assert [each.topics[0] for each in follower.blocks[-1][1]] == [TRANSFER]
        assert busy.head.number == quiet.head.number + 1
        print("requests per quiet head: 1, with watched logs: 2")


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_prices_are_those_of_the_head_itself(net: Devnet, aside: Aside, scheme: str) -> None:
    url = net.ws_url if scheme == "ws" else net.rpc_url
    async with following(net, url, Counter()) as (listener, _):
        for factor in (90, 80, 70):
            symbol = "WETH"
            price = net.price(symbol) * factor // 100
            await aside(net.set_price, symbol, price, move_pools=False)
            expected = list(net.prices().values())
            latest = int(net.rpc("eth_blockNumber"), 16)
            tick = await listener.next()
            while tick.head.number < latest:
                tick = await listener.next()
            assert read(tick) == expected


async def test_heads_are_parsed_as_the_node_means_them(net: Devnet) -> None:
    async with connect(net.rpc_url, "devnet") as rpc:
        reader = ChainReader(rpc)
        net.give("USDC", net.users[0].address, 1)
        parent = await reader.head()
        net.mine()
        head = await reader.head()
        assert head.parent == parent.hash
        assert head.timestamp == parent.timestamp + 12
        assert head.base_fee == parent.next_base_fee()
        assert await reader.head(parent.number) == parent
        assert len(head.bloom) == 256


async def test_reads_stand_at_the_block_they_name(net: Devnet) -> None:
    async with connect(net.ws_url, "devnet") as rpc:
        reader = ChainReader(rpc, Address(net.multicall))
        holder = net.users[0].address
        usdc = Address(net.tokens["USDC"].address)
        balance = Call(usdc, calldata("balanceOf(address)", [holder]))
        before = await reader.head()
        net.give("USDC", holder, 5_000_000)
        after = await reader.head()
        then, now = [
            int.from_bytes(await reader.call(balance, at.hash), "big") for at in (before, after)
        ]
        assert now == then + 5_000_000
        for at, expected in ((before, then), (after, now)):
            (result,) = await reader.multicall([balance], at.hash)
            assert (result.ok, int.from_bytes(result.data, "big")) == (True, expected)
        with pytest.raises(StateGoneError):
            await reader.call(balance, Hash(b"\x01" * 32))
        assert await reader.code(usdc, after.hash) == await reader.code(usdc)
        assert len(await reader.storage(usdc, 0, after.hash)) == 32


async def test_one_failing_read_does_not_spoil_the_others(net: Devnet) -> None:
    async with connect(net.rpc_url, "devnet") as rpc:
        reader = ChainReader(rpc, Address(net.multicall), calls_per_request=4)
        good = price_calls(net)
        bad = Call(Address(net.market.oracle), calldata("owner()"))
        results = await reader.multicall([*good, bad, *good])
        assert [result.ok for result in results] == [True] * len(good) + [False] + [True] * len(
            good
        )
        expected = list(net.prices().values())
        assert [int.from_bytes(r.data, "big") for r in results[: len(good)]] == expected
        with pytest.raises(RpcError):
            await reader.call(bad)


async def test_a_range_of_logs_equals_the_node_s_own(net: Devnet) -> None:
    async with connect(net.rpc_url, "devnet") as rpc:
        last = (await ChainReader(rpc).head()).number
        logs = await ChainReader(rpc).logs(watch_of(net), 0, last)
        raw = net.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": hex(last)})
        addresses = {"0x" + each.hex() for each in watch_of(net).addresses}
        ours = [
            (int(each["blockNumber"], 16), int(each["logIndex"], 16))
            for each in raw
            if each["address"] in addresses and each["topics"][0] == "0x" + TRANSFER.hex()
        ]
        assert [(each.block_number, each.index) for each in logs] == sorted(ours)
        assert ours


async def test_how_soon_a_head_becomes_a_tick(net: Devnet, aside: Aside) -> None:
    waits: list[float] = []
    async with following(net, net.ws_url, Counter()) as (listener, follower):
        for _ in range(30):
            await aside(net.give, "USDC", net.users[0].address, 1)
            tick = await listener.next()
            waits.append((time.monotonic() - tick.received_at) * 1000)
            assert follower.head == tick.head
    waits.sort()
    print(f"notification to tick: p50 {waits[15]:.1f} ms, p95 {waits[28]:.1f} ms")


def test_an_endpoint_shows_its_alias_alone(net: Devnet) -> None:
    endpoint: Endpoint = connect(net.rpc_url, "devnet")
    assert repr(endpoint) == "Endpoint(devnet)"
