"""The control socket: a local operator pauses, resumes and stops the keeper, nobody else."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import orjson
import structlog

from keeper.errors import ConfigError, KeeperError
from keeper.journal.home import PRIVATE_FILE

log = structlog.get_logger(__name__)

NAME = "control.sock"
LONGEST_PATH = 100
"""Bytes a socket's path may have; a longer one is reached through its open directory."""
LAST_WORDS = 0.5
"""Seconds a closing socket leaves for answers."""
_LARGEST = 4_096
_SECONDS = 10.0

Handle = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class ControlSocket:
    """Answer one JSON line per connection while entered; mode 0600, and only to its own user."""

    def __init__(self, home: Path, handle: Handle) -> None:
        self._path = home / NAME
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # the home's lock is held, so what stands here is of a keeper that was killed
            self._path.unlink(missing_ok=True)
            bind(listening, self._path)
            self._path.chmod(PRIVATE_FILE)
            self._server = await asyncio.start_unix_server(
                self._serve, sock=listening, limit=_LARGEST
            )
        except OSError as error:
            listening.close()
            raise ConfigError(
                f"the control socket {self._path} cannot be opened: {error.strerror}",
                "set KEEPER_HOME to a directory this user owns",
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            if self._answering:
                # an answer that is ready is given, one that is not will never be
                await asyncio.wait(self._answering, timeout=LAST_WORDS)
            for task in self._answering:
                task.cancel()
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "each connection has its task"
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        try:
            answer = await self._answer(reader, writer)
            writer.write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))
            await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            log.warning("control.failed", error=str(error) or type(error).__name__)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Mapping[str, Any]:
        async with asyncio.timeout(_SECONDS):
            line = await reader.readline()
        user = _peer(writer.get_extra_info("socket"))
        if user not in {os.getuid(), 0}:
            log.warning("control.refused", user=user)
            return {"error": "this keeper is another user's"}
        asked = orjson.loads(line)
        if not isinstance(asked, dict):
            return {"error": "no command"}
        try:
            return await self._handle(asked)
        except KeeperError as error:
            return {"error": str(error)}


def bind(listening: socket.socket, path: Path) -> None:
    """Bind a socket to a path of any length."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        listening.bind(str(path))
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _peer(connection: Any) -> int:
    """Return the user at the other end (Linux: SO_PEERCRED)."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(user)
