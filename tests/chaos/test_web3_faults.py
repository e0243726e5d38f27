"""The faults of web3 and of other bots, each provoked against our own stack, and some beside web3."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address

from keeper.chain import parse
from keeper.chain.endpoint import connect
from keeper.chain.heads import SocketHeads
from keeper.chain.listener import Count, Listener
from keeper.chain.multicall import encode_aggregate3
from keeper.chain.reader import ChainReader
from keeper.chain.words import answers
from keeper.errors import InvariantError, RpcError, TransientError
from keeper.types import Call, CallResult, Head, Log, Watch
from keeper.units import Hash
from tests.fake_chain import TOPIC, RecordingFollower, address
from tests.served_chain import ServedChain

A, B = address(1), address(2)
WATCH = Watch(frozenset({A, B}), frozenset({TOPIC}))
BLOCK = Hash(b"\x11" * 32)


class Followed:
    """A listener over real sockets, and what it counted."""

    def __init__(self, chain: ServedChain, follower: RecordingFollower) -> None:
        self.chain = chain
        self.follower = follower
        self.counts = dict.fromkeys(Count, 0)
        self.listener: Listener[None]
        self.task: asyncio.Task[None]

    def count(self, what: Count, number: int) -> None:
        self.counts[what] += number

    async def exact(self, head: Head) -> None:
        """Wait for a head; every block below it was folded once, with exactly its logs."""
        await self.follower.reach(head)
        assert self.follower.blocks[1:] == [
            (self.chain.header(number), tuple(self.chain.logs(number, WATCH)))
            for number in range(1, head.number + 1)
        ]
        assert self.follower.folds - self.follower.undos == head.number


async def nothing(head: Head) -> None:
    """Read nothing beside the logs."""


@contextlib.asynccontextmanager
async def following(
    follower: RecordingFollower | None = None, *, liveness: float = 20.0, limit: int = 1024
) -> AsyncIterator[Followed]:
    """Follow a served chain from its first block until the body ends."""
    chain = ServedChain()
    async with chain.served(), connect(chain.ws_url, "main", timeout=0.5, attempts=6) as rpc:
        run = Followed(chain, follower or RecordingFollower(chain.head, WATCH))
        if follower is not None:
            follower.blocks[0] = (chain.head, ())
        run.listener = Listener(
            "chain",
            rpc,
            SocketHeads(chain.ws_url, "main", limit=limit, open_timeout=0.5),
            run.follower,
            nothing,
            liveness=liveness,
            count=run.count,
            shortest_pause=0.01,
            longest_pause=0.05,
        )
        run.task = asyncio.create_task(run.listener.run())
        try:
            async with asyncio.timeout(20):
                await run.listener.next()
                yield run
        finally:
            run.task.cancel()
            await asyncio.gather(run.task, return_exceptions=True)


@pytest.mark.parametrize("fault", ["clean close", "abort", "half-open"])
async def test_a_dead_connection_is_noticed_and_subscribed_to_anew(fault: str) -> None:
    """Web3: a clean close returns silently, a half-open socket hangs, old subscriptions linger."""
    async with following(liveness=0.3 if fault == "half-open" else 20.0) as run:
        await run.exact(await run.chain.grow(A))
        match fault:
            case "clean close":
                await run.chain.close_cleanly()
            case "abort":
                run.chain.abort()
            case _:
                run.chain.half_open()
        run.chain.mine(A, B)
        missed = run.chain.mine(B)
        await run.exact(missed)
        assert run.chain.subscriptions >= 2
        assert run.counts[Count.RECONNECTS] >= 1
        # The new subscription is alive: this head is only announced.
        await run.exact(await run.chain.grow(A))


async def test_a_range_that_fails_is_asked_again_and_never_passed_over() -> None:
    """Other bots move their cursor although a range failed, and never come back."""
    async with following() as run:
        await run.exact(await run.chain.grow(A))
        failures = 3

        def answering(method: str, params: Sequence[Any]) -> object:
            nonlocal failures
            if method == "eth_getLogs" and failures:
                failures -= 1
                raise RpcError(method, -32603, "internal error")
            return None

        run.chain.answering = answering
        for _ in range(4):
            run.chain.mine(A)
        await run.exact(await run.chain.grow(B))
        assert failures == 0


async def test_duplicate_late_and_reordered_notifications_change_nothing() -> None:
    async with following() as run:
        rng = random.Random(11)
        for _ in range(10):
            heads = [run.chain.mine(*rng.choices([A, B], k=rng.randrange(3))) for _ in range(4)]
            shuffled = heads * 2
            rng.shuffle(shuffled)
            await run.chain.announce(*shuffled)
        await run.exact(run.chain.head)


async def test_what_a_reorg_removed_is_taken_back() -> None:
    """Other bots keep what a removed log told them, or miss what replaced it."""
    async with following() as run:
        for _ in range(3):
            await run.chain.grow(A)
        await run.exact(run.chain.head)
        run.chain.roll_back(2)
        for emitters in ((B,), (), (A, B)):
            run.chain.mine(*emitters)
        await run.chain.announce(run.chain.head)
        await run.exact(run.chain.head)
        assert run.follower.undos == 2
        assert run.counts[Count.REORGS] == 1


def test_a_log_marked_as_removed_is_never_applied() -> None:
    chain = ServedChain()
    chain.mine(A)
    entry = chain._known[chain._canonical[-1]][1][0]
    assert parse.log(entry | {"removed": False}).address == A
    with pytest.raises(TransientError, match="no longer on the chain"):
        parse.logs([entry | {"removed": True}])


class Faulty(RecordingFollower):
    """Fails to fold what it is told to."""

    def __init__(self, error: Exception) -> None:
        chain = ServedChain()
        super().__init__(chain.head, WATCH)
        self.error = error

    def fold(self, head: Head, logs: Sequence[Log]) -> None:
        if logs:
            raise self.error
        super().fold(head, logs)


@pytest.mark.parametrize("error", [InvariantError("main", "it does not add up"), ValueError("bug")])
async def test_an_exception_while_folding_ends_the_listener_aloud(error: Exception) -> None:
    """Web3's handlers log an exception and go on with the next notification."""
    follower = Faulty(error)
    async with following(follower) as run:
        run.chain.mine()
        await run.chain.grow(A)
        with pytest.raises(type(error), match=str(error)):
            await run.task


