"""Endpoints: errors mapped, reads repeated, sends never, nothing secret told."""

import asyncio
import contextlib
import gc
import socket as sockets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from keeper.chain import jsonrpc
from keeper.chain.endpoint import Endpoint, connect
from keeper.chain.heads import SocketHeads
from keeper.chain.jsonrpc import LimitedError
from keeper.chain.transport import SocketTransport, retry_after
from keeper.errors import ConfigError, RpcError, TransientError
from tests.lone_route import lone_route

SECRET = "s3cr3tKey0123456789"
Handle = Callable[[dict[str, Any]], Awaitable[web.Response]]


def answer(request: dict[str, Any], result: object) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "id": request["id"], "result": result})


@contextlib.asynccontextmanager
async def http_node(handle: Handle, **options: Any) -> AsyncIterator[tuple[Endpoint, list[str]]]:
    seen: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        return await handle(body)

    app = web.Application()
    app.router.add_post(f"/{SECRET}", serve)
    async with TestServer(app) as server:
        url = str(server.make_url(f"/{SECRET}"))
        observe = lambda alias, method, result, seconds: seen.append(f"{alias} {method} {result}")  # noqa: E731
        async with connect(url, "main", observe, **options) as endpoint:
            yield endpoint, seen


async def test_a_result_is_returned_and_observed() -> None:
    async def handle(request: dict[str, Any]) -> web.Response:
        return answer(request, request["params"])

    async with http_node(handle) as (endpoint, seen):
        assert await endpoint.request("eth_call", [{"to": "0x"}, "latest"]) == [
            {"to": "0x"},
            "latest",
        ]
        assert seen == ["main eth_call ok"]
        assert SECRET not in repr(endpoint)


async def test_an_error_answer_is_raised_at_once_with_its_revert_data() -> None:
    async def handle(request: dict[str, Any]) -> web.Response:
        error = {"code": 3, "message": "execution reverted", "data": "0x930bb771"}
        return web.json_response({"jsonrpc": "2.0", "id": request["id"], "error": error})

    async with http_node(handle) as (endpoint, seen):
        with pytest.raises(RpcError) as raised:
            await endpoint.request("eth_call", [])
        assert raised.value.data == bytes.fromhex("930bb771")
        assert seen == ["main eth_call error"]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_read_is_repeated_until_answered(status: int) -> None:
    asked = 0

    async def handle(request: dict[str, Any]) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=status) if asked < 3 else answer(request, "0x1")

    async with http_node(handle) as (endpoint, seen):
        assert await endpoint.request("eth_chainId", []) == "0x1"
        failed = "limited" if status == 429 else "failed"
        assert seen == [f"main eth_chainId {failed}"] * 2 + ["main eth_chainId ok"]


