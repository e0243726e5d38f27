"""A server of one handler, whatever is asked of it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from aiohttp.test_utils import TestServer

Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def lone_route(serve: Serve, scheme: str = "ws") -> AsyncIterator[str]:
    """Serve until the end of the body, and yield the URL."""
    app = web.Application()
    app.router.add_route("*", "/", serve)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).replace("http", scheme, 1)
