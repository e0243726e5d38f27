"""One relay's HTTP endpoint: JSON-RPC bodies signed by our identity, each sent exactly once."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import aiohttp

from keeper.chain import jsonrpc
from keeper.chain.secrecy import SecretUrl, reason
from keeper.errors import RpcError, TransientError
from keeper.execution.relays.identity import HEADER, Identity

TIMEOUT = 1.0
"""Seconds an answer may take: the next plans wait while nobody has answered yet."""

IDLE = 30.0
"""Seconds without a request after which a connection may be closed from the other side."""
LONGEST = 200
"""Characters of a relay's own words that are kept."""

_SLOW_DOWN = frozenset({408, 425, 429})


class RelayWire:
    """POST one request and read its answer; nothing is ever repeated, and no redirect followed.

    `authorization` is the header some relays know their customers by; neither it nor the URL reaches
    a text that leaves here.
    """

    def __init__(
        self,
        name: str,
        url: str,
        identity: Identity | None = None,
        authorization: str | None = None,
        *,
        timeout: float = TIMEOUT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._used = float("-inf")
        self.name = name
        self._url = SecretUrl(url)
        self._identity = identity
        self._authorization = authorization
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._ids = itertools.count(1)

    def __repr__(self) -> str:
        return f"RelayWire({self.name})"

    async def call(self, method: str, params: Sequence[object]) -> Any:
        """Return the result; `RpcError` when it is refused, `TransientError` when nobody can know."""
        body = jsonrpc.message(next(self._ids), method, params)
        self._used = self._monotonic()
        headers = {"Content-Type": "application/json"}
        if self._authorization is not None:
            headers["Authorization"] = self._authorization
        if self._identity is not None:
            headers[HEADER] = self._identity.header(body)
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._opened().post(
                    self._url.reveal(), data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                content, status = await response.read(), response.status
        except TimeoutError:
            raise TransientError(f"no answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"no answer ({reason(error)})") from None
        return self._result(method, status, content)

    async def warm(self) -> None:
        """Open a connection where none may be left: with TLS that takes longer than a hand-over.

        Nothing is told or asked (`HEAD`), and what comes of it does not matter.
        """
        if self._monotonic() - self._used < IDLE:
            return
        self._used = self._monotonic()
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with (
                asyncio.timeout(self._timeout),
                self._opened().head(self._url.reveal(), allow_redirects=False),
            ):
                pass

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._session

    def _result(self, method: str, status: int, content: bytes) -> Any:
        """Read an answer; an error object counts under any status, a result under 200 alone."""
        try:
            answer = jsonrpc.decode(content)
        except TransientError:
            answer = {}
        if status in _SLOW_DOWN:
            raise RpcError(method, status, f"HTTP {status}, it asks to slow down")
        if answer and (status == 200 or "error" in answer):
            try:
                return jsonrpc.result(method, answer, self._redact)
            except jsonrpc.LimitedError as error:
                raise RpcError(method, 429, str(error)) from None
        if status == 200 or status >= 500:
            raise TransientError(f"no JSON-RPC answer, HTTP {status}")
        raise RpcError(method, status, f"HTTP {status}")

    def _redact(self, text: str) -> str:
        if self._authorization:
            text = text.replace(self._authorization, "***")
        return self._url.redact(text)[:LONGEST]
