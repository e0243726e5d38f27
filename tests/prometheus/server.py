"""A real Prometheus that scrapes one keeper every second."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from keeper.devnet.guarded import Guarded

PATIENCE_SECONDS = 30.0
JOB = "keeper"


class Prometheus:
    """Ask a running server over its HTTP API."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def query(self, query: str) -> list[float]:
        """Return the value of every series a query answers with; raise on any error."""
        form = {"query": query}
        async with self._session.post(f"{self.url}/api/v1/query", data=form) as answer:
            said = await answer.json()
        assert said["status"] == "success", f"{query}: {said.get('error')}"
        series: list[dict[str, Any]] = said["data"]["result"]
        return [float(each["value"][1]) for each in series]

    async def scraped(self, times: int) -> None:
        """Wait until the keeper was scraped so many times more."""
        count = f'sum(count_over_time(up{{job="{JOB}"}}[1h]))'
        wanted = math.fsum(await self.query(count)) + times
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if math.fsum(await self.query(count)) >= wanted:
                    return
                await asyncio.sleep(0.2)

    async def ready(self) -> None:
        """Wait until the server answers."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    async with self._session.get(f"{self.url}/-/ready") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.1)


def free_address() -> str:
    """Return a host and port where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@asynccontextmanager
async def scraping(
    tools: Path, folder: Path, *targets: str, rules: str = "", alertmanager: str = ""
) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that scrapes targets, each host and port, until the block ends.

    `rules` is a file's text, `alertmanager` host and port of where alerts go.
    """
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": list(targets)}]}],
    }
    if rules:
        (folder / "rules.yml").write_text(rules)
        config["rule_files"] = ["rules.yml"]
    if alertmanager:
        managers = [{"static_configs": [{"targets": [alertmanager]}]}]
        config["alerting"] = {"alertmanagers": managers}
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    address = free_address()
    command = [
        str(tools / "prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        server = Guarded(command, log)
        try:
            async with aiohttp.ClientSession() as session:
                prometheus = Prometheus(session, f"http://{address}")
                await prometheus.ready()
                yield prometheus
        finally:
            server.stop()
