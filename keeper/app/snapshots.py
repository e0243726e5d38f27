"""Take snapshots of one chain's book while it is in use."""

import asyncio
from collections.abc import Callable

import structlog

from keeper.app.watched import Watched
from keeper.book.book import Book
from keeper.journal.snapshots import Snapshot, SnapshotStore
from keeper.ports import Clock
from keeper.types import Head

log = structlog.get_logger(__name__)

RETRY_SECONDS = 60.0


class Snapshots:
    """Write the book to disk every so often; a failure is told and tried again, and stops nothing.

    `taken` is told of each snapshot and the seconds it took, `failed` of each that was not written.
    A book with a stopped part is not written: what that part holds is not trusted. Nor is one that
    was restored and not yet compared with the chain, which `is_settled` says.
    """

    def __init__(
        self,
        chain: str,
        book: Book,
        watched: Watched,
        store: SnapshotStore,
        clock: Clock,
        every: float,
        taken: Callable[[Snapshot, float], None],
        failed: Callable[[], None],
        is_settled: Callable[[], bool] = lambda: True,
    ) -> None:
        self._chain = chain
        self._book = book
        self._watched = watched
        self._store = store
        self._clock = clock
        self._every = every
        self._taken = taken
        self._failed = failed
        self._is_settled = is_settled
        self._due = asyncio.Event()
        self._turn = asyncio.Lock()
        self._last: Head | None = None
        self._pause = every
        self._distrusted = False
        self._doubts = 0

    def hurry(self) -> None:
        """Take the next one at once: the book was read from the chain, which is long work."""
        self._due.set()

    def distrust(self) -> None:
        """Throw away what was taken so far: what turned out to be wrong may have been so then."""
        self._distrusted = True
        self._doubts += 1
        self._due.set()

    @property
    def is_distrusted(self) -> bool:
        """Tell whether what is on disk is still to be thrown away."""
        return self._distrusted

    async def run(self) -> None:
        """Take one whenever it is due, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._pause):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            self._pause = self._every
            try:
                await self.take()
            except Exception as error:  # noqa: BLE001 - the record of a book must not stop its use
                self._pause = min(self._every, RETRY_SECONDS)
                self._failed()
                log.error(  # noqa: TRY400 - expected of a full disk, and told in one line
                    "snapshot.failed",
                    chain=self._chain,
                    error=str(error) or type(error).__name__,
                    retry_seconds=self._pause,
                )

    async def take(self) -> None:
        """Freeze the book at its head and write it; nothing when there is nothing new or right."""
        async with self._turn:
            if self._distrusted:
                await self._discard()
            head = self._book.head
            if head is None or head == self._last or not self._is_settled():
                return
            if self._book.parts.faults:
                log.info(
                    "snapshot.left_out", chain=self._chain, stopped=list(self._book.parts.faults)
                )
                return
            # No await up to here from the look at the head: all of it is frozen at that block.
            frozen = self._watched.snapshot()
            began = self._clock.monotonic()
            made = await self._store.save(
                self._chain,
                head,
                self._watched.fingerprint,
                frozen,
                lambda: not self._distrusted,
            )
            if made is None:
                # A doubt came meanwhile: what is on disk goes at once, before anything is awaited.
                await self._discard()
                return
            self._last = head
            self._taken(made, self._clock.monotonic() - began)

    async def _discard(self) -> None:
        """Delete every snapshot there is; none counts from the first step on."""
        doubts = self._doubts
        for block in await self._store.disown(self._chain):
            log.warning("snapshot.distrusted", chain=self._chain, block=block)
        self._last = None
        # Whatever ends this early, and a doubt that came meanwhile, leaves them to be thrown away.
        self._distrusted = self._doubts != doubts
