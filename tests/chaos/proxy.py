"""A proxy between keeper and node, over HTTP and WebSocket, that injects faults on command."""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import aiohttp
import orjson
from aiohttp import web

from tests.chaos.branch import Branch
from tests.chaos.stillness import READS, Stillness
from tests.chaos.wrong import WRONG, Inapplicable

_LAGGING = frozenset(
    {"eth_blockNumber", "eth_getBlockByHash", "eth_getBlockByNumber", "eth_getLogs"}
)
_SUBSCRIBING = frozenset({"eth_subscribe", "eth_unsubscribe"})
_QUIET = logging.getLogger("tests.chaos.proxy")
_QUIET.disabled = True  # a handler whose connection was aborted on purpose is no news
_NOTICE = '"eth_subscription"'
_HELD_SECONDS = 0.03
"""How long a notification waits for one to overtake it."""

SHOTS = (*WRONG, "abort", "server_error", "truncate", "no_json", "limit", "duplicate", "swallow")
"""What can befall a single answer."""
NOTICES = ("lost_head", "duplicate_head", "late_head", "truncated_head", "phantom_head")
"""What can befall a single notification of a head."""


class FaultProxy:
    """Forward JSON-RPC and break it where told; every fault is counted in `injected`.

    `requests` counts methods served, subscriptions included, and `received` whatever came by HTTP.
    `delay` holds back every answer. `errors` maps a method to the error answers to give before it
    is served again. `range_cap` refuses longer `eth_getLogs` ranges. `lose_heads` swallows that
    many notifications. `refusing` turns new connections away. `limiting` answers every HTTP request
    with 429 and `retry_after`. `silent` takes every request and answers none, `deaf` announces no
    head. `lag` tells of a latest head that many blocks old, knows no later block and announces
    none. `chain_id` is told instead of the node's. `shots` are single answers and notifications to
    break, by kind: one of three that a kind fits is hit until its number is used up.
    """

    def __init__(self, node: str, seed: int = 0, stillness: Stillness | None = None) -> None:
        self.requests: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.errors: dict[str, list[dict[str, Any]]] = {}
        self.shots: Counter[str] = Counter()
        self._node = node
        self._stillness = stillness or Stillness()
        self._rng = random.Random(seed)
        self._port = 0
        self._sockets: dict[web.WebSocketResponse, bool] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._held: list[tuple[web.WebSocketResponse, str]] = []
        self._changed = asyncio.Event()
        self._healed = asyncio.Event()
        self._session: aiohttp.ClientSession
        self._runner: web.AppRunner
        self._reset()

    def _reset(self) -> None:
        self.delay = 0.0
        self.range_cap: int | None = None
        self.lose_heads = 0
        self.refusing = False
        self.limiting = False
        self.retry_after = 1
        self.silent = False
        self.deaf = False
        self.lag = 0
        self.chain_id: int | None = None
        self.branch: Branch | None = None

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drop()
        await self._close()

    @property
    def http_url(self) -> str:
        """Return the proxy's HTTP endpoint."""
        return f"http://127.0.0.1:{self._port}/"

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

    def heal(self) -> None:
        """Be a faultless proxy again; sockets that carry nothing stay as they are."""
        self._reset()
        self.errors.clear()
        self.shots.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    def drop(self) -> None:
        """Reset every WebSocket."""
        for socket in list(self._sockets):
            self.injected["drop"] += 1
            _abort(socket._req)

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

    async def restart(self) -> None:
        """End the server and the connections to the node, and begin again on the same port."""
        self.injected["restart"] += 1
        self.drop()
        await self._close()
        await self._open()

    async def fork(self, depth: int, lowest: int = 0) -> None:
        """Stand on another branch: its last `depth` blocks, those above `lowest`, are its own."""
        self.injected["fork"] += 1
        tip = int(await self._of_node("eth_blockNumber"), 16)
        self.branch = Branch(self._of_node, max(tip - depth, lowest) + 1, self._rng.randbytes(8))

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        app = web.Application()
        app.router.add_get("/", self._serve_socket)
        app.router.add_post("/", self._serve_http)
        self._runner = web.AppRunner(app, access_log=None, logger=_QUIET, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        self._healed.set()
        self._healed = asyncio.Event()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()

    async def _serve_http(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = orjson.loads(body)
        self.received[asked["method"]] += 1
        if self.refusing:
            self.injected["refuse"] += 1
            return web.Response(status=503)
        if self.limiting or self._shot("limit"):
            self.injected["limit"] += self.limiting
            return web.Response(status=429, headers={"Retry-After": str(self.retry_after)})
        if self.silent or self._shot("swallow"):
            self.injected["silence"] += self.silent
            await self._healed.wait()
            _abort(request)
            return web.Response(status=503)
        if self._shot("server_error"):
            status = self._rng.choice([500, 502, 503, 504])
            return web.Response(status=status, text="<html>sorry</html>")
        answer = await self._answer(asked)
        if self._shot("abort"):
            _abort(request)
        if self._shot("truncate"):
            answer = answer[: self._rng.randrange(len(answer))]
        if self._shot("no_json"):
            answer = b"<html>sorry</html>"
        return web.Response(body=answer, content_type="application/json")

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        if self.refusing:
            self.injected["refuse"] += 1
            return web.Response(status=503)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self._sockets[socket] = False
        self._changed.set()
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._carry_up(socket, stack)
        finally:
            del self._sockets[socket]
            self._changed.set()
        return socket

    async def _carry_up(
        self, socket: web.WebSocketResponse, stack: contextlib.AsyncExitStack
    ) -> None:
        upstream: aiohttp.ClientWebSocketResponse[bool] | None = None
        async for message in socket:
            asked = orjson.loads(message.data)
            if self._sockets[socket] or self.silent:
                self.injected["silence"] += self.silent
                continue
            if asked["method"] not in _SUBSCRIBING:
                self._start(self._serve_one(socket, asked))
                continue
            answer = self._own_answer(asked)
            if answer is not None:
                await socket.send_json(answer)
                continue
            if upstream is None:
                upstream = await stack.enter_async_context(
                    self._session.ws_connect(self._node, max_msg_size=0)
                )
                stack.callback(self._start(self._carry_down(socket, upstream)).cancel)
            await upstream.send_str(message.data)

    async def _serve_one(self, socket: web.WebSocketResponse, asked: Mapping[str, Any]) -> None:
        answer = await self._answer(asked)
        if self._shot("limit"):
            error = {"code": 429, "message": "too many requests"}
            answer = orjson.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error})
        if self._shot("truncate"):
            answer = answer[: self._rng.randrange(len(answer))]
        if self._shot("no_json") or self._shot("server_error"):
            answer = b"<html>sorry</html>"
        if self._shot("abort"):
            _abort(socket._req)
            return
        if self.silent or self._shot("swallow"):
            self.injected["silence"] += self.silent
            return
        for _ in range(1 + self._shot("duplicate")):
            await self._send(socket, answer.decode())

    async def _carry_down(
        self,
        socket: web.WebSocketResponse,
        upstream: "aiohttp.ClientWebSocketResponse[bool]",
    ) -> None:
        async for message in upstream:
            text = message.data
            if _NOTICE not in text:
                if not self.silent:
                    await asyncio.sleep(self.delay)
                    await self._send(socket, text)
                continue
            if self.lose_heads:
                self.lose_heads -= 1
                self.injected["lost_head"] += 1
                continue
            if self.silent or self.lag or self.deaf or self._shot("lost_head"):
                self.injected["deaf"] += self.deaf
                continue
            if self.branch is not None:
                text = await self.branch.announcement(text)
            await asyncio.sleep(self.delay)
            await self._announce(socket, text)

    async def _announce(self, socket: web.WebSocketResponse, text: str) -> None:
        if self._shot("phantom_head"):
            message = orjson.loads(text)
            message["params"]["result"]["hash"] = "0x" + self._rng.randbytes(32).hex()
            await self._send(socket, orjson.dumps(message).decode())
        if self._shot("late_head"):
            self._held.append((socket, text))
            asyncio.get_running_loop().call_later(_HELD_SECONDS, self._release)
            return
        if self._shot("truncated_head"):
            text = text[: self._rng.randrange(len(text))]
        for _ in range(1 + self._shot("duplicate_head")):
            await self._send(socket, text)
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for socket, text in held:
            if not socket.closed:
                self._start(self._send(socket, text))

    async def _send(self, socket: web.WebSocketResponse, text: str) -> None:
        if not self._sockets.get(socket, True):
            with contextlib.suppress(ConnectionError, RuntimeError):
                await socket.send_str(text)

    def _start(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._serving.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._serving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.injected["proxy_failed"] += not isinstance(error, aiohttp.ClientError)

    def _shot(self, kind: str) -> bool:
        if self.shots[kind] <= 0 or self._rng.random() > 1 / 3:
            return False
        self.shots[kind] -= 1
        self.injected[kind] += 1
        return True

    async def _answer(self, asked: Mapping[str, Any]) -> bytes:
        answer = self._own_answer(asked) or await self._lagging_answer(asked)
        if answer is None and self.branch is not None:
            answer = await self.branch.answer(asked)
        await asyncio.sleep(self.delay)
        if answer is not None:
            return orjson.dumps(answer)
        told = await self._forward(asked)
        kinds = [kind for kind in WRONG if self.shots[kind]]
        if kinds and b'"result"' in told:
            return await self._wrong(self._rng.choice(kinds), asked, told)
        return told

    async def _wrong(self, kind: str, asked: Mapping[str, Any], told: bytes) -> bytes:
        answer = orjson.loads(told)
        try:
            result = await WRONG[kind](self._rng, asked, answer.get("result"), self._of_node)
        except Inapplicable:
            return told
        return orjson.dumps({**answer, "result": result}) if self._shot(kind) else told

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
        told = orjson.loads(
            await self._forward({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        )
        return told.get("result")

    async def _forward(self, asked: Mapping[str, Any]) -> bytes:
        if asked["method"] not in READS:
            return await self._post(asked)
        async with self._stillness.reading():
            return await self._post(asked)

    async def _post(self, asked: Mapping[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json"}
        body = orjson.dumps(asked)
        async with self._session.post(self._node, data=body, headers=headers) as response:
            return await response.read()

    def _is_too_long(self, query: Mapping[str, str]) -> bool:
        if self.range_cap is None or "blockHash" in query:
            return False
        return int(query["toBlock"], 16) - int(query["fromBlock"], 16) >= self.range_cap


def _abort(request: web.BaseRequest | None) -> None:
    if request is not None and request.transport is not None:
        request.transport.abort()
