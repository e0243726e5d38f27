"""A socket that ends leaves nothing behind: no error unseen, no connection not given back."""

import asyncio
import gc
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from keeper.chain.secrecy import SecretUrl
from keeper.chain.transport import SocketTransport
from keeper.chain.websocket import WebSocket
from keeper.errors import TransientError


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

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).replace("http", "ws", 1)
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

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).replace("http", "ws", 1)
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
