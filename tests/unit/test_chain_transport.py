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
