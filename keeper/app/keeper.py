"""One process: what its chains share, and the tasks that keep them going."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import structlog
from eth_utils.address import to_checksum_address

from keeper.app.build import commit, version
from keeper.app.clock import SystemClock
from keeper.app.collection import Collection
from keeper.app.control import ControlSocket
from keeper.app.desk import Desk
from keeper.app.ending import Ending
from keeper.app.line import Line, Process, open_line
from keeper.app.margin import make_dispatcher
from keeper.app.opening import Opening
from keeper.app.progress import LoggedProgress
from keeper.app.strategies import Strategies
from keeper.app.unopened import Unopened
from keeper.config import Loaded, Settings
from keeper.errors import ConfigError, InvariantError
from keeper.http import Lag, StatusServer
from keeper.journal.home import HomeLock, open_home
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import SqliteJournal
from keeper.metrics import ChainLabels, Metrics
from keeper.notify.dispatcher import Dispatcher
from keeper.observers.status import Absence, whole
from keeper.ports import Progress
from keeper.relays import refuse_wallets
from keeper.signers import Ask, operator_addresses
from keeper.supervisor import supervise

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 25.0
"""How long a stopping keeper follows what it has sent: two blocks, and less than the half minute
after which orchestrators kill. The journal keeps the rest."""
KEEP_SECONDS = 10.0
"""Longest a stopping keeper writes its book down; without it the next start folds a little more."""


class Keeper:
    """A keeper put together from settings; enter it, then `run` it."""

    def __init__(
        self,
        settings: Settings,
        *,
        live: bool,
        ask: Ask | None = None,
        progress: Callable[[str], Progress] = LoggedProgress,
        again: Callable[[], Loaded] | None = None,
    ) -> None:
        self._settings = settings
        self._live = live
        self._ask = ask
        self._progress = progress
        self._clock = SystemClock()
        self._started = self._clock.monotonic()
        self._stack = AsyncExitStack()
        self.lines: dict[str, Line] = {}
        self._stopped: dict[str, str] = {}
        self._opening: Opening[Line]
        self.desk: Desk
        self.strategies = Strategies(settings, self.lines, self._clock, again)
        self.metrics: Metrics
        self.server: StatusServer
        self._lag: Lag
        self.dispatcher: Dispatcher
        self._collection: Collection

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
        self._stack.push_async_callback(self.strategies.close)
        await self.strategies.open()
        wallets = {}
        for name, chain in settings.chains.items():
            known = await operator_addresses(chain.lanes, f"chains.{name}", os.environ, self._ask)
            wallets[name] = [to_checksum_address(address) for address in known]
            refuse_wallets(
                settings,
                {f"{name}.{lane}": at for lane, at in zip(chain.lanes, wallets[name], strict=True)},
            )
        self.metrics = self._make_metrics(
            [named.name for named in self.strategies.current], wallets
        )
        self.strategies.show(self.metrics)
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
        unopened = Unopened(
            *(journal, JournalReader(settings.journal_file).breakers, self._clock),
            lambda name: self.lines[name].risk if name in self.lines else None,
        )
        self._stack.push_async_callback(unopened.flush)
        self.desk = Desk(settings.chains, self.lines, unopened)
        self.dispatcher = make_dispatcher(settings, journal, self._clock, self.metrics)
        self._stack.push_async_callback(self.dispatcher.close)
        await self.dispatcher.open()
        self._lag = Lag(self.metrics.loop_lag)
        self._collection = self._stack.enter_context(Collection(self.metrics.gc_pause))
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
            self.dispatcher,
            self._ask,
            self._progress,
            self._collection.held,
        )

        async def open_one(name: str, stack: AsyncExitStack) -> Line:
            chosen = self.strategies.current
            line = await open_line(process, name, settings.chains[name], chosen, stack)
            stack.callback(line.strategist.close)
            self.lines[name] = line
            if chosen is not self.strategies.current:
                self.strategies.seat(name)
            self.desk.opened(name)
            self._collection.settle()
            log.info("chain.synced", chain=name, **_extent(line))
            return line

        control = ControlSocket(settings.journal.home, self.desk.command)
        await self._stack.enter_async_context(control)
        self._opening = Opening(settings.chains, open_one)
        self._stack.push_async_callback(self._opening.close)
        await self._opening.first_tries()

    async def run(self) -> None:
        """Follow and decide until cancelled, then finish what was begun."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lag.run(), name="lag")
                tasks.create_task(self.dispatcher.run(), name="notify")
                for name in self._settings.chains:
                    tasks.create_task(self._keep_going(name), name=name)
        finally:
            for line in self.lines.values():
                line.observation.flush()

    async def _keep_going(self, name: str) -> None:
        """Keep one chain going; when it fails the others go on, and the last one ends the process."""
        try:
            line = self.lines.get(name) or await self._opening.opened(name)
            await self._work(line)
        except Exception as group:
            error = _cause(group)
            self._stopped[name] = str(error)
            trace = None if isinstance(error, ConfigError) else error
            log.error("chain.stopped", chain=name, error=str(error), exc_info=trace)  # noqa: TRY400
            if _is_shared(error) or self._stopped.keys() >= self._settings.chains.keys():
                raise
            if name in self.lines:
                await self._finish(self.lines[name])

    async def _work(self, line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            for part, work in (
                ("listener", line.listener.run()),
                ("engine", line.engine.run()),
                ("observers", line.observation.run()),
                ("upkeep", line.upkeep.run()),
                ("snapshots", line.snapshots.run()),
            ):
                tasks.create_task(work, name=f"{line.name}-{part}")
            if line.treasury is not None:
                tasks.create_task(line.treasury.run(), name=f"{line.name}-treasury")
            if line.margin is not None:
                tasks.create_task(line.margin.run(), name=f"{line.name}-margin")

    async def _finish(self, line: Line) -> None:
        """Follow what a stopped chain has sent, whatever comes of it."""
        try:
            await line.observation.during(line.executor.drain(DRAIN_SECONDS))
        except Exception as error:
            log.exception("chain.not_followed", chain=line.name, error=str(error))

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Follow pending transactions for a bounded time, or cancel them; no new plan is made."""
        lines = list(self.lines.values())
        within = self.desk.cancelling
        drains = [
            line.observation.during(
                line.executor.drain(seconds) if within is None else line.executor.withdraw(within)
            )
            for line in lines
        ]
        keeps = [_write_down(line) for line in lines if line.name not in self._stopped]
        ended = await asyncio.gather(*drains, *keeps, return_exceptions=True)
        if within is not None:
            receipts = [
                each for some in ended[: len(lines)] if isinstance(some, list) for each in some
            ]
            still = [flight for line in lines for flight in line.executor.undecided]
            self.desk.ended(Ending.of(receipts, still))
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
        absent = {
            name: Absence(self._stopped.get(name), self._opening.reasons.get(name, ""))
            for name in self._settings.chains
            if name not in self.lines
        }
        return whole(version(), self.mode, uptime, chains, absent, self.strategies.as_json())

    def _make_metrics(
        self, strategies: Sequence[str], wallets: Mapping[str, Sequence[str]]
    ) -> Metrics:
        chains = {}
        for name, chain in self._settings.chains.items():
            chains[name] = ChainLabels(
                block_time=chain.block_time,
                protocols=sorted({market.protocol for market in chain.markets.values()}),
                endpoints=[endpoint.alias for endpoint in chain.endpoints],
                wallets=wallets[name],
                relays=list(chain.relays),
                rivals=list(chain.rivals),
            )
        return Metrics(
            version=version(),
            commit=commit(),
            mode=self.mode,
            chains=chains,
            strategies=strategies,
        )


async def _write_down(line: Line) -> None:
    try:
        async with asyncio.timeout(KEEP_SECONDS):
            await line.snapshots.take()
    except Exception as error:  # noqa: BLE001 - the one before is still there
        log.warning("snapshot.failed", chain=line.name, error=str(error) or "no time")


def _cause(error: Exception) -> Exception:
    """Return the first exception of nested groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_shared(error: Exception) -> bool:
    """Whether an error is of what all chains stand on: without a record nothing is sent."""
    return isinstance(error, InvariantError) and error.scope == "journal"


async def run(
    settings: Settings,
    live: bool,
    ask: Ask | None = None,
    progress: Callable[[str], Progress] | None = None,
    again: Callable[[], Loaded] | None = None,
) -> int:
    """Run a keeper until a signal or a failure; return the exit code.

    `progress` gives what is told how far the load of a chain is; without it that is logged. `again`
    reads the settings anew when SIGHUP asks for other strategies.
    """
    progress = progress or LoggedProgress
    async with Keeper(settings, live=live, ask=ask, progress=progress, again=again) as keeper:
        log.info("keeper.started", mode=keeper.mode, status=keeper.server.address)
        desk = keeper.desk
        return await supervise(
            keeper.run,
            keeper.drain,
            stop=desk.stopping,
            signals={
                signal.SIGHUP: keeper.strategies.request,
                signal.SIGUSR1: lambda: desk.pause("SIGUSR1"),
                signal.SIGUSR2: lambda: desk.resume("SIGUSR2"),
            },
        )


def _extent(line: Line) -> dict[str, int]:
    head = line.book.head
    return {
        "head": 0 if head is None else head.number,
        "borrowers": sum(m.protocol.borrowers() for m in line.book.markets.values()),
        "reserves": len(line.book.tokens()),
    }
