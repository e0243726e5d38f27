"""One node behind an alias: every request timed, counted, capped in flight, retried when safe."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Self, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from keeper.chain import jsonrpc
from keeper.chain.secrecy import SecretUrl
from keeper.chain.transport import HttpTransport, SocketTransport, Transport
from keeper.errors import ConfigError, RpcError, TransientError

T = TypeVar("T")


class Result(StrEnum):
    """How one request ended, as metrics label it."""

    OK = "ok"
    ERROR = "error"
    LIMITED = "limited"
    TIMEOUT = "timeout"
    FAILED = "failed"


Observe = Callable[[str, str, str, float], None]
"""Takes endpoint alias, method, result and seconds of every attempt."""

_WAIT = wait_random_exponential(multiplier=0.05, max=2)
_LONGEST_WAIT = 10.0
_LONGEST_REST = 300.0
"""A quota of a day is asked about again now and then: it may have been raised."""


class Endpoint:
    """Ask one node; satisfies `ports.Rpc` over any transport.

    Reads are repeated a bounded number of times when no answer came; anything that could send a
    transaction is asked exactly once. When the node limits the rate and says how long to wait, no
    read is asked before, whoever asks; one that would have to wait for long fails at once.
    """

    def __init__(
        self,
        alias: str,
        transport: Transport,
        observe: Observe,
        redact: Callable[[str], str],
        *,
        timeout: float = 10.0,
        attempts: int = 4,
        in_flight: int = 64,
    ) -> None:
        self.alias = alias
        self._transport = transport
        self._observe = observe
        self._redact = redact
        self._timeout = timeout
        self._attempts = attempts
        self._slots = asyncio.Semaphore(in_flight)
        self._rests_until = float("-inf")
        self._closed = False
        self._under_way: set[asyncio.Timeout] = set()
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"Endpoint({self.alias})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End what is under way and close every connection, for good.

        Requests under way, and any that come later, raise `TransientError`.
        """
        self._closed = True
        for limit in self._under_way:
            if not limit.expired():
                limit.reschedule(0)
        while self._under_way:
            self._ended.clear()
            await self._ended.wait()
        await self._transport.close()

    async def request(self, method: str, params: Sequence[object]) -> Any:
        """Return the result; raise `RpcError` for an error answer, `TransientError` for none."""
        if not jsonrpc.is_repeatable(method):
            return await self._attempt(method, params)
        return await repeating(self._attempts)(self._read, method, params)

    async def _read(self, method: str, params: Sequence[object]) -> Any:
        while (rest := self._rests_until - time.monotonic()) > 0:
            if rest > _LONGEST_WAIT:
                message = f"{self.alias}: limits the rate for {math.ceil(rest)} s more"
                raise jsonrpc.LimitedError(message, rest)
            await asyncio.sleep(rest)
        return await self._attempt(method, params)

    async def _attempt(self, method: str, params: Sequence[object]) -> Any:
        async with self._slots:
            if self._closed:
                raise self._gone()
            started = time.monotonic()
            ended = Result.FAILED
            try:
                answer = await self._exchange(method, params)
                result = jsonrpc.result(method, answer, self._redact)
                ended = Result.OK
            except TimeoutError:
                if self._closed:
                    raise self._gone() from None
                ended = Result.TIMEOUT
                self._transport.renew(started)
                waited = f"{self._timeout:g} s"
                message = f"{self.alias}: no answer to {method} in {waited}"
                raise jsonrpc.SlowError(message) from None
            except jsonrpc.LimitedError as error:
                ended = Result.LIMITED
                if error.wait is not None:
                    rest = time.monotonic() + min(error.wait, _LONGEST_REST)
                    self._rests_until = max(self._rests_until, rest)
                raise
            except RpcError:
                ended = Result.ERROR
                raise
            finally:
                self._observe(self.alias, method, ended, time.monotonic() - started)
            return result

    async def _exchange(self, method: str, params: Sequence[object]) -> Mapping[str, Any]:
        """Return the node's answer object; raise `TimeoutError` when it takes too long."""
        async with asyncio.timeout(self._timeout) as limit:
            self._under_way.add(limit)
            try:
                return await self._transport.exchange(method, params)
            finally:
                self._under_way.discard(limit)
                self._ended.set()

    def _gone(self) -> TransientError:
        return TransientError(f"{self.alias}: was closed")


def connect(
    url: str,
    alias: str,
    observe: Observe = lambda *_: None,
    *,
    timeout: float = 10.0,
    attempts: int = 4,
    in_flight: int = 64,
) -> Endpoint:
    """Return an endpoint for an http(s) or ws(s) URL; it connects when first asked.

    The URL may hold a key: only the alias is ever shown. Raises `ConfigError` for another scheme.
    """
    secret = SecretUrl(url)
    transport: Transport
    match secret.scheme:
        case "http" | "https":
            transport = HttpTransport(secret, alias)
        case "ws" | "wss":
            transport = SocketTransport(secret, alias, timeout)
        case scheme:
            raise ConfigError(
                f"endpoint {alias}: {scheme or 'no'} scheme", "use http, https, ws or wss"
            )
    return Endpoint(
        alias,
        transport,
        observe,
        secret.redact,
        timeout=timeout,
        attempts=attempts,
        in_flight=in_flight,
    )


def repeating(attempts: int) -> Callable[..., Awaitable[Any]]:
    """Return what repeats a read a bounded number of times while no answer comes.

    The first time it is simply asked: what stands by for a failure takes longer than some answers.
    """

    async def ask(read: Callable[..., Awaitable[T]], *arguments: object) -> T:
        try:
            return await read(*arguments)
        except TransientError as error:
            if attempts == 1 or not _is_unanswered(error):
                raise
            failed: list[TransientError] = [error]

        async def again() -> T:
            if failed:
                raise failed.pop()
            return await read(*arguments)

        patiently = AsyncRetrying(
            stop=stop_after_attempt(attempts),
            wait=_wait,
            retry=retry_if_exception(_is_unanswered),
            reraise=True,
        )
        return await patiently(again)

    return ask


def _is_unanswered(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, RpcError)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, jsonrpc.LimitedError) and error.wait is not None:
        return min(error.wait, _LONGEST_WAIT)
    return _WAIT(state)
