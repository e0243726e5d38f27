"""One process: what its chains share, and the tasks that keep them going."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import PackageNotFoundError, version as installed_version
from types import TracebackType
from typing import Any, Self

import structlog
from eth_utils.address import to_checksum_address

from keeper.app.clock import SystemClock
from keeper.app.line import Line, Process, open_line
from keeper.config import Settings
from keeper.errors import InvariantError
from keeper.http import Lag, StatusServer
from keeper.journal.home import HomeLock, open_home
from keeper.journal.sqlite import SqliteJournal
from keeper.metrics import ChainLabels, Metrics
from keeper.observers.status import whole
from keeper.plugins import load_strategies
from keeper.signers import Ask, operator_address
from keeper.supervisor import supervise

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 25.0
"""How long a stopping keeper follows what it has sent: two blocks, and less than the half minute
after which orchestrators kill. The journal keeps the rest."""


class Keeper:
    """A keeper put together from settings; enter it, then `run` it."""

    def __init__(self, settings: Settings, *, live: bool, ask: Ask | None = None) -> None:
        self._settings = settings
        self._live = live
        self._ask = ask
        self._clock = SystemClock()
        self._started = self._clock.monotonic()
        self._stack = AsyncExitStack()
        self.lines: dict[str, Line] = {}
        self._stopped: set[str] = set()
        self.metrics: Metrics
        self.server: StatusServer
        self._lag: Lag

    @property
    def mode(self) -> str:
        """Return live or dry."""
        return "live" if self._live else "dry"

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        settings = self._settings
        strategies = load_strategies(settings)
        wallets = {
            name: to_checksum_address(
                await operator_address(chain.wallet, f"chains.{name}.wallet", os.environ, self._ask)
            )
            for name, chain in settings.chains.items()
            if chain.wallet is not None
        }
        self.metrics = self._make_metrics([named.name for named in strategies], wallets)
        lock = HomeLock(open_home(settings.journal.home))
        lock.acquire()
        self._stack.callback(lock.release)
        journal = SqliteJournal(
            settings.journal_file,
            self._clock,
            settings.journal.keep_days,
            self.metrics.journal_dropped,
        )
        journal.open()
        self._stack.callback(journal.close)
        self._lag = Lag(self.metrics.loop_lag)
        self.server = StatusServer(
            settings.http.host,
            settings.http.port,
            self.metrics.registry,
            self.status,
            self.is_ready,
            lambda: self._lag.seconds,
        )
        await self._stack.enter_async_context(self.server)
        process = Process(
            settings,
            self._live,
            journal,
            settings.journal_file,
            self.metrics,
            self._clock,
            self._ask,
        )
        for name, chain in settings.chains.items():
            self.lines[name] = await open_line(process, name, chain, strategies, self._stack)
            self._stack.callback(self.lines[name].strategist.close)
            log.info("chain.synced", chain=name, **_extent(self.lines[name]))

    async def run(self) -> None:
        """Follow and decide until cancelled, then finish what was begun."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lag.run(), name="lag")
                for name, line in self.lines.items():
                    tasks.create_task(self._work(line), name=name)
        finally:
            for line in self.lines.values():
                line.observation.flush()

    async def _work(self, line: Line) -> None:
        """Keep one chain going; when it fails the others go on, and the last one ends the process."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for part, work in (
                    ("listener", line.listener.run()),
                    ("engine", line.engine.run()),
                    ("observers", line.observation.run()),
                    ("upkeep", line.upkeep.run()),
                ):
                    tasks.create_task(work, name=f"{line.name}-{part}")
        except ExceptionGroup as group:
            error = group.exceptions[0]
            self._stopped.add(line.name)
            log.exception("chain.stopped", chain=line.name, error=str(error))
            if _is_shared(error) or self._stopped >= self.lines.keys():
                raise
            await self._finish(line)

    async def _finish(self, line: Line) -> None:
        """Follow what a stopped chain has sent, whatever comes of it."""
        try:
            await line.executor.drain(DRAIN_SECONDS)
        except Exception as error:
            log.exception("chain.not_followed", chain=line.name, error=str(error))
        line.observation.flush()

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Follow pending transactions for a bounded time; no new plan is made."""
        lines = self.lines.values()
        drains = [line.executor.drain(seconds) for line in lines]
        ended = await asyncio.gather(*drains, return_exceptions=True)
        for line in lines:
            line.observation.flush()
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    def is_ready(self) -> bool:
        """Say whether every configured chain is followed and decided on."""
        self._look_at_phases()
        known = self.lines.keys() == self._settings.chains.keys()
        return known and all(line.status.is_ready for line in self.lines.values())

    def _look_at_phases(self) -> None:
        for name, line in self.lines.items():
            phase = "stopped" if name in self._stopped else str(line.listener.state.phase)
            line.status.phase = phase

    def status(self) -> dict[str, Any]:
        """Return the status page's content."""
        self._look_at_phases()
        uptime = self._clock.monotonic() - self._started
        chains = {name: line.status for name, line in self.lines.items()}
        return whole(version(), self.mode, uptime, chains)

    def _make_metrics(self, strategies: Sequence[str], wallets: Mapping[str, str]) -> Metrics:
        chains = {}
        for name, chain in self._settings.chains.items():
            chains[name] = ChainLabels(
                block_time=chain.block_time,
                protocols=sorted({market.protocol for market in chain.markets.values()}),
                endpoints=[endpoint.alias for endpoint in chain.endpoints],
                wallet=wallets.get(name),
            )
        return Metrics(
            version=version(), commit="", mode=self.mode, chains=chains, strategies=strategies
        )


def _is_shared(error: Exception) -> bool:
    """Whether an error is of what all chains stand on: without a record nothing is sent."""
    return isinstance(error, InvariantError) and error.scope == "journal"


def version() -> str:
    """Return the installed version."""
    try:
        return installed_version("keeper")
    except PackageNotFoundError:
        return "0"


async def run(settings: Settings, live: bool, ask: Ask | None = None) -> int:
    """Run a keeper until a signal or a failure; return the exit code."""
    async with Keeper(settings, live=live, ask=ask) as keeper:
        log.info("keeper.started", mode=keeper.mode, status=keeper.server.address)
        return await supervise(keeper.run, keeper.drain)


def _extent(line: Line) -> dict[str, int]:
    head = line.book.head
    return {
        "head": 0 if head is None else head.number,
        "borrowers": sum(m.protocol.borrowers() for m in line.book.markets.values()),
        "reserves": len(line.book.tokens()),
    }
