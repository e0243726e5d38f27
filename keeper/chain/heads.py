"""Where new heads come from: a subscription on its own socket, or polling."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from keeper.chain import jsonrpc, parse
from keeper.chain.secrecy import SecretUrl
from keeper.chain.websocket import WebSocket
from keeper.errors import TransientError
from keeper.ports import Rpc
from keeper.types import Head

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Announced:
    """A head and the monotonic time at which its notification was read."""

    head: Head
    received_at: float


class HeadQueue:
    """Ordered and bounded: appending never waits, and overflow is an end, not a loss.

    After the end the follower is back-filled, so what did not fit is asked for again.
    """

    def __init__(self, parse_one: Callable[[Any], Head | None], limit: int = 1024) -> None:
        self._parse = parse_one
        self._limit = limit
        self.heard: Callable[[Head], None] = lambda _: None
        """Told of every head as it is taken."""
        self._raw: deque[tuple[Any, float]] = deque()
        self._error: TransientError | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._raw)

    @property
    def error(self) -> TransientError | None:
        """Return why it ended, None while it goes on."""
        return self._error

    def append(self, raw: Any) -> None:
        """Add one notification; raise `TransientError` when the queue is full, which ends it."""
        if len(self._raw) >= self._limit:
            self.end(TransientError(f"more than {self._limit} heads were waiting"))
        if self._error is not None:
            raise self._error
        self._raw.append((raw, time.monotonic()))
        self._changed.set()

    def end(self, error: TransientError) -> None:
        """Let `take` raise once everything appended before was taken."""
        self._error = self._error or error
        self._changed.set()

    async def take(self) -> list[Announced]:
        """Wait for heads and return all of them in order; raise `TransientError` at the end."""
        while True:
            heads: list[Announced] = []
            while self._raw:
                raw, received_at = self._raw.popleft()
                try:
                    head = self._parse(raw)
                except TransientError as error:
                    self._error = error
                    raise
                if head is not None:
                    self.heard(head)
                    heads.append(Announced(head, received_at))
            if heads:
                return heads
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()


class HeadFeed(Protocol):
    """Announces new heads; each opening is a new connection."""

    def open(self) -> AbstractAsyncContextManager[HeadQueue]:
        """Connect, and yield the queue that fills until the connection ends."""
        ...


class SocketHeads:
    """`newHeads` on a WebSocket of its own; the reader only appends."""

    def __init__(
        self, url: str, alias: str, *, limit: int = 1024, open_timeout: float = 5.0
    ) -> None:
        self._url = SecretUrl(url)
        self._alias = alias
        self._limit = limit
        self._open_timeout = open_timeout

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[HeadQueue]:
        socket = await WebSocket.connect(self._url, self._alias, self._open_timeout)
        try:
            await self._subscribe(socket)
            queue = HeadQueue(_announcement, self._limit)
            reading = asyncio.create_task(_read(socket, queue))
            try:
                yield queue
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        finally:
            await socket.abort()

    async def _subscribe(self, socket: WebSocket) -> None:
        method = "eth_subscribe"
        try:
            async with asyncio.timeout(self._open_timeout):
                await socket.send(jsonrpc.message(1, method, ["newHeads"]))
                answer = jsonrpc.decode(await socket.receive())
                jsonrpc.result(method, answer, self._url.redact)
        except TimeoutError:
            raise TransientError(f"{self._alias}: no answer to {method}") from None


async def _read(socket: WebSocket, queue: HeadQueue) -> None:
    try:
        while True:
            queue.append(await socket.receive())
    except TransientError as error:
        queue.end(error)
        await socket.abort()


def _announcement(raw: str | bytes) -> Head | None:
    message = jsonrpc.decode(raw)
    if message.get("method") != "eth_subscription":
        return None
    params = message.get("params")
    if not isinstance(params, dict) or not isinstance(params.get("result"), dict):
        raise TransientError("the node sent a malformed notification")
    return parse.head(params["result"])


class PolledHeads:
    """The latest header asked for at an interval, for endpoints without WebSocket."""

    def __init__(self, rpc: Rpc, alias: str, *, interval: float) -> None:
        self._rpc = rpc
        self._alias = alias
        self._interval = interval
        self._said = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[HeadQueue]:
        if not self._said:
            self._said = True
            log.warning(
                "heads.polled",
                endpoint=self._alias,
                interval_seconds=self._interval,
                reason="polling sees a head later than a WebSocket does: give a ws:// or wss:// URL",
            )
        queue = HeadQueue(lambda head: head)
        polling = asyncio.create_task(self._poll(queue))
        try:
            yield queue
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    async def _poll(self, queue: HeadQueue) -> None:
        known = b""
        due = time.monotonic()
        try:
            while True:
                header = await self._rpc.request("eth_getBlockByNumber", ["latest", False])
                head = parse.head(header)
                if head.hash != known:
                    known = head.hash
                    queue.append(head)
                due = max(due + self._interval, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
        except TransientError as error:
            queue.end(error)
