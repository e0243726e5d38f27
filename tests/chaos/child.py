"""A whole keeper in a process of its own, to be killed: it tells what it sees over a pipe."""

import asyncio
import logging
from multiprocessing.connection import Connection
from pathlib import Path

import structlog

from keeper.app import Keeper
from keeper.app.line import Line
from keeper.chain.endpoint import connect
from keeper.chain.reader import ChainReader
from keeper.config import load
from keeper.engine import Report
from keeper.units import Address
from tests.chaos.rig import NAME, Seen
from tests.chaos.verdict import Chain, state


def follow(
    config: Path, node: str, pool: bytes, borrowers: list[Address], pipe: Connection
) -> None:
    """Run a keeper until told to end; an error is told and ends it."""
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    try:
        asyncio.run(_follow(config, node, pool, borrowers, pipe))
    except Exception as error:  # noqa: BLE001 - told to whoever waits for us
        pipe.send(("failed", f"{type(error).__name__}: {error}"))


async def _follow(
    config: Path, node: str, pool: bytes, borrowers: list[Address], pipe: Connection
) -> None:
    settings = load([config]).settings
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(pipe.fileno(), lambda: asked.put_nowait(pipe.recv()))

    def tell(subject: object) -> None:
        if isinstance(subject, Report):
            whom = {risk.position.borrower for risk in subject.view.at_risk}
            whom |= {skip.borrower for skip in subject.skips}
            pipe.send(("seen", Seen(subject.view.head, frozenset(whom))))

    async with Keeper(settings, live=False) as keeper, connect(node, "direct") as direct:
        (line,) = keeper.lines.values()
        line.observation.add(tell)
        chain = Chain(
            ChainReader(direct, settings.chains[NAME].multicall), pool, borrowers, settings
        )
        working = asyncio.create_task(keeper.run())
        asking = asyncio.create_task(_answer(asked, line, chain, pipe))
        try:
            await asyncio.wait({working, asking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, asking):
                task.cancel()
            ended = await asyncio.gather(working, asking, return_exceptions=True)
        loop.remove_reader(pipe.fileno())
        if isinstance(ended[0], Exception):
            raise ended[0]
    pipe.send(("ended", None))


async def _answer(asked: "asyncio.Queue[str]", line: Line, chain: Chain, pipe: Connection) -> None:
    """Tell of the book as often as asked, until told to end."""
    while (what := await asked.get()) != "end":
        if what == "snapshot":
            await line.snapshots.take()
            continue
        head = line.book.head
        assert head is not None
        drifts = [f"{part} stopped: {why}" for part, why in line.book.stopped.items()]
        drifts += [str(drift) for drift in await line.book.audit(chain.reader, 10_000, 1)]
        pipe.send(("state", (head, drifts, await state(line.book, chain, head))))
