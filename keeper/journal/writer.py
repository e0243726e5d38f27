"""One thread that owns the database: urgent writes first, observations next, spare ones last."""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from keeper.errors import InvariantError
from keeper.journal.home import PRIVATE_FILE
from keeper.journal.migration import migrate

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], T]

BATCH = 64
"""Observations written between two looks at the urgent queue."""


class Writer:
    """Apply writes in order; what waits together is committed together, on disk before it returns.

    Urgent writes go ahead of observations, and those of spare ones. `offer` never blocks: a full
    queue refuses.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self._path = path
        self._capacity = capacity
        self._urgent: deque[tuple[Write[object], Future[object]]] = deque()
        self._observed: deque[Write[object]] = deque()
        self._spare: deque[tuple[Write[object], Future[object]]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """Open and migrate the database, then start writing; raise `ConfigError` when it cannot."""
        connection = connect(self._path)
        try:
            migrate(connection)
        finally:
            connection.close()
        self._thread.start()

    async def write(self, write: Write[T]) -> T:
        """Run a write and return its result once it is on disk; raise `InvariantError` if it failed."""
        return await self._await(write, self._urgent)

    async def spare(self, write: Write[T]) -> T:
        """Do the same when nothing else waits, in a transaction of its own: keep it short."""
        return await self._await(write, self._spare)

    async def _await(
        self, write: Write[T], queue: deque[tuple[Write[object], Future[object]]]
    ) -> T:
        future: Future[T] = Future()
        with self._wake:
            if self._closing:
                raise InvariantError("journal", "it is closed")
            queue.append((write, future))  # type: ignore[arg-type]
            self._wake.notify()
        try:
            return await asyncio.wrap_future(future)
        except sqlite3.Error as error:
            raise InvariantError("journal", str(error)) from error

    def offer(self, write: Write[object]) -> bool:
        """Queue an observation; return False when the queue is full."""
        with self._wake:
            if self._closing or len(self._observed) >= self._capacity:
                return False
            self._observed.append(write)
            self._wake.notify()
        return True

    @property
    def failure(self) -> str | None:
        """Return why the last observation could not be written, None when it could."""
        return self._failure

    def close(self) -> None:
        """Write what is queued and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        connection = connect(self._path)
        try:
            while self._step(connection):
                pass
        finally:
            connection.close()
            self._refuse()

    def _refuse(self) -> None:
        """Let nobody wait for a thread that has ended."""
        with self._wake:
            self._closing = True
            waiting = [*self._urgent, *self._spare]
            self._urgent.clear()
            self._spare.clear()
        for _, future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(InvariantError("journal", "its thread has ended"))

    def _step(self, connection: sqlite3.Connection) -> bool:
        with self._wake:
            while not (self._urgent or self._observed or self._spare or self._closing):
                self._wake.wait()
            waiting = list(self._urgent)
            self._urgent.clear()
            observed: list[Write[object]] = []
            if not waiting:
                observed = [
                    self._observed.popleft() for _ in range(min(BATCH, len(self._observed)))
                ]
                if self._spare and not observed:
                    waiting = [self._spare.popleft()]
            if not (waiting or observed):
                return False
        # From here on nobody can cancel them: a result set on a cancelled future would raise.
        urgent = [each for each in waiting if each[1].set_running_or_notify_cancel()]
        if urgent:
            self._commit_awaited(connection, urgent)
        elif observed:
            self._commit_observed(connection, observed)
        return True

    def _commit_awaited(
        self,
        connection: sqlite3.Connection,
        urgent: list[tuple[Write[object], Future[object]]],
    ) -> None:
        """Commit all that waits at once; one that fails takes back only itself."""
        done: list[tuple[Future[object], object]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write, future in urgent:
                connection.execute("SAVEPOINT one")
                try:
                    done.append((future, write(connection)))
                except Exception as error:  # noqa: BLE001  # the caller gets it
                    connection.execute("ROLLBACK TO one")
                    future.set_exception(error)
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            roll_back(connection)
            for _, future in urgent:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in done:
            future.set_result(result)

    def _commit_observed(
        self, connection: sqlite3.Connection, observed: list[Write[object]]
    ) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in observed:
                write(connection)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # an observer must not end the record of money
            roll_back(connection)
            self._failure = f"{type(error).__name__}: {error}"
        else:
            self._failure = None


def roll_back(connection: sqlite3.Connection) -> None:
    """Take an open transaction back, if there is one."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def connect(path: Path) -> sqlite3.Connection:
    """Open the database for writing: WAL, and every commit on disk before it returns."""
    path.touch(mode=PRIVATE_FILE)
    path.chmod(PRIVATE_FILE)
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
