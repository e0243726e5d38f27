"""A chain in memory behind a real server: HTTP and WebSocket, with subscriptions to its heads."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from keeper.errors import RpcError
from keeper.types import Head
from keeper.units import Address
from tests.fake_chain import FakeChain


class ServedChain(FakeChain):
    """Speaks as a node does; sockets can be closed, aborted, or kept open and silent.

    `silent` makes new sockets silent too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: Counter[str] = Counter()
        self.asked: list[dict[str, Any]] = []
        self.refusing: Callable[[str], web.Response | None] = lambda method: None
        self.subscriptions = 0
        self.silent = False
        self.url = self.ws_url = ""
        self._sockets: dict[web.WebSocketResponse, bool] = {}
        self._subscribed: list[web.WebSocketResponse] = []

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator["ServedChain"]:
        """Serve until the body ends."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/", self._serve_socket)
        app.router.add_post("/", self._serve_http)
        async with TestServer(app) as server:
            self.url = str(server.make_url("/"))
            self.ws_url = self.url.replace("http", "ws", 1)
            yield self
            for socket in list(self._sockets):
                _abort(socket)

    async def announce(self, *heads: Head) -> None:
        """Notify every subscriber, in this order."""
        for socket in self._subscribed:
            if self._sockets.get(socket):
                for head in heads:
                    header = self._known["0x" + head.hash.hex()][0]
                    params = {"subscription": "0x1", "result": header}
                    note = {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
                    await socket.send_json(note)

    async def grow(self, *emitters: Address) -> Head:
        """Mine one block and announce it."""
        head = self.mine(*emitters)
        await self.announce(head)
        return head

    async def close_cleanly(self) -> None:
        """Say goodbye on every socket."""
        for socket in list(self._sockets):
            await socket.close(code=1000)

    def abort(self) -> None:
        """Reset every socket."""
        for socket in list(self._sockets):
            _abort(socket)

    def half_open(self) -> None:
        """Keep every open socket and never use it again."""
        for socket in self._sockets:
            self._sockets[socket] = False

    async def _serve_http(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        self.received[asked["method"]] += 1
        refused = self.refusing(asked["method"])
        return refused or web.json_response(await self._answer(asked))

    async def _serve_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self._sockets[socket] = not self.silent
        answering: set[asyncio.Task[None]] = set()
        try:
            async for message in socket:
                task = asyncio.create_task(self._reply(socket, orjson.loads(message.data)))
                answering.add(task)
                task.add_done_callback(answering.discard)
        finally:
            for task in answering:
                task.cancel()
            await asyncio.gather(*answering, return_exceptions=True)
            del self._sockets[socket]
            if socket in self._subscribed:
                self._subscribed.remove(socket)
        return socket

    async def _reply(self, socket: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        self.received[asked["method"]] += 1
        if asked["method"] == "eth_subscribe":
            self.subscriptions += 1
            self._subscribed.append(socket)
            answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"], "result": "0x1"}
        else:
            answer = await self._answer(asked)
        if self._sockets.get(socket):
            await socket.send_json(answer)

    async def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(asked)
        answer = {"jsonrpc": "2.0", "id": asked["id"]}
        try:
            return answer | {"result": await self.request(asked["method"], asked["params"])}
        except RpcError as error:
            return answer | {"error": {"code": error.code, "message": error.message}}


def _abort(socket: web.WebSocketResponse) -> None:
    request = socket._req
    if request is not None and request.transport is not None:
        request.transport.abort()
