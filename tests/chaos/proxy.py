"""A proxy between keeper and node, over HTTP and WebSocket, that injects faults on command."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import aiohttp
import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

_LAGGING = frozenset(
    {"eth_blockNumber", "eth_getBlockByHash", "eth_getBlockByNumber", "eth_getLogs"}
)


class FaultProxy:
    """Forward JSON-RPC and break it where told; every fault is counted in `injected`.

    `requests` counts methods served, subscriptions included, and `received` whatever came by HTTP. `delay` holds back every answer. `errors`
    maps a method to the error answers to give before it is served again. `range_cap` refuses
    longer `eth_getLogs` ranges. `lose_heads` swallows that many notifications. `refusing` turns
    new connections away. `limiting` answers every HTTP request with 429. `silent` takes every
    request and answers none. `lag` tells of a latest head that many blocks old, knows no later
    block and announces none. `chain_id` is told instead of the node's.
    """

    def __init__(self, node: str) -> None:
        self.requests: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.errors: dict[str, list[dict[str, Any]]] = {}
        self.delay = 0.0
        self.range_cap: int | None = None
        self.lose_heads = 0
        self.refusing = False
        self.limiting = False
        self.silent = False
        self.lag = 0
        self.chain_id: int | None = None
        self._node = node
        self._sockets: dict[web.WebSocketResponse, bool] = {}
        self._changed = asyncio.Event()
        app = web.Application()
        app.router.add_get("/", self._serve_socket)
        app.router.add_post("/", self._serve_http)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drop()
        await self._server.close()
        await self._session.close()

    @property
    def http_url(self) -> str:
        """Return the proxy's HTTP endpoint."""
        return str(self._server.make_url("/"))

    @property
    def ws_url(self) -> str:
        """Return the proxy's WebSocket endpoint."""
        return self.http_url.replace("http", "ws", 1)

    @property
    def connections(self) -> int:
        """Return how many WebSockets are open."""
        return len(self._sockets)

    async def until_connections(self, count: int, seconds: float = 10.0) -> None:
        """Wait until that many WebSockets are open."""
        async with asyncio.timeout(seconds):
            while self.connections != count:
                self._changed.clear()
                await self._changed.wait()

    def drop(self) -> None:
        """Reset every WebSocket."""
        for socket in list(self._sockets):
            self.injected["drop"] += 1
            _abort(socket)

    async def close_cleanly(self) -> None:
        """Close every WebSocket with code 1000."""
        for socket in list(self._sockets):
            self.injected["close"] += 1
            await socket.close(code=1000)

    def half_open(self) -> None:
        """Let every WebSocket stay open and carry nothing any more."""
        for socket in self._sockets:
            self.injected["half_open"] += 1
            self._sockets[socket] = True

    async def _serve_http(self, request: web.Request) -> web.Response:
        body = await request.read()
        asked = orjson.loads(body)
        self.received[asked["method"]] += 1
        if self.refusing:
            self.injected["refuse"] += 1
            return web.Response(status=503)
        if self.limiting:
            self.injected["limit"] += 1
            return web.Response(status=429, headers={"Retry-After": "1"})
        if self.silent:
            self.injected["silence"] += 1
            await asyncio.sleep(3600)
        answer = self._own_answer(asked) or await self._lagging_answer(asked)
        await asyncio.sleep(self.delay)
        if answer is not None:
            return web.json_response(answer)
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._node, data=body, headers=headers) as response:
            return web.Response(body=await response.read(), content_type="application/json")

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        if self.refusing:
            self.injected["refuse"] += 1
            return web.Response(status=503)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self._sockets[socket] = False
        self._changed.set()
        try:
            async with self._session.ws_connect(self._node, max_msg_size=0) as upstream:
                down = asyncio.create_task(self._carry_down(socket, upstream))
                try:
                    await self._carry_up(socket, upstream)
                finally:
                    down.cancel()
                    await asyncio.gather(down, return_exceptions=True)
        finally:
            del self._sockets[socket]
            self._changed.set()
        return socket

    async def _carry_up(
        self,
        socket: web.WebSocketResponse,
        upstream: "aiohttp.ClientWebSocketResponse[bool]",
    ) -> None:
        async for message in socket:
            asked = orjson.loads(message.data)
            answer = self._own_answer(asked)
            if self._sockets[socket] or self.silent:
                self.injected["silence"] += self.silent
                continue
            answer = answer or await self._lagging_answer(asked)
            if answer is None:
                await upstream.send_str(message.data)
            else:
                await socket.send_json(answer)

    async def _carry_down(
        self,
        socket: web.WebSocketResponse,
        upstream: "aiohttp.ClientWebSocketResponse[bool]",
    ) -> None:
        async for message in upstream:
            if b'"eth_subscription"' in message.data.encode() and self.lose_heads:
                self.lose_heads -= 1
                self.injected["lost_head"] += 1
                continue
            if self.silent or (self.lag and b'"eth_subscription"' in message.data.encode()):
                continue
            await asyncio.sleep(self.delay)
            if not self._sockets.get(socket, True):
                with contextlib.suppress(ConnectionError):
                    await socket.send_str(message.data)

    def _own_answer(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        method = asked["method"]
        self.requests[method] += 1
        error: dict[str, Any] | None = None
        if self.errors.get(method):
            error = self.errors[method].pop(0)
            self.injected["error"] += 1
        elif method == "eth_getLogs" and self._is_too_long(asked["params"][0]):
            error = {"code": -32005, "message": f"block range is limited to {self.range_cap}"}
            self.injected["range_cap"] += 1
        elif method == "eth_chainId" and self.chain_id is not None:
            self.injected["chain_id"] += 1
            return {"jsonrpc": "2.0", "id": asked["id"], "result": hex(self.chain_id)}
        return None if error is None else {"jsonrpc": "2.0", "id": asked["id"], "error": error}

    async def _lagging_answer(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """Answer as a node would that has not seen the last blocks yet."""
        method, params = asked["method"], asked["params"]
        if not self.lag or method not in _LAGGING:
            return None
        self.injected["lag"] += 1
        tip = int(await self._of_node("eth_blockNumber"), 16) - self.lag
        if method == "eth_blockNumber":
            result: Any = hex(tip)
        elif method == "eth_getLogs":
            block = params[0].get("blockHash")
            if block is None:
                return None
            header = await self._of_node("eth_getBlockByHash", block, False)
            if header is not None and int(header["number"], 16) <= tip:
                return None
            error = {"code": -32000, "message": "unknown block"}
            return {"jsonrpc": "2.0", "id": asked["id"], "error": error}
        else:
            which = hex(tip) if params[0] == "latest" else params[0]
            result = await self._of_node(method, which, False)
            if result is not None and int(result["number"], 16) > tip:
                result = None
        return {"jsonrpc": "2.0", "id": asked["id"], "result": result}

    async def _of_node(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with self._session.post(self._node, json=body) as response:
            return (await response.json())["result"]

    def _is_too_long(self, query: Mapping[str, str]) -> bool:
        if self.range_cap is None or "blockHash" in query:
            return False
        return int(query["toBlock"], 16) - int(query["fromBlock"], 16) >= self.range_cap


def _abort(socket: web.WebSocketResponse) -> None:
    request = socket._req
    if request is not None and request.transport is not None:
        request.transport.abort()