async def test_a_rate_limit_in_an_answer_is_waited_out_as_told() -> None:
    asked = 0

    async def handle(request: dict[str, Any]) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            return web.Response(status=429, headers={"Retry-After": "0"})
        if asked == 2:
            error = {"code": -32005, "message": "project rate limit exceeded"}
            return web.json_response({"jsonrpc": "2.0", "id": request["id"], "error": error})
        return answer(request, "0x1")

    async with http_node(handle) as (endpoint, seen):
        assert await endpoint.request("eth_chainId", []) == "0x1"
        assert seen[:2] == ["main eth_chainId limited"] * 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 0 "}, 0.0),
        (
            {
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
                "Retry-After": "Wed, 21 Oct 2026 07:29:30 GMT",
            },
            90.0,
        ),
        (
            {
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
                "Retry-After": "Wed, 21 Oct 2026 07:00:00 GMT",
            },
            0.0,
        ),
        ({"Retry-After": "Wed, 21 Oct 2020 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_the_wait_a_header_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


async def test_no_read_is_asked_before_the_time_the_node_names() -> None:
    async def one_second_is_waited(status: int, told: str) -> None:
        asked: list[float] = []

        async def handle(request: dict[str, Any]) -> web.Response:
            asked.append(time.monotonic())
            if len(asked) > 1:
                return answer(request, "0x1")
            date = "Wed, 21 Oct 2026 07:28:00 GMT"
            return web.Response(status=status, headers={"Retry-After": told, "Date": date})

        async with http_node(handle) as (endpoint, seen):
            first = asyncio.create_task(endpoint.request("eth_chainId", []))
            while not seen:  # noqa: ASYNC110 - an observation raises no event
                await asyncio.sleep(0.005)
            others = [endpoint.request("eth_call", [n]) for n in range(5)]
            assert await asyncio.gather(first, *others) == ["0x1"] * 6
        assert seen[0] == "main eth_chainId limited"
        assert min(asked[1:]) - asked[0] >= 0.95
        assert len(asked) == 7

    forms = ("1", "Wed, 21 Oct 2026 07:28:01 GMT")
    await asyncio.gather(
        *(one_second_is_waited(status, told) for status in (429, 503) for told in forms)
    )


async def test_a_send_does_not_wait_and_is_not_repeated_when_limited() -> None:
    asked: list[str] = []

    async def handle(request: dict[str, Any]) -> web.Response:
        asked.append(request["method"])
        return web.Response(status=429, headers={"Retry-After": "60"})

    async with http_node(handle, attempts=1) as (endpoint, _):
        with pytest.raises(TransientError, match="HTTP 429"):
            await endpoint.request("eth_chainId", [])
        with pytest.raises(TransientError, match="HTTP 429"):
            await endpoint.request("eth_sendRawTransaction", ["0x00"])
        with pytest.raises(TransientError, match=r"main: limits the rate for (59|60) s more"):
            await endpoint.request("eth_chainId", [])
    assert asked == ["eth_chainId", "eth_sendRawTransaction"]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        ({"code": -32005, "message": "project ID request rate exceeded"}, None),
        (
            {
                "code": -32005,
                "message": "daily request count exceeded, request rate limited",
                "data": {"rate": {"current_rps": 13.3, "backoff_seconds": 30}},
            },
            30.0,
        ),
        ({"code": -32005, "message": "limit exceeded"}, None),
        ({"code": -32007, "message": "50/second request limit reached"}, None),
        ({"code": 429, "message": "exceeded its compute units per second capacity"}, None),
        ({"code": -32000, "message": "Too many requests, try again in 10m0s"}, 600.0),
        ({"code": -32000, "message": "rate limit: retry after 250ms"}, 0.25),
        ({"code": -32000, "message": "Rate limited. Retry in 3 seconds"}, 3.0),
    ],
)
def test_a_rate_limit_inside_an_answer_is_one(error: dict[str, Any], seconds: float | None) -> None:
    with pytest.raises(LimitedError) as raised:
        jsonrpc.result("eth_call", {"id": 1, "error": error})
    assert raised.value.wait == seconds


@pytest.mark.parametrize(
    "message",
    ["query returned more than 10000 results", "block range is limited to 500", "limit exceeded"],
)
def test_a_range_limit_is_no_rate_limit(message: str) -> None:
    with pytest.raises(RpcError):
        jsonrpc.result("eth_getLogs", {"id": 1, "error": {"code": -32005, "message": message}})


async def test_a_rate_limit_over_a_websocket_rests_all_reads() -> None:
    asked: list[tuple[str, float]] = []

    async def talk(socket: web.WebSocketResponse, opened: int) -> None:
        async for message in socket:
            request = orjson.loads(message.data)
            asked.append((request["method"], time.monotonic()))
            reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
            if len(asked) == 1:
                data = {"rate": {"backoff_seconds": 0.5}}
                reply["error"] = {"code": -32005, "message": "rate exceeded", "data": data}
            else:
                reply["result"] = "0x1"
            await socket.send_json(reply)

    async with socket_node(talk) as url, connect(url, "main") as endpoint:
        assert await endpoint.request("eth_chainId", []) == "0x1"
        assert await endpoint.request("eth_sendRawTransaction", ["0x00"]) == "0x1"
    assert [method for method, _ in asked] == ["eth_chainId"] * 2 + ["eth_sendRawTransaction"]
    assert asked[1][1] - asked[0][1] >= 0.45


async def test_repeating_is_bounded() -> None:
    async def handle(request: dict[str, Any]) -> web.Response:
        return web.Response(status=503)

    async with http_node(handle, attempts=3) as (endpoint, seen):
        with pytest.raises(TransientError, match="main: HTTP 503"):
            await endpoint.request("eth_chainId", [])
        assert len(seen) == 3


