"""Keep one chain's book right: tell what stops, load it anew, audit the rest."""

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog

from keeper.app.endpoints import Connection
from keeper.app.foresight import Foresight
from keeper.app.snapshots import Snapshots
from keeper.app.survey import Survey
from keeper.book.auditor import Auditor
from keeper.book.book import Book
from keeper.book.faults import Fault, FaultKind
from keeper.book.parts import part_of
from keeper.book.rejoin import Rebuilder
from keeper.book.widen import Widener
from keeper.chain.blocks import Blocks
from keeper.chain.reader import ChainReader
from keeper.config import Chain
from keeper.config.schema import Audit
from keeper.engine import Report
from keeper.metrics import Metrics
from keeper.observers.observation import Event
from keeper.planning.rules import PlanRules
from keeper.ports import Offering
from keeper.types import Head
from keeper.units import Address

log = structlog.get_logger(__name__)

STOPPED = {"market": "market.stopped", "venue": "venue.stopped"}
REBUILT = {"market": "market.rebuilt", "venue": "venue.rebuilt"}
WRONG = frozenset({FaultKind.DRIFT, FaultKind.INVARIANT})
"""Faults of which nobody knows since when they are there: it may be longer than a snapshot."""
FAILED = {"market": "market.rebuild_failed", "venue": "venue.rebuild_failed"}


class Upkeep:
    """Rebuild what stops, audit what does not, and widen the venues to what markets list.

    All of it beside the line; nothing here ends the chain.
    """

    def __init__(
        self,
        chain: str,
        table: Chain,
        audit: Audit,
        connection: Connection,
        reader: ChainReader,
        book: Book,
        metrics: Metrics,
        snapshots: Snapshots,
        rules: Callable[[], PlanRules],
        *,
        seed: Callable[[], int] = lambda: random.getrandbits(64),
    ) -> None:
        self._chain = chain
        self._snapshots = snapshots
        self._book = book
        self._metrics = metrics
        self._protocols = {
            **{f"market/{name}": market.protocol.protocol for name, market in book.markets.items()},
            **{f"venue/{name}": entry.venue for name, entry in table.venues.items()},
        }
        known = {part: self._protocol(part) for part in book.parts.names}
        metrics.parts(chain, known, stopped=lambda: book.stopped)
        blocks = Blocks(connection.rpc, trust_bloom=table.trust_bloom)
        self.survey = Survey(chain, book.markets, metrics)
        offering = {
            name.partition("/")[2]: source
            for name, source in book.sources.items()
            if isinstance(source, Offering)
        }
        self.foresight = Foresight(chain, book, offering, rules)
        self.widener = Widener(book, reader, blocks, self._widened, self._not_widened)
        self.rebuilder = Rebuilder(
            book,
            reader,
            blocks,
            book.load_market,
            self._rebuilt,
            self._failed,
        )
        self.auditor = Auditor(
            chain,
            book,
            reader,
            ChainReader(connection.second, table.multicall),
            self._checked,
            heads=audit.heads,
            sample=audit.sample,
            seed=seed,
        )

    def begin(self, *, restored: bool) -> None:
        """Tell what is stopped from the start.

        What a snapshot holds as stopped is loaded anew: its rules may be known by now, and pools made
        since are looked for. After the whole book was loaded anew, it is told again.
        """
        if restored:
            self.widener.search()
        head = self._book.head
        for name, market in self._book.markets.items():
            why = market.protocol.stopped
            if not why or f"market/{name}" in self._book.parts.faults:
                continue
            if restored and head is not None:
                fault = Fault(FaultKind.UPGRADED, why, head.number)
                self._book.parts.stop(f"market/{name}", fault)
            else:
                log.error(STOPPED["market"], chain=self._chain, name=name, why=why)

    def stopped(self, part: str, fault: Fault) -> None:
        """Tell of a part that stopped, and have it loaded anew."""
        kind, _, name = part.partition("/")
        log.error(
            STOPPED[kind],
            chain=self._chain,
            name=name,
            kind=str(fault.kind),
            head=fault.block,
            why=fault.why,
        )
        self._metrics.fault(self._chain, part, fault.kind)
        if fault.kind in WRONG:
            self._snapshots.distrust()
        self.rebuilder.wake()

    def observe(self, subject: Report | Event) -> None:
        """Count heads that were decided on, after their send."""
        if isinstance(subject, Report):
            self.auditor.head_done()
            self.widener.look()
        self.survey.observe(subject)
        self.foresight.observe(subject)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.rebuilder.run(), name=f"{self._chain}-rebuilder")
            tasks.create_task(self.auditor.run(), name=f"{self._chain}-auditor")
            tasks.create_task(self.widener.run(), name=f"{self._chain}-widener")
            tasks.create_task(self.survey.run(), name=f"{self._chain}-survey")
            tasks.create_task(self.foresight.run(), name=f"{self._chain}-foresight")

    def _rebuilt(self, part: str, head: Head, seconds: float) -> None:
        kind, _, name = part.partition("/")
        self._metrics.rebuild(self._chain, part, ok=True)
        fields = {"chain": self._chain, "name": name, "head": head.number}
        still = self._book.stopped.get(part)
        if still is None:
            log.info(REBUILT[kind], **fields, took=f"{seconds:.3f}s")
            self._snapshots.hurry()
        else:
            log.error(STOPPED[kind], **fields, why=still)

    def _failed(self, part: str, error: Exception, pause: float) -> None:
        kind, _, name = part.partition("/")
        self._metrics.rebuild(self._chain, part, ok=False)
        log.error(
            FAILED[kind],
            chain=self._chain,
            name=name,
            error=str(error) or type(error).__name__,
            retry_seconds=round(pause, 1),
        )

    def _widened(self, part: str, tokens: Sequence[Address], head: Head) -> None:
        known, name = self._book.tokens(), part.partition("/")[2]
        if not tokens:
            log.info("venue.searched", chain=self._chain, name=name, head=head.number)
            return
        log.info(
            "venue.widened",
            chain=self._chain,
            name=name,
            tokens=[known[token].symbol for token in tokens if token in known],
            head=head.number,
        )

    def _not_widened(self, part: str, error: Exception, pause: float | None) -> None:
        log.warning(
            "venue.not_widened",
            chain=self._chain,
            name=part.partition("/")[2],
            error=str(error) or type(error).__name__,
            retry_seconds=None if pause is None else round(pause, 1),
        )

    def _checked(self, source: str, values: int, drifts: int) -> None:
        self._metrics.audited(self._chain, self._protocol(part_of(source)), values, drifts)

    def _protocol(self, part: str) -> str:
        return self._protocols.get(part, part.partition("/")[2])
