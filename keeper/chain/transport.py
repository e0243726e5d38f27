"""Two ways to carry one JSON-RPC message to a node and its answer back."""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import aiohttp

from keeper.chain import jsonrpc
from keeper.chain.entries import GET_LOGS
from keeper.chain.secrecy import SecretUrl, reason
from keeper.chain.websocket import WebSocket
from keeper.errors import RpcError, TransientError

_OVERLOADED = frozenset({408, 425, 429})
_UNAVAILABLE = 503


class Transport(Protocol):
    """Carry one message; every failure to get an answer is a `TransientError`."""

    async def exchange(self, method: str, params: Sequence[object]) -> Mapping[str, Any]:
        """Return the node's answer object."""
        ...

    def renew(self, since: float) -> None:
        """Drop a connection over which nothing came since a monotonic time."""
        ...

    async def close(self) -> None:
        """Let go of every connection; no message is under way, and none comes later."""
        ...


class HttpTransport:
    """POST over kept-alive connections."""

    def __init__(self, url: SecretUrl, alias: str) -> None:
        self._url = url
        self._alias = alias
        self._session: aiohttp.ClientSession | None = None
        self._ids = itertools.count(1)

    async def exchange(self, method: str, params: Sequence[object]) -> Mapping[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                headers={"Content-Type": "application/json"},
            )
        body = jsonrpc.message(next(self._ids), method, params)
        try:
            async with self._session.post(self._url.reveal(), data=body) as response:
                content = await response.read()
                status, wait = response.status, retry_after(response.headers)
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"{self._alias}: no answer ({reason(error)})") from None
        if status in _OVERLOADED or (status == _UNAVAILABLE and wait is not None):
            raise jsonrpc.LimitedError(f"{self._alias}: HTTP {status}", wait)
        if status == 200:
            return jsonrpc.decode(content, is_logs=method == GET_LOGS)
        return _error_answer(self._alias, method, status, content)

    def renew(self, since: float) -> None:
        """Do nothing: a cancelled request has closed its connection."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a response asks to wait, None when it does not say (RFC 9110, 10.2.3).

    A date is taken relative to the server's own, which no wrong clock can stretch.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    until = _date(text)
    if until is None:
        return None
    now = _date(headers.get("Date", ""))
    seconds = until - (time.time() if now is None else now)
    return max(seconds, 0.0)


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


def _error_answer(alias: str, method: str, status: int, content: bytes) -> Mapping[str, Any]:
    try:
        answer = jsonrpc.decode(content)
    except TransientError:
        answer = {}
    if "error" in answer:
        return answer
    if status >= 500:
        raise TransientError(f"{alias}: HTTP {status}")
    raise RpcError(method, status, f"{alias} refused with HTTP {status}")


class SocketTransport:
    """Many requests at once over one WebSocket, told apart by id; reconnects when next asked."""

    def __init__(self, url: SecretUrl, alias: str, open_timeout: float) -> None:
        self._url = url
        self._alias = alias
        self._open_timeout = open_timeout
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._logs: set[int] = set()
        self._opening = asyncio.Lock()
        self._socket: WebSocket | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._heard = 0.0

    async def exchange(self, method: str, params: Sequence[object]) -> Mapping[str, Any]:
        socket = await self._connected()
        number = next(self._ids)
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        if method == GET_LOGS:
            self._logs.add(number)
        try:
            await socket.send(jsonrpc.message(number, method, params))
            return await answer
        finally:
            del self._waiting[number]
            self._logs.discard(number)
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # the sending itself failed: this error is known already

    def renew(self, since: float) -> None:
        if self._heard < since:
            self._drop()

    async def close(self) -> None:
        self._drop()
        if self._readers:
            await asyncio.wait(self._readers)

    async def _connected(self) -> WebSocket:
        async with self._opening:
            if self._socket is None:
                self._socket = await WebSocket.connect(self._url, self._alias, self._open_timeout)
                reader = asyncio.create_task(self._read(self._socket))
                self._readers.add(reader)
                reader.add_done_callback(self._readers.discard)
            return self._socket

    async def _read(self, socket: WebSocket) -> None:
        """Hand out answers until the socket is dropped or lost, then give it back.

        Only the reader does that: whoever drops a socket may be cancelled at once.
        """
        try:
            while self._socket is socket:
                answer = self._decoded(await socket.receive())
                self._heard = time.monotonic()
                number = answer.get("id")
                waiting = self._waiting.get(number) if isinstance(number, int) else None
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except TransientError as error:
            self._forget(socket, str(error))
        finally:
            self._forget(socket, f"{self._alias}: the socket is read no more")
            await socket.abort()

    def _decoded(self, text: bytes | str) -> Mapping[str, Any]:
        answer = jsonrpc.decode(text, is_logs=bool(self._logs))
        if not self._logs or answer.get("id") in self._logs:
            return answer
        # It may look like logs without being asked for as such.
        return jsonrpc.decode(text)

    def _drop(self) -> None:
        socket = self._socket
        if socket is not None:
            self._forget(socket, f"{self._alias}: the socket was dropped")
            socket.sever()

    def _forget(self, socket: WebSocket, reason: str) -> None:
        if self._socket is not socket:
            return
        self._socket = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(TransientError(reason))
