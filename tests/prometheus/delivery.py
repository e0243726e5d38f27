"""A real Alertmanager, and the webhook it delivers to."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from keeper.devnet.guarded import Guarded
from tests.prometheus.server import Prometheus, free_address


class Inbox:
    """Everything that was delivered, oldest first."""

    def __init__(self) -> None:
        self.delivered: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def names(self, status: str = "firing") -> set[str]:
        """Return which alerts were delivered with a status."""
        return {
            alert["labels"]["alertname"] for alert in self.delivered if alert["status"] == status
        }

    async def wait(self, names: Iterable[str], seconds: float, status: str = "firing") -> None:
        """Wait until all of these alerts were delivered; raise TimeoutError with what is missing."""
        wanted = set(names)
        try:
            async with asyncio.timeout(seconds):
                while not wanted <= self.names(status):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            missing = sorted(wanted - self.names(status))
            raise TimeoutError(f"not {status} within {seconds} s: {missing}") from None

    async def take(self, request: web.Request) -> web.Response:
        """Take a delivery."""
        self.delivered += (await request.json())["alerts"]
        self._news.set()
        return web.Response()


@asynccontextmanager
async def delivering(tools: Path, folder: Path) -> AsyncIterator[tuple[str, Inbox]]:
    """Run an Alertmanager that passes every alert on at once; yield its address and the inbox."""
    inbox = Inbox()
    app = web.Application()
    app.router.add_post("/", inbox.take)
    async with TestServer(app) as webhook:
        config = {
            "route": {
                "receiver": "inbox",
                "group_by": ["..."],
                "group_wait": "0s",
                "group_interval": "1s",
                "repeat_interval": "1h",
            },
            "receivers": [
                {
                    "name": "inbox",
                    "webhook_configs": [{"url": str(webhook.make_url("/")), "send_resolved": True}],
                }
            ],
        }
        file = folder / "alertmanager.yml"
        file.write_text(yaml.safe_dump(config))
        address = free_address()
        command = [
            str(tools / "prometheus-alertmanager"),
            f"--config.file={file}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ]
        with (folder / "alertmanager.log").open("wb") as log:
            manager = Guarded(command, log, tools.parent / "share" / "prometheus" / "alertmanager")
            try:
                async with aiohttp.ClientSession() as session:
                    await Prometheus(session, f"http://{address}").ready()
                yield address, inbox
            finally:
                manager.stop()
