"""A real `keeper run --live` on the local chain, stepped head by head, killed and started again."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, write_settings
from tests.forked import prepare
from tests.live_child import Step, run

PATIENCE = 90.0
BASE_FEE = 10**9


class GoneError(Exception):
    """The process is gone."""


class Live:
    """One home, and the keeper that runs in it, if any."""

    def __init__(self, net: Devnet, home: Path, settings: Path, overrides: Sequence[str]) -> None:
        self.net = net
        self.home = home
        self.base_fee = BASE_FEE
        self.steps: list[Step] = []
        self.deaths = 0
        self.before_block: Callable[[], object] = lambda: None
        self._settings = settings
        self._overrides = tuple(overrides)
        self._process: BaseProcess | None = None
        self._pipe: Connection
        self._heads: set[bytes] = set()
        self._audits: list[list[str]] = []

    @property
    def output(self) -> Path:
        """Return where the processes write."""
        return self.home / "output"

    @property
    def options(self) -> list[str]:
        """Return what tells the command line of this keeper."""
        options = ["-c", str(self._settings)]
        for each in (f"journal.home={self.home}", *self._overrides):
            options += ["--set", each]
        return options

    def copied(self, home: Path, overrides: Sequence[str] = ()) -> "Live":
        """Return a keeper on a copy of this one's journal, not started yet, with more settings."""
        for file in self.home.glob("journal.sqlite*"):
            shutil.copy(file, home)
        return Live(self.net, home, self._settings, (*self._overrides, *overrides))

    @property
    def pid(self) -> int:
        """Return the running process."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def start(self, end: Step | None = None, *, lost: bool = False) -> None:
        """Start the process; it dies at a step if one is given."""
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("forkserver")
        arguments = ["run", "--live", *self.options]
        self._process = context.Process(
            target=run, args=(arguments, self.output, theirs, end, lost), daemon=True
        )
        self._process.start()
        theirs.close()
        self._heads.clear()

    def kill(self) -> None:
        """End the process as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self) -> int:
        """Return the exit code once the process has ended."""
        assert self._process is not None
        self._process.join(PATIENCE)
        code = self._process.exitcode
        assert code is not None, "the process goes on"
        self._process.close()
        self._pipe.close()
        self._process = None
        return code

    def settle(self) -> None:
        """Wait until the keeper is done with the chain's head; one that died is started again."""
        try:
            self._until_decided()
        except GoneError:
            assert self.wait() == -signal.SIGKILL, self.output.read_text()
            self.deaths += 1
            self.start()
            self._until_decided()

    def block(self, seconds: int = 12) -> None:
        """Make a block and let the keeper decide on it."""
        self._pin()
        self.net.mine(1, seconds)
        self.settle()

    def blocks(self, count: int) -> None:
        """Make blocks, each decided on."""
        for _ in range(count):
            self.block()

    def price(self, share: float) -> None:
        """Set the collateral's price to a share of what it is, pools included, in one block."""
        self._pin()
        self.net.set_price("WETH", int(self.net.price("WETH") * share))
        self.settle()

    def drifts(self) -> list[str]:
        """Return where the keeper's book is not the chain."""
        self._pipe.send("audit")
        before = len(self._audits)
        self._until(lambda: len(self._audits) > before)
        return self._audits[-1]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something the process does of its own."""
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, f"nothing in {PATIENCE} s"
            time.sleep(0.02)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Read the journal."""
        with closing(sqlite3.connect(f"file:{self.home}/journal.sqlite?mode=ro", uri=True)) as db:
            return db.execute(sql).fetchall()

    def _pin(self) -> None:
        self.before_block()
        self.net.rpc("anvil_setNextBlockBaseFeePerGas", hex(self.base_fee))

    def _until_decided(self) -> None:
        block = self.net.rpc("eth_getBlockByNumber", "latest", False)
        wanted = bytes.fromhex(block["hash"][2:])
        self._until(lambda: wanted in self._heads)

    def _until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            left = until - time.monotonic()
            assert left > 0, f"nothing in {PATIENCE} s\n{self.output.read_text()}"
            if self._pipe.poll(left):
                self._take()

    def _take(self) -> None:
        try:
            kind, told = self._pipe.recv()
        except (EOFError, OSError):
            raise GoneError from None
        match kind:
            case "head":
                self._heads.add(told)
            case "step":
                self.steps.append(told)
            case "drifts":
                self._audits.append(told)


@contextmanager
def living(
    net: Devnet, operator: Operator, home: Path, overrides: Sequence[str] = (), **settings: Any
) -> Iterator[Live]:
    """Start a keeper in an empty home, and let it decide on the head the chain stands at."""
    path = write_settings(net, operator, home, **settings)
    live = Live(net, home, path, overrides)
    prepare()
    live.start()
    try:
        live.settle()
        yield live
    finally:
        live.kill()
