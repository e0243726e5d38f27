"""A watch list of everybody, and the webhook that is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

_SETTINGS = """
[notify]
events = ["desk"]

[notify.channels.desk]
kind = "webhook"
url = "{url}"
secret = "file:{secret}"

[margin.watch.everyone]
channels = ["desk"]
warning = 1.25
call = 1.1
critical = 1.03
"""


async def _take(request: web.Request) -> web.Response:
    await request.read()
    return web.Response()


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[str]:
    """Yield settings by which everybody is watched, and the webhook that is told takes it all."""
    secret = folder / "webhook.secret"
    secret.write_text("22" * 16, encoding="utf-8")
    app = web.Application()
    app.router.add_post("/", _take)
    async with TestServer(app) as server:
        yield _SETTINGS.format(url=server.make_url("/"), secret=secret)
