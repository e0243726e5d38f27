"""The keeper under test: endpoints, listener, book and engine as the application puts them together.

Only what waits is shorter, so that a dead socket is noticed in tenths of a second, and where a
strategy would choose there is none: what is looked at is the view it would be shown.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import cast

from keeper.app.clock import SystemClock
from keeper.app.lenders import allowed_by
from keeper.app.line import Unproven, make_planner
from keeper.app.recovery import Recovery
from keeper.app.watched import Watched
from keeper.book.book import Book
from keeper.chain.connect import connect_pool
from keeper.chain.endpoint import repeating
from keeper.chain.heads import HeadFeed
from keeper.chain.listener import Count, Listener
from keeper.chain.reader import ChainReader
from keeper.config import Chain, Settings
from keeper.engine import Engine, Fetched, Report, read_prices
from keeper.errors import KeeperError
from keeper.execution.executor import Executor
from keeper.journal.snapshots import Snapshot, SnapshotStore
from keeper.planning.planner import Planner
from keeper.ports import Rpc
from keeper.risk import Lists
from keeper.strategist import Strategist
from keeper.types import Head
from keeper.units import Address, Hash
from tests.fake_node import FakeAdmission, FakeJournal

NAME = "devnet"
REQUEST_SECONDS = 0.4
LIVENESS_SECONDS = 0.8
SETTLE_SECONDS = 20.0
"""Longest wait for a decision on a head; reaching it is a failure, not a delay."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Whom one decision found at risk, unpriced ones included."""

    head: Head
    borrowers: frozenset[Address]


class NoSnapshots:
    """A store in which nothing was ever saved; those that were are the killed keepers' part."""

    async def found(self, chain: str) -> list[Snapshot]:
        """Return none."""
        return []


class Rig:
    """A running keeper and what its decisions saw."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.seen: list[Seen] = []
        self.undecided: list[tuple[Head, Exception]] = []
        self.counts: Counter[str] = Counter()
        self.listener: Listener[Fetched]
        self.tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    async def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let the keeper go on until a condition holds; False when the time is over first.

        Raises what ended the keeper.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    changing = asyncio.ensure_future(self._changed.wait())
                    try:
                        await asyncio.wait(
                            {changing, *self.tasks}, return_when=asyncio.FIRST_COMPLETED
                        )
                    finally:
                        changing.cancel()
                    for task in self.tasks:
                        if task.done():
                            task.result()
                            raise AssertionError("the keeper ended by itself")
        return condition()

    async def decide(self, block: Hash) -> bool:
        """Wait for what a head comes to; tell whether it was decided on."""

        def known() -> bool:
            heads = [*(seen.head for seen in self.seen), *(head for head, _ in self.undecided)]
            return any(head.hash == block for head in heads)

        if not await self.run_until(known, SETTLE_SECONDS):
            at = self.book.head
            state = self.listener.state
            raise AssertionError(
                f"no decision on 0x{block.hex()[:8]} in {SETTLE_SECONDS:g} s: "
                f"the book stands at {at and at.number}, the listener is {state}"
            )
        return any(seen.head.hash == block for seen in self.seen)

    def tell(self, report: Report) -> None:
        """Take an engine's report."""
        whom = {risk.position.borrower for risk in report.view.at_risk}
        whom |= {skip.borrower for skip in report.skips}
        self.seen.append(Seen(report.view.head, frozenset(whom)))
        self._changed.set()

    def on_undecided(self, head: Head, error: Exception) -> None:
        """Take a head without a decision; an error that is none of ours is a defect."""
        assert isinstance(error, KeeperError), f"undecided at {head.number}: {error!r}"
        self.undecided.append((head, error))
        self._changed.set()

    def count(self, what: Count, number: int) -> None:
        """Take what the listener counts."""
        self.counts[str(what)] += number


@contextlib.asynccontextmanager
async def rigged(settings: Settings, urls: Sequence[str]) -> AsyncIterator[Rig]:
    """Run a keeper on these endpoints, from its first decision to the end of the body."""
    chain = settings.chains[NAME]
    async with AsyncExitStack() as stack:
        rpc, feed = await _open_endpoints(chain, urls, stack)
        reader = ChainReader(rpc, chain.multicall)
        # Nothing was done to the endpoints yet: a busy machine alone keeps them from answering.
        patiently = repeating(12)
        watched: Watched = await patiently(Watched.discover, reader, NAME, chain)
        store = cast("SnapshotStore", NoSnapshots())
        recovery = Recovery(NAME, reader, reader, watched, store, lambda: 1)
        loaded: Head = await patiently(recovery.load)
        rig = Rig(make_book(watched))

        async def recover(reason: str) -> None:
            await recovery.rebuild(reason, rig.book, rig.listener.catch_up)

        rig.listener = Listener(
            NAME,
            rpc,
            feed,
            rig.book,
            partial(read_prices, rig.book, reader),
            recover=recover,
            liveness=LIVENESS_SECONDS,
            count=rig.count,
            shortest_pause=0.01,
            longest_pause=0.05,
        )
        await recovery.settle(rig.book, loaded, rig.listener.catch_up)
        strategist = Strategist([], _raise)
        stack.callback(strategist.close)
        lists, allowed = Lists(), allowed_by(None)
        planner = make_planner(NAME, chain, watched, settings, frozenset, lists, allowed)
        engine = _engine(rig, rpc, reader, strategist, planner, chain)
        rig.tasks = [
            asyncio.create_task(rig.listener.run()),
            asyncio.create_task(engine.run()),
        ]
        try:
            assert await rig.decide(loaded.hash), "the first head was not decided on"
            yield rig
        finally:
            for task in rig.tasks:
                task.cancel()
            await asyncio.gather(*rig.tasks, return_exceptions=True)


def make_book(watched: Watched) -> Book:
    """Return a book of sources that were loaded."""
    markets, venues = list(watched.markets.values()), list(watched.venues.values())
    return Book(NAME, markets, venues, watched.native)


async def _open_endpoints(
    chain: Chain, urls: Sequence[str], stack: AsyncExitStack
) -> tuple[Rpc, HeadFeed]:
    named = [(url, f"number-{number}") for number, url in enumerate(urls)]
    return await stack.enter_async_context(
        connect_pool(
            named,
            chain.chain_id,
            poll_interval=0.02,
            probe_interval=0.3,
            shortest_probe_interval=0.05,
            patience=REQUEST_SECONDS,
            longest_request=REQUEST_SECONDS,
            stagger=0.1,
        )
    )


def _engine(
    rig: Rig,
    rpc: Rpc,
    reader: ChainReader,
    strategist: Strategist,
    planner: Planner,
    chain: Chain,
) -> Engine:
    clock = SystemClock()
    executor = Executor(
        NAME,
        chain.chain_id,
        rpc,
        [],
        FakeJournal(),
        FakeAdmission(),
        lambda *_: [],
        lambda _: "",
        rig.book.holds,
        clock,
        _ignore,
        live=False,
    )
    return Engine(
        rig.listener,
        reader,
        rig.book,
        strategist,
        planner,
        Unproven(),
        executor,
        clock,
        chain.block_time,
        200,
        rig.tell,
        rig.on_undecided,
    )


def _raise(error: Exception) -> None:
    raise error


def _ignore(_: str, __: Mapping[str, object]) -> None:
    pass