@pytest.mark.parametrize("method", ["eth_sendRawTransaction", "eth_sendBundle"])
async def test_a_send_is_never_repeated(method: str) -> None:
    async def handle(request: dict[str, Any]) -> web.Response:
        return web.Response(status=503)

    async with http_node(handle) as (endpoint, seen):
        with pytest.raises(TransientError):
            await endpoint.request(method, ["0x00"])
        assert seen == [f"main {method} failed"]


async def test_no_answer_in_time_is_transient() -> None:
    release = asyncio.Event()

    async def handle(request: dict[str, Any]) -> web.Response:
        await release.wait()
        return answer(request, "0x1")

    async with http_node(handle, timeout=0.05, attempts=2) as (endpoint, seen):
        with pytest.raises(TransientError, match=r"main: no answer to eth_chainId in 0\.05 s"):
            await endpoint.request("eth_chainId", [])
        assert seen == ["main eth_chainId timeout"] * 2
        release.set()


async def test_a_refused_key_is_not_asked_again_and_not_told() -> None:
    async def handle(request: dict[str, Any]) -> web.Response:
        return web.Response(status=401, text=f"bad key {SECRET}")

    async with http_node(handle) as (endpoint, seen):
        with pytest.raises(RpcError, match="refused with HTTP 401") as raised:
            await endpoint.request("eth_chainId", [])
        assert SECRET not in str(raised.value)
        assert len(seen) == 1


async def test_a_key_the_node_quotes_is_not_told() -> None:
    async def handle(request: dict[str, Any]) -> web.Response:
        error = {"code": -32000, "message": f"key {SECRET} is not allowed to"}
        return web.json_response({"jsonrpc": "2.0", "id": request["id"], "error": error})

    async with http_node(handle) as (endpoint, _):
        with pytest.raises(RpcError, match=r"key \*\*\* is not allowed"):
            await endpoint.request("eth_chainId", [])


@pytest.mark.parametrize("text", ["", "<html>", "[1]", '{"jsonrpc":"2.0","id":1}'])
async def test_an_answer_that_is_no_answer_is_transient(text: str) -> None:
    async def handle(request: dict[str, Any]) -> web.Response:
        return web.Response(text=text)

    async with http_node(handle, attempts=1) as (endpoint, _):
        with pytest.raises(TransientError):
            await endpoint.request("eth_chainId", [])


async def test_no_more_than_the_cap_is_in_flight() -> None:
    now = most = 0

    async def handle(request: dict[str, Any]) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1
        return answer(request, "0x1")

    async with http_node(handle, in_flight=4) as (endpoint, _):
        await asyncio.gather(*(endpoint.request("eth_chainId", []) for _ in range(20)))
    assert most == 4


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_an_unreachable_node_is_named_by_alias_alone(
    scheme: str, unused_tcp_port: int
) -> None:
    url = f"{scheme}://127.0.0.1:{unused_tcp_port}/{SECRET}"
    async with connect(url, "main", attempts=2) as endpoint:
        with pytest.raises(TransientError, match="main: no") as raised:
            await endpoint.request("eth_chainId", [])
    assert SECRET not in str(raised.value)
    assert str(unused_tcp_port) not in str(raised.value)


@pytest.mark.parametrize("url", ["ftp://node", "node:8545", ""])
def test_an_unknown_scheme_is_the_operators_error(url: str) -> None:
    with pytest.raises(ConfigError, match="use http, https, ws or wss"):
        connect(url, "main")


Talk = Callable[[web.WebSocketResponse, int], Awaitable[None]]


@contextlib.asynccontextmanager
async def socket_node(talk: Talk) -> AsyncIterator[str]:
    """Serve WebSockets; `talk` is told which connection it is, from one."""
    opened = 0

    async def serve(request: web.Request) -> web.WebSocketResponse:
        nonlocal opened
        opened += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await talk(socket, opened)
        return socket

    async with lone_route(serve) as url:
        yield url


