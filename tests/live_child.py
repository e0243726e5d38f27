"""`keeper run --live`, as its operator starts it, told to a pipe: each head it is done with, each record.

It is imported by the process that children are forked from. What is patched is patched in the child
alone: the keeper knows nothing of it.
"""

import asyncio
import inspect
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from keeper.app import keeper as app
from keeper.app.line import Line
from keeper.chain.endpoint import Endpoint
from keeper.cli import main
from keeper.engine import Engine
from keeper.errors import TransientError
from keeper.execution.executor import Executor
from keeper.execution.life import State
from keeper.journal.rows import STATES
from keeper.journal.sqlite import SqliteJournal
from keeper.ports import Journal

REOPENED, FINAL, LOST = "reopened", "final", "lost"
"""Records of a reorg, of the final depth and of relays' losses: no state of a transaction."""

READS = {"pending", "unfinal"}
RECORDS = sorted(
    name
    for name, method in vars(Journal).items()
    if inspect.iscoroutinefunction(method) and name not in READS
)
"""Every durable write of the seam between execution and the journal."""


@dataclass(frozen=True, slots=True)
class Step:
    """The n-th record of a kind in one process, and whether it is on disk.

    Receipts that are written together are of one kind: "replaced+included".
    """

    kind: str
    count: int
    is_written: bool

    @property
    def kinds(self) -> set[str]:
        """Return what it says of single transactions."""
        return set(self.kind.split("+"))

    def __str__(self) -> str:
        return f"{'after' if self.is_written else 'before'} {self.kind} {self.count}"


def kind_of(name: str, arguments: tuple[Any, ...]) -> str:
    """Return what a record says; raise `KeyError` for a record this does not know."""
    match name:
        case "planned":
            return State.BUILT
        case "signed":
            return State.SIGNED
        case "sent":
            return State.SENT if arguments[1] else State.SEEN
        case "settled":
            return "+".join(STATES[type(receipt)] for receipt in arguments)
        case "lost":
            return LOST
        case "reopened":
            return REOPENED
        case "finished":
            return FINAL
        case _:
            raise KeyError(name)


def run(arguments: list[str], output: Path, pipe: Connection, end: Step | None, lost: bool) -> None:
    """Run the command line; die at a step, and let the first answer to a send be lost if wanted."""
    with output.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    _tell_records(pipe, end)
    _tell_heads(pipe)
    if lost:
        _lose_an_answer()
    sys.argv = ["keeper", *arguments]
    main()


def _tell_records(pipe: Connection, end: Step | None) -> None:
    counts: Counter[str] = Counter()

    def reach(step: Step) -> None:
        pipe.send(("step", step))
        if step == end:
            os.kill(os.getpid(), signal.SIGKILL)

    def told(name: str) -> Any:
        write = getattr(SqliteJournal, name)

        async def record(journal: SqliteJournal, *given: Any) -> None:
            kind = str(kind_of(name, given))
            counts[kind] += 1
            count = counts[kind]
            reach(Step(kind, count, is_written=False))
            await write(journal, *given)
            reach(Step(kind, count, is_written=True))

        return record

    for name in RECORDS:
        setattr(SqliteJournal, name, told(name))


def _tell_heads(pipe: Connection) -> None:
    """Tell each head once it is decided on and on record; audit the book whenever asked."""
    names, tick = vars(app), Engine.tick
    open_line = names["open_line"]
    audits: list[asyncio.Task[None]] = []

    async def opened(*given: Any) -> Line:
        line: Line = await open_line(*given)
        loop = asyncio.get_running_loop()

        def asked() -> None:
            pipe.recv()
            audits.append(loop.create_task(audit(line)))

        loop.add_reader(pipe.fileno(), asked)
        return line

    async def audit(line: Line) -> None:
        drifts = await line.book.audit(line.reader, 10_000, 1)
        pipe.send(("drifts", [str(drift) for drift in drifts]))

    async def ticked(engine: Engine, of: Any) -> None:
        await tick(engine, of)
        assert isinstance(engine._executor, Executor)
        await asyncio.gather(*engine._executor._records)
        pipe.send(("head", of.head.hash))

    names["open_line"] = opened
    Engine.tick = ticked  # type: ignore[assignment,method-assign]


def _lose_an_answer() -> None:
    request = Endpoint.request
    left = ["the first"]

    async def lossy(endpoint: Endpoint, method: str, params: Any) -> Any:
        answer = await request(endpoint, method, params)
        if method == "eth_sendRawTransaction" and left:
            left.pop()
            raise TransientError("no answer came")
        return answer

    Endpoint.request = lossy  # type: ignore[assignment,method-assign]
