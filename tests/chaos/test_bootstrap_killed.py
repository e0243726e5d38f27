"""`kill -9` of `keeper run` in the middle of a long history: the next start reads only the rest."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from keeper.chain.history import UNSETTLED
from keeper.config import Settings, load
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.journal.snapshots import SnapshotReader
from keeper.units import Address
from tests.aave import Following, found as market_of, state

ROOT = Path(__file__).parents[2]
LENGTH = 900
"""Blocks of either half of the history."""
CAP = 20
"""Blocks of logs the provider gives at once."""
PATIENCE = 60.0
FEES = "chains.devnet.venues.uniswap.fees=[3000]"
"""Exchanges are not what is looked at: the pools with the closest ticks take seconds to load."""
TOO_LONG = {"code": -32005, "message": f"block range over {CAP}"}

Range = tuple[int, int]


class Provider:
    """Stands before a node; holds every range of a token's logs back while `is_holding`."""

    def __init__(self, node: str, token: bytes) -> None:
        self._node = node
        self._token = "0x" + token.hex()
        self._held: list[asyncio.Event] = []
        self.is_holding = True
        self.given: list[Range] = []

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/", self._serve)
        async with aiohttp.ClientSession() as self._session, TestServer(app) as server:
            yield str(server.make_url("/"))

    def let_one_through(self) -> None:
        """Answer the oldest range that is held."""
        if self._held:
            self._held.pop(0).set()

    def let_through(self) -> None:
        """Answer everything from now on."""
        self.is_holding = False
        while self._held:
            self.let_one_through()

    async def _serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        asked = orjson.loads(body)
        span = self._history(asked) if isinstance(asked, dict) else None
        if span is not None:
            if span[1] - span[0] >= CAP:
                return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "error": TOO_LONG})
            if self.is_holding:
                self._held.append(held := asyncio.Event())
                await held.wait()
            self.given.append(span)
        sent = {"Content-Type": "application/json"}
        async with self._session.post(self._node, data=body, headers=sent) as answer:
            return web.Response(body=await answer.read(), content_type="application/json")

    def _history(self, asked: dict[str, Any]) -> Range | None:
        if asked["method"] != "eth_getLogs":
            return None
        (query,) = asked["params"]
        named = query.get("address", ())
        if "fromBlock" not in query or self._token not in map(str.lower, named):
            return None
        return int(query["fromBlock"], 16), int(query["toBlock"], 16)


@contextmanager
def keeper(home: Path, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command line in a process of its own, and leave none behind."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEEPER_")}
    command = [sys.executable, "-m", "keeper", "run", "-c", str(config), "--set", FEES]
    with (home / "output").open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**kept, "PYTHONPATH": str(ROOT), "KEEPER_HOME": str(home)},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    """Return what the journal holds, nothing before it is there."""
    with suppress(sqlite3.OperationalError):
        file = f"{settings.journal_file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(file, uri=True)) as db:
            return db.execute(query).fetchall()
    return []


async def until(
    process: subprocess.Popen[bytes], home: Path, is_so: Callable[[], bool], between: float = 0.15
) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            assert process.poll() is None, (home / "output").read_text()
            await asyncio.sleep(between)


async def test_a_keeper_killed_within_a_long_history_reads_only_the_rest(
    net: Devnet, tmp_path: Path
) -> None:
    net.automine(True)
    for seed in (1, 2):
        await asyncio.to_thread(partial(net.borrowers, 4, health=(1.02, 1.05), seed=seed))
        await asyncio.to_thread(net.mine, LENGTH)
    provider = Provider(net.ws_url.replace("ws", "http", 1), net.tokens["WETH"].a_token)
    async with provider.served() as url:
        operator = await asyncio.to_thread(deploy_operator, net)
        config = write_settings(net, operator, tmp_path, live=False, endpoint=url)
        settings = load([config]).settings
        with keeper(tmp_path, config) as process:

            def is_saved() -> bool:
                provider.let_one_through()
                return bool(rows(settings, "SELECT 1 FROM scans"))

            await until(process, tmp_path, is_saved)
            process.kill()
            assert await asyncio.to_thread(process.wait) == -9
        saved = rows(settings, "SELECT first, last FROM scans")
        read = sum(last - first + 1 for first, last in saved)
        assert 0 < read < 2 * LENGTH - UNSETTLED, "it was killed too late to show anything"
        assert not rows(settings, "SELECT 1 FROM snapshots")
        provider.let_through()
        provider.given.clear()
        with keeper(tmp_path, config) as process:
            written = "SELECT 1 FROM snapshots WHERE checksum IS NOT NULL"
            await until(process, tmp_path, lambda: bool(rows(settings, written)))
            process.terminate()
            assert await asyncio.to_thread(process.wait) == 0, (tmp_path / "output").read_text()
    again = [
        (start, end)
        for start, end in provider.given
        for first, last in saved
        if start <= last and end >= first
    ]
    assert provider.given
    assert not again, "ranges that were on disk were read again"
    (chain,) = settings.chains
    found = (await SnapshotReader(settings.journal_file).found(chain))[0]
    following = await asyncio.to_thread(Following, net, net.market.pool)
    assert found.head == following.head
    pool = Address(net.market.pool)
    restored = await market_of(following.reader, pool, found.head, "aave")
    restored.restore(SnapshotReader(settings.journal_file).read(found)("market/aave"))
    assert state(restored._ledger) == state(following.ledger)
    assert restored.borrowers() >= 8