async def test_answers_reach_their_requests_in_any_order() -> None:
    async def talk(socket: web.WebSocketResponse, opened: int) -> None:
        requests = [orjson.loads(await socket.receive_str()) for _ in range(600)]
        for request in reversed(requests):
            result = request["params"][0]
            await socket.send_json({"jsonrpc": "2.0", "id": request["id"], "result": result})
        await socket.receive()

    async with socket_node(talk) as url, connect(url, "main", in_flight=600) as endpoint:
        answers = await asyncio.gather(*(endpoint.request("eth_call", [n]) for n in range(600)))
    assert answers == list(range(600))


@pytest.mark.parametrize("clean", [True, False])
async def test_a_lost_socket_is_replaced_and_reads_are_asked_again(clean: bool) -> None:
    async def talk(socket: web.WebSocketResponse, opened: int) -> None:
        request = orjson.loads(await socket.receive_str())
        if opened == 1 and not clean:
            assert socket._req is not None
            assert socket._req.transport is not None
            socket._req.transport.abort()
        elif opened > 1:
            await socket.send_json({"jsonrpc": "2.0", "id": request["id"], "result": opened})
            await socket.receive()

    async with socket_node(talk) as url, connect(url, "main") as endpoint:
        assert await endpoint.request("eth_chainId", []) == 2


async def test_a_send_whose_socket_is_lost_is_not_repeated() -> None:
    connections = []

    async def talk(socket: web.WebSocketResponse, opened: int) -> None:
        connections.append(orjson.loads(await socket.receive_str())["method"])

    async with socket_node(talk) as url, connect(url, "main") as endpoint:
        with pytest.raises(TransientError, match="the socket was closed"):
            await endpoint.request("eth_sendRawTransaction", ["0x00"])
    assert connections == ["eth_sendRawTransaction"]


async def test_a_socket_over_which_nothing_comes_is_replaced() -> None:
    async def talk(socket: web.WebSocketResponse, opened: int) -> None:
        request = orjson.loads(await socket.receive_str())
        if opened > 1:
            await socket.send_json({"jsonrpc": "2.0", "id": request["id"], "result": opened})
        await socket.receive()

    async with socket_node(talk) as url, connect(url, "main", timeout=0.2) as endpoint:
        assert await endpoint.request("eth_chainId", []) == 2


async def test_a_node_without_subscriptions_says_so() -> None:
    async def talk(socket: web.WebSocketResponse, opened: int) -> None:
        request = orjson.loads(await socket.receive_str())
        error = {"code": -32601, "message": "Method not found"}
        await socket.send_json({"jsonrpc": "2.0", "id": request["id"], "error": error})
        await socket.receive()

    async with socket_node(talk) as url:
        with pytest.raises(RpcError, match="eth_subscribe: Method not found"):
            async with SocketHeads(url, "main").open():
                pass


async def test_no_session_outlives_its_endpoint() -> None:
    async def handle(request: dict[str, Any]) -> web.Response:
        return answer(request, "0x1")

    async with http_node(handle) as (endpoint, _):
        await endpoint.request("eth_chainId", [])
    before = {task for task in asyncio.all_tasks() if not task.done()}
    assert before == {asyncio.current_task()}


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.ClientSession]:
    """Keep every session that is made: those of an endpoint are to be closed with it."""
    made: list[aiohttp.ClientSession] = []
    make = aiohttp.ClientSession

    def kept(*args: Any, **options: Any) -> aiohttp.ClientSession:
        made.append(make(*args, **options))
        return made[-1]

    monkeypatch.setattr(aiohttp, "ClientSession", kept)
    return made


def read_nothing_more(request: web.BaseRequest | None) -> None:
    """Leave what comes unread in a small buffer: the client's own buffers fill and stay full."""
    assert request is not None
    transport = request.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    transport.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)


def abort(request: web.BaseRequest | None) -> None:
    assert request is not None
    assert request.transport is not None
    request.transport.abort()


LARGE = "00" * 2**23
"""More than the kernel's buffers take."""


