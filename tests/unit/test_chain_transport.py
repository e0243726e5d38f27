"""A socket that ends leaves nothing behind: no error unseen, no connection not given back."""

import asyncio
import gc
import socket as sockets
from typing import Any

import pytest
from aiohttp import web

from keeper.chain.secrecy import SecretUrl
from keeper.chain.transport import SocketTransport
from keeper.chain.websocket import WebSocket
from keeper.errors import TransientError
from tests.lone_route import lone_route


@pytest.fixture
def complaints() -> list[dict[str, Any]]:
    return []


def listen(complaints: list[dict[str, Any]]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))


async def test_an_answer_nobody_waits_for_any_more_raises_nothing(
    complaints: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(complaints)
    transport = SocketTransport(SecretUrl("ws://127.0.0.1:9"), "main", 1.0)

    class Ending:
        async def send(self, text: bytes) -> None:
            transport._forget(self, "closed")  # type: ignore[arg-type]
            raise TransientError("lost while sending")

    ending = Ending()
    transport._socket = ending  # type: ignore[assignment]
    with pytest.raises(TransientError, match="lost while sending"):
        await transport.exchange("eth_chainId", [])
    gc.collect()
    assert complaints == []


async def test_only_what_was_asked_for_as_logs_is_read_as_logs() -> None:
    entry = {
        "address": "0x" + "11" * 20,
        "topics": [],
        "data": "0x",
        "blockNumber": "0x1",
        "blockHash": "0x" + "22" * 32,
        "logIndex": "0x0",
        "transactionHash": "0x" + "33" * 32,
    }

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        asked = [(await socket.receive()).json() for _ in range(3)]
        for each in reversed(asked):
            await socket.send_json({"id": each["id"], "result": [entry]})
        await socket.receive()
        return socket

    async with lone_route(serve) as url:
        transport = SocketTransport(SecretUrl(url), "main", 1.0)
        methods = ("eth_getLogs", "trace_filter", "eth_getLogs")
        answers = await asyncio.gather(*(transport.exchange(each, []) for each in methods))
        await transport.close()
    assert answers[1]["result"] == [entry]
    for answer in (answers[0], answers[2]):
        assert [each.block_hash for each in answer["result"]] == [entry["blockHash"]]


async def test_an_aborted_socket_gives_its_connection_back(
    complaints: list[dict[str, Any]],
) -> None:
    listen(complaints)

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket

    async with lone_route(serve) as url:
        socket = await WebSocket.connect(SecretUrl(url), "main", 1.0)
        response = socket._socket._response
        held = [response.connection is not None]
        await asyncio.wait_for(socket.abort(), 1.0)
        held.append(response.connection is not None)
        assert held == [True, False]
        with pytest.raises(TransientError):
            await socket.receive()
    del socket, response
    gc.collect()
    assert complaints == []


async def test_a_peer_that_reads_nothing_holds_no_aborted_socket() -> None:
    ended = asyncio.Event()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        raw = transport.get_extra_info("socket")
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        await ended.wait()
        transport.abort()
        return socket

    async with lone_route(serve) as url:
        socket = await WebSocket.connect(SecretUrl(url), "main", 1.0)
        sending = asyncio.create_task(socket.send(b"0" * 2**24))
        try:
            await asyncio.wait([sending], timeout=0.1)
            assert not sending.done()
            await asyncio.wait_for(socket.abort(), 5.0)
            with pytest.raises(TransientError, match="main: socket lost"):
                await asyncio.wait_for(sending, 5.0)
        finally:
            ended.set()


async def test_a_ping_that_cannot_be_answered_is_the_end_of_the_socket() -> None:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.ping()
        assert request.transport is not None
        request.transport.close()
        return socket

    async with lone_route(serve) as url:
        socket = await WebSocket.connect(SecretUrl(url), "main", 1.0)
        response = socket._socket._response
        assert response.connection is not None
        protocol = response.connection.protocol
        assert protocol is not None
        async with asyncio.timeout(5):
            while protocol.is_connected():  # noqa: ASYNC110 - the loss raises no event
                await asyncio.sleep(0.002)
        with pytest.raises(TransientError, match="main: "):
            await socket.receive()
        await socket.abort()