async def test_a_slow_consumer_starves_no_read_and_loses_no_block() -> None:
    """Web3: a full queue stops the reader, and every request on that socket times out."""
    async with following(limit=64) as run:
        heads = [run.chain.mine(A) for _ in range(300)]
        # All at once: the queue of 64 overflows before the loop lets the listener take any.
        await run.chain.announce(*heads)
        async with connect(run.chain.ws_url, "other", timeout=2, attempts=1) as rpc:
            await asyncio.gather(*(ChainReader(rpc).head() for _ in range(50)))
        await run.exact(run.chain.head)


async def test_messages_over_a_megabyte_are_read() -> None:
    """The websockets package closes the connection at 1 MiB unless told otherwise."""
    async with following() as run:
        size = 12_000
        head = await run.chain.grow(*[A, B] * (size // 2))
        assert len(orjson.dumps(run.chain._known[run.chain._canonical[-1]][1])) > 2**21
        await run.exact(head)
        assert run.counts[Count.RECONNECTS] == 0


@contextlib.asynccontextmanager
async def reversing(count: int) -> AsyncIterator[str]:
    """Collect that many messages, then answer them in reverse order, each with what it asked."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        asked: list[Any] = []
        async for message in socket:
            asked.append(orjson.loads(message.data))
            if len(asked) == count:
                for each in reversed(asked):
                    await socket.send_json(_echo(each))
                asked.clear()
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).replace("http", "ws")


def _echo(asked: Any) -> Any:
    if isinstance(asked, list):
        return [_echo(each) for each in asked]
    return {"jsonrpc": "2.0", "id": asked["id"], "result": asked["params"][-1]}


async def test_no_request_gets_anothers_answer() -> None:
    """Web3: more than 500 in flight give raw dicts; two batches at once swap their answers."""
    count = 1_500
    async with reversing(count) as url:
        async with connect(url, "main", in_flight=count) as endpoint:
            got = await asyncio.gather(*(endpoint.request("eth_call", [n]) for n in range(count)))
        assert got == list(range(count))


async def test_web3_swaps_the_answers_of_two_batches() -> None:
    """Kept to notice when it does no more: it is why no batch is sent over a socket here."""
    web3 = pytest.importorskip("web3")
    heights = {"a": ["0x1", "0x2"], "b": ["0x3", "0x4"]}
    async with reversing(2) as url, web3.AsyncWeb3(web3.WebSocketProvider(url)) as w3:

        async def batch(name: str) -> list[Any]:
            async with w3.batch_requests() as requests:
                for height in heights[name]:
                    requests.add(w3.eth.get_balance(to_checksum_address(A), height))
                return list(await requests.async_execute())

        got = list(await asyncio.gather(batch("a"), batch("b")))
    assert got == [[3, 4], [1, 2]]


async def test_web3_hands_out_raw_answers_when_many_are_in_flight() -> None:
    """Kept to notice when it does no more: past 500 it forgets what it asked."""
    web3 = pytest.importorskip("web3")
    count = 510
    async with reversing(count) as url:
        w3 = web3.AsyncWeb3(web3.WebSocketProvider(url), middleware=[])
        await w3.provider.connect()
        asked = (w3.eth.get_balance(to_checksum_address(A), hex(n)) for n in range(count))
        got = await asyncio.gather(*asked, return_exceptions=True)
        await w3.provider.disconnect()
    assert [each for each in got if each not in range(count)]


async def test_web3_asks_three_times_for_one_call() -> None:
    """Kept to notice when it does no more: it is why no middleware is on the hot path here."""
    web3 = pytest.importorskip("web3")
    chain = ServedChain()
    chain.answering = lambda method, params: "0x1"
    async with chain.served():
        w3 = web3.AsyncWeb3(web3.AsyncHTTPProvider(chain.url))
        await w3.eth.call({"to": to_checksum_address(A), "data": "0x01"})
        await w3.provider.disconnect()
    assert chain.received == {"eth_call": 1, "eth_chainId": 2}


async def test_web3_ends_without_a_word_when_the_node_closes_and_keeps_the_subscription() -> None:
    """Kept to notice when it does no more: it is why heads have a socket of their own here."""
    web3 = pytest.importorskip("web3")
    chain = ServedChain()
    async with chain.served(), web3.AsyncWeb3(web3.WebSocketProvider(chain.ws_url)) as w3:
        await w3.eth.subscribe("newHeads")
        following = asyncio.create_task(w3.subscription_manager.handle_subscriptions())
        await chain.close_cleanly()
        async with asyncio.timeout(5):
            await asyncio.wait([following])
        kept = len(w3.subscription_manager.subscriptions)
    assert (following.done(), following.exception(), kept) == (True, None, 1)


async def test_one_read_costs_one_request_at_a_hash() -> None:
    """Web3's middleware asks for the chain id twice beside each call; other bots read `latest`."""
    chain = ServedChain()
    head = chain.mine(A)
    chain.answering = lambda method, params: "0x" + "00" * 32 if method != "eth_getLogs" else None
    async with chain.served(), connect(chain.url, "main") as rpc:
        reader = ChainReader(rpc)
        await reader.call(Call(A, b"\x01"), head.hash)
        await reader.code(A, head.hash)
        await reader.storage(A, 0, head.hash)
    assert sum(chain.received.values()) == 3
    wanted = {"blockHash": "0x" + head.hash.hex()}
    assert [asked["params"][-1] for asked in chain.asked] == [wanted] * 3


async def test_no_signal_handler_is_installed() -> None:
    """`await AsyncWeb3(provider)` replaces those for SIGINT and SIGTERM."""
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with following() as run:
        await run.exact(await run.chain.grow(A))
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


async def test_web3_takes_the_signals_when_it_is_awaited() -> None:
    """Kept to notice when it does no more: only `async with` leaves a process its own."""
    web3 = pytest.importorskip("web3")
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(each) for each in numbers]
    chain = ServedChain()
    async with chain.served():
        w3 = await web3.AsyncWeb3(web3.WebSocketProvider(chain.ws_url))
        taken = [signal.getsignal(each) for each in numbers]
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        await w3.provider.disconnect()
    assert all(now is not then for now, then in zip(taken, before, strict=True))


async def test_a_body_the_node_finds_too_large_is_cut() -> None:
    """HTTP 413 is how proxies before a node refuse a large multicall."""
    calls = [Call(A, bytes([n % 250]) * 64) for n in range(300)]
    most = len(encode_aggregate3(calls[:90])) * 2
    sizes: list[int] = []

    async def serve(request: web.Request) -> web.Response:
        body = await request.read()
        asked = orjson.loads(body)
        sizes.append(len(body))
        if len(asked["params"][0]["data"]) > most:
            return web.Response(status=413, text="request entity too large")
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": _results(asked)})

    app = web.Application()
    app.router.add_post("/", serve)
    async with TestServer(app) as server, connect(str(server.make_url("/")), "main") as rpc:
        results = await ChainReader(rpc).multicall(calls, BLOCK)
    assert [each.data for each in results] == [call.data for call in calls]
    assert len(sizes) > 4


def _results(asked: dict[str, Any]) -> str:
    calls = decode(["(address,bool,bytes)[]"], bytes.fromhex(asked["params"][0]["data"][10:]))[0]
    return "0x" + encode(["(bool,bytes)[]"], [[(True, data) for _, _, data in calls]]).hex()


def test_one_failed_read_is_an_error_and_drops_nobody() -> None:
    """Other bots skip an account whose read failed, and never see it again."""
    good = CallResult(ok=True, data=bytes(32))
    for bad in (CallResult(ok=False, data=b""), CallResult(ok=True, data=b"")):
        with pytest.raises(TransientError, match="read 1 of holders was not answered"):
            answers([good, bad, good], "holders")
