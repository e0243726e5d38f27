"""A second instance that has every trouble a healthy local chain does not give.

Its metrics are the keeper's own, moved by the keeper's own methods and served by its own server.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keeper.http import StatusServer
from keeper.metrics import ChainLabels, Metrics
from keeper.types import Head, Receipt, Reverted
from keeper.units import Hash, Wei

WALLET = "0x" + "22" * 20
HASH = Hash(b"\x01" * 32)


class Ailing:
    """An instance on four chains: one in trouble, one stuck, one that never started, one stale."""

    TROUBLE, STUCK, UNSTARTED, STALE = "trouble", "stuck", "unstarted", "stale"
    CHAINS = TROUBLE, STUCK, UNSTARTED, STALE

    def __init__(self) -> None:
        labels = ChainLabels(12, ["aave-v3"], endpoints=["e"], wallets=[WALLET])
        self.metrics = Metrics(
            version="0",
            commit="0",
            mode="live",
            chains=dict.fromkeys(self.CHAINS, labels),
            strategies=["s"],
        )
        self.waiting = 0
        self.metrics.channels(["chat"], lambda _: self.waiting)
        self.up = True
        self.stopped: tuple[str, ...] = ()
        for chain in self.CHAINS:
            self.metrics.endpoints(chain, ["e"], self._standing)
        self.metrics.parts(self.TROUBLE, {"market/m": "aave-v3"}, stopped=lambda: self.stopped)
        for chain in (self.TROUBLE, self.STUCK):
            self.metrics.head(chain, head(int(time.time()) + 3600))
        self.metrics.head(self.STALE, head(int(time.time()) - 60))

    def _standing(self, alias: str) -> tuple[bool, int | None]:
        return self.up, 0

    async def worsen(self) -> None:
        """Get into trouble, and stay there until cancelled."""
        metrics, chain = self.metrics, self.TROUBLE
        self.up, self.stopped, self.waiting = False, ("market/m",), 2
        metrics.breaker(chain, "loss", is_open=True)
        metrics.audited(chain, "aave-v3", 10, 1)
        metrics.plugin_error("s")
        metrics.strategies(["s"], 1, time.time(), failed=True)
        metrics.snapshot(chain, time.time() - 3700, 1, 1.0)
        metrics.book_rebuilt(chain)
        metrics.oracle(chain, "m", "WETH", 10_000, 3_600, 0.005, None)
        metrics.missed(chain, "aave-v3", "late", "other")
        metrics.journal_dropped(3)
        metrics.wallet(self.STUCK, WALLET, Wei(10**18), 1, is_low=False)
        reverted: Receipt = Reverted("id", HASH, 1, 21_000, Wei(1), "a rival was first")
        while True:
            metrics.receipt(chain, reverted)
            metrics.rpc("e", "eth_call", "timeout", 0.1)
            metrics.rpc("e", "eth_call", "ok", 0.1)
            metrics.loop_lag(0.4)
            await asyncio.sleep(0.25)


def head(timestamp: int) -> Head:
    """Return a head of some time."""
    return Head(1, HASH, HASH, timestamp, Wei(1), 1, 2)


@asynccontextmanager
async def served(ailing: Ailing) -> AsyncIterator[str]:
    """Serve an instance; yield its host and port."""
    server = StatusServer("127.0.0.1", 0, ailing.metrics.registry, dict, lambda: True, lambda: 0.0)
    async with server:
        yield server.address.removeprefix("http://")
