"""One WebSocket connection: text in, text out, and an end that is always an exception."""

import asyncio
import contextlib
import socket as sockets
from typing import Self

import aiohttp

from keeper.chain.secrecy import SecretUrl, reason
from keeper.errors import TransientError


class WebSocket:
    """A connected socket; `sever` and `abort` end it at once, whatever the peer does."""

    def __init__(
        self,
        alias: str,
        session: aiohttp.ClientSession,
        socket: "aiohttp.ClientWebSocketResponse[bool]",
    ) -> None:
        self._alias = alias
        self._session = session
        self._socket = socket
        self._raw = socket.get_extra_info("socket")

    @classmethod
    async def connect(cls, url: SecretUrl, alias: str, seconds: float) -> Self:
        """Open a new connection; raise `TransientError` when that fails or takes too long."""
        session = aiohttp.ClientSession()
        try:
            async with asyncio.timeout(seconds):
                socket = await session.ws_connect(url.reveal(), max_msg_size=0)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await session.close()
            raise TransientError(f"{alias}: no connection ({reason(error)})") from None
        except BaseException:
            await session.close()
            raise
        return cls(alias, session, socket)

    async def send(self, text: bytes) -> None:
        """Send one text message."""
        sending = asyncio.create_task(self._socket.send_frame(text, aiohttp.WSMsgType.TEXT))
        sending.add_done_callback(_seen)
        try:
            # aiohttp's senders wait on one shared future: a cancelled one takes the others along.
            await asyncio.shield(sending)
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(error) from None
        self._acknowledge_at_once()

    async def receive(self) -> str | bytes:
        """Return the next message; a close, clean or not, raises `TransientError`."""
        try:
            message = await self._socket.receive()
        except (aiohttp.ClientError, OSError) as error:
            # A ping is answered in there, maybe over a connection that is gone.
            raise self._lost(error) from None
        self._acknowledge_at_once()
        match message.type:
            case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                content: str | bytes = message.data
                return content
            case _:
                code = self._socket.close_code
                raise TransientError(f"{self._alias}: the socket was closed (code {code})")

    def _acknowledge_at_once(self) -> None:
        """Forbid the kernel to delay its next acknowledgement; it forgets this after each use.

        A node that leaves Nagle's algorithm on (anvil does) holds a second answer back until the
        first is acknowledged: 40 ms on Linux, far longer than the answer takes.
        """
        if self._raw is not None and hasattr(sockets, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):
                self._raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_QUICKACK, 1)

    def sever(self) -> None:
        """Cut the connection: nothing that still waits is sent, and `receive` raises."""
        if self._raw is not None:
            with contextlib.suppress(OSError):
                self._raw.shutdown(sockets.SHUT_RDWR)

    async def abort(self) -> None:
        """Drop the connection without waiting for the peer, and give it back."""
        # A session waits until all that was written is on its way; a dead peer takes none of it.
        self.sever()
        try:
            await self._session.close()
        finally:
            # Nothing can be sent any more, so this only gives the connection back.
            await self._socket.close()

    def _lost(self, error: Exception) -> TransientError:
        return TransientError(f"{self._alias}: socket lost ({reason(error)})")


def _seen(sending: "asyncio.Task[None]") -> None:
    """Take the error of a message that nobody waits for any more."""
    if not sending.cancelled():
        sending.exception()