async def test_a_node_that_reads_no_more_holds_no_request() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    ended = asyncio.Event()

    async def talk(socket: web.WebSocketResponse, opened: int) -> None:
        if opened == 1:
            read_nothing_more(socket._req)
            await ended.wait()
            abort(socket._req)
            return
        request = orjson.loads(await socket.receive_str())
        await socket.send_json({"jsonrpc": "2.0", "id": request["id"], "result": opened})
        await socket.receive()

    async with (
        socket_node(talk) as url,
        connect(url, "main", timeout=0.3, attempts=1) as endpoint,
    ):
        try:
            async with asyncio.timeout(5):
                with pytest.raises(TransientError, match="main: no answer to eth_call in"):
                    await endpoint.request("eth_call", [LARGE])
            assert await endpoint.request("eth_chainId", []) == 2
        finally:
            ended.set()
    gc.collect()
    assert complaints == []


@pytest.mark.filterwarnings("ignore:Sending a large body directly")
@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_node_that_reads_no_more_holds_no_end(
    scheme: str, sessions: list[aiohttp.ClientSession]
) -> None:
    deaf, ended = asyncio.Event(), asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = web.Response()
        if scheme == "ws":
            response = web.WebSocketResponse()
            await response.prepare(request)
        read_nothing_more(request)
        deaf.set()
        await ended.wait()
        abort(request)
        return response

    async with lone_route(serve, scheme) as url:
        endpoint = connect(url, "main", timeout=30)
        asking = asyncio.create_task(endpoint.request("eth_sendBundle", [LARGE]))
        try:
            await deaf.wait()
            async with asyncio.timeout(5):
                await endpoint.close()
                with pytest.raises(TransientError):
                    await asking
        finally:
            ended.set()
            asking.cancel()
        assert [session.closed for session in sessions] == [True]


@pytest.mark.parametrize("is_over", [True, False])
async def test_whoever_asks_after_or_during_the_end_opens_nothing(
    sessions: list[aiohttp.ClientSession], is_over: bool
) -> None:
    async def handle(request: dict[str, Any]) -> web.Response:
        return answer(request, "0x1")

    async with http_node(handle, attempts=1) as (endpoint, _):
        await endpoint.request("eth_chainId", [])
        closing = asyncio.create_task(endpoint.close())
        await asyncio.sleep(0)
        assert not closing.done()
        if is_over:
            await closing
        with pytest.raises(TransientError, match="main: was closed"):
            await endpoint.request("eth_chainId", [])
        await closing
    assert [session.closed for session in sessions] == [True]


async def test_a_socket_that_is_being_opened_does_not_outlive_its_endpoint(
    sessions: list[aiohttp.ClientSession],
) -> None:
    asked, admitted = asyncio.Event(), asyncio.Event()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        asked.set()
        await admitted.wait()
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket

    async with lone_route(serve) as url:
        endpoint = connect(url, "main", timeout=30)
        asking = asyncio.create_task(endpoint.request("eth_sendBundle", []))
        await asked.wait()
        await endpoint.close()
        assert [session.closed for session in sessions] == [True]
        admitted.set()
        with pytest.raises(TransientError, match="main: was closed"):
            await asking


async def test_an_endpoint_waits_for_what_a_lost_socket_leaves_to_do(
    sessions: list[aiohttp.ClientSession],
) -> None:
    async def talk(socket: web.WebSocketResponse, opened: int) -> None:
        await socket.receive()
        abort(socket._req)

    async with socket_node(talk) as url:
        before = asyncio.all_tasks()
        async with connect(url, "main", attempts=1) as endpoint:
            with pytest.raises(TransientError, match="the socket was closed"):
                await endpoint.request("eth_chainId", [])
        assert [t for t in asyncio.all_tasks() - before if "keeper/chain/" in repr(t)] == []
    assert [session.closed for session in sessions] == [True]


async def test_who_is_cancelled_while_a_dead_socket_is_dropped_leaves_none_open(
    sessions: list[aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def talk(socket: web.WebSocketResponse, opened: int) -> None:
        await socket.receive()
        await ended.wait()

    forget = SocketTransport._forget

    def cancelled(transport: SocketTransport, *arguments: Any) -> None:
        asking.cancel()
        forget(transport, *arguments)

    monkeypatch.setattr(SocketTransport, "_forget", cancelled)
    async with (
        socket_node(talk) as url,
        connect(url, "main", timeout=0.1, attempts=1) as endpoint,
    ):
        asking = asyncio.create_task(endpoint.request("eth_chainId", []))
        await asyncio.wait([asking])
        await endpoint.close()
        ended.set()
        assert [session.closed for session in sessions] == [True]
