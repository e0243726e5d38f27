"""One way to a book that stands on the chain: at start, after a deep reorg, after any loss."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from keeper.app.loading import load_at_newest
from keeper.app.watched import Watched
from keeper.book.book import Book
from keeper.book.faults import Fault, FaultKind
from keeper.errors import ConfigError, InvariantError, ReorgTooDeepError, TransientError
from keeper.journal.snapshots import Snapshot, SnapshotReader
from keeper.ports import Reader
from keeper.types import Head

log = structlog.get_logger(__name__)

FURTHEST = 50_000
"""Blocks from a snapshot to the chain's head beyond which the state is read anew instead: a week
on Ethereum. The way there would be longer than a bootstrap, and so would be finding out."""
SAMPLE = 32
"""Holders, pools and feeds compared with the chain before a restored book is trusted."""


class Recovery:
    """Load a chain's sources from the newest snapshot that holds, or else from the chain itself.

    A snapshot is used when it is of this configuration, undamaged, and of a block the chain still
    has; what was folded on top is compared with the chain in a sample, and again through `second`,
    another endpoint where there is one, when that differs. One that fails is told of with the
    reason and the next one is tried. While `is_distrusted`, none is: they are to be deleted.
    """

    def __init__(
        self,
        chain: str,
        reader: Reader,
        second: Reader,
        watched: Watched,
        store: SnapshotReader,
        seed: Callable[[], int],
        *,
        furthest: int = FURTHEST,
        below: int = 0,
    ) -> None:
        self._chain = chain
        self._reader = reader
        self._second = second
        self._watched = watched
        self._store = store
        self._seed = seed
        self._furthest = furthest
        self._below = below
        self.is_distrusted: Callable[[], bool] = lambda: False
        self._refused: set[int] = set()
        self.origin: Snapshot | None = None
        self.is_settled = False

    async def load(self) -> Head:
        """Bring every source to one head, which is returned; raise `TransientError` for no answer."""
        latest = await self._reader.head()
        found = await self._found()
        await self._remember(found)
        for snapshot in found:
            try:
                head = await self._restore(snapshot, latest)
            except InvariantError as error:
                await self._refuse(snapshot, str(error))
                continue
            if head is not None:
                self.origin = snapshot
                log.info(
                    "snapshot.restored",
                    chain=self._chain,
                    block=head.number,
                    blocks_behind=latest.number - head.number,
                )
                return head
        self.origin = None
        log.info("book.loading", chain=self._chain, block=latest.number)
        return await load_at_newest(self._chain, self._reader, self._watched.bootstrap, self._below)

    async def settle(
        self, book: Book, loaded: Head, catch_up: Callable[[Head], Awaitable[None]]
    ) -> None:
        """Stand the book at what was loaded, and fold and prove what a snapshot had left open.

        Only then `is_settled` is true again. Raises `TransientError` when no answer came, or when
        endpoints contradict each other about a snapshot.
        """
        self.is_settled = False
        self._watched.connect()
        while True:
            book.stand_at(loaded)
            snapshot = self.origin
            if snapshot is None:
                self._stop_unloaded(book, loaded)
                if await self._follow_up(catch_up):
                    break
                book.abandon()
            else:
                try:
                    fault = await self._fault(book, catch_up)
                except ReorgTooDeepError as error:
                    book.abandon()
                    self._pass_over(snapshot, str(error))
                    # Where nodes contradict each other it would be tried for ever.
                    self._refused.add(snapshot.id)
                else:
                    if not fault:
                        break
                    book.abandon()
                    await self._refuse(snapshot, fault)
            loaded = await self.load()
        for market in book.markets:
            if f"market/{market}" not in self._watched.unloaded:
                await book.load_market(market)
        self.is_settled = True

    async def rebuild(
        self, reason: str, book: Book, catch_up: Callable[[Head], Awaitable[None]]
    ) -> None:
        """Load the book anew while it is in use; until it stands again it holds no block at all."""
        log.warning("book.lost", chain=self._chain, reason=reason)
        book.abandon()
        try:
            await self.settle(book, await self.load(), catch_up)
        except ConfigError as error:
            # The settings held when it started: what seems wrong with them is the node's.
            raise TransientError(str(error)) from error
        head = book.head
        log.warning(
            "book.rebuilt",
            chain=self._chain,
            reason=reason,
            head=None if head is None else head.number,
            origin="chain" if self.origin is None else f"snapshot of block {self.origin.number}",
        )

    def _stop_unloaded(self, book: Book, loaded: Head) -> None:
        for part, why in self._watched.unloaded.items():
            book.parts.stop(part, Fault(FaultKind.UNLOADED, why, loaded.number))

    async def _follow_up(self, catch_up: Callable[[Head], Awaitable[None]]) -> bool:
        """Fold what came on top of a state read under the head; False when that was reorganised out."""
        if not self._below:
            return True
        try:
            await catch_up(await self._reader.head())
        except ReorgTooDeepError as error:
            log.warning("book.reloaded", chain=self._chain, reason=str(error))
            return False
        except TransientError as error:
            # It stands at a block of the chain: whoever follows goes on from there.
            log.info("book.behind", chain=self._chain, reason=str(error))
        return True

    async def _fault(self, book: Book, catch_up: Callable[[Head], Awaitable[None]]) -> str:
        """Fold up to the chain's head and compare a sample; return what is wrong, if anything."""
        try:
            await catch_up(await self._reader.head())
        except ReorgTooDeepError:
            raise
        except InvariantError as error:
            return str(error)
        seed = self._seed()
        fault = await _difference(book, self._reader, seed)
        if fault and not await _difference(book, self._second, seed):
            book.abandon()
            raise TransientError(f"{fault}, says one endpoint, and another denies it")
        return fault

    async def _found(self) -> list[Snapshot]:
        if self.is_distrusted():
            return []
        try:
            found = await self._store.found(self._chain)
        except InvariantError as error:
            log.warning("snapshot.unreadable", chain=self._chain, error=str(error))
            return []
        # One that could not be deleted would be tried for ever.
        return [snapshot for snapshot in found if snapshot.id not in self._refused]

    async def _remember(self, found: Sequence[Snapshot]) -> None:
        """Know the markets' code as the newest snapshot that can be read does.

        It may be of no use for anything else: other settings are no reason to trust other code.
        """
        for snapshot in found:
            try:
                pages = await asyncio.to_thread(self._store.read, snapshot)
                await asyncio.to_thread(self._watched.remember, pages)
            except InvariantError:
                continue  # told where it is refused
            return

    async def _restore(self, snapshot: Snapshot, latest: Head) -> Head | None:
        """Restore a snapshot; None, and the reason told, when it is of no use here."""
        reason = self._of_no_use(snapshot, latest)
        if not reason:
            pages = await asyncio.to_thread(self._store.read, snapshot)
            head = snapshot.head
            if (await self._reader.head(head.number)).hash == head.hash:
                await self._watched.restore(pages, head, latest)
                return head
            reason = "its block is no longer on the chain"
        self._pass_over(snapshot, reason)
        return None

    def _of_no_use(self, snapshot: Snapshot, latest: Head) -> str:
        if snapshot.fingerprint != self._watched.fingerprint:
            return "it is of another configuration"
        behind = latest.number - snapshot.number
        if behind > self._furthest:
            return f"it is {behind} blocks behind"
        return f"the chain stands at block {latest.number}" if behind < 0 else ""

    def _pass_over(self, snapshot: Snapshot, reason: str) -> None:
        log.warning("snapshot.passed_over", chain=self._chain, block=snapshot.number, reason=reason)

    async def _refuse(self, snapshot: Snapshot, reason: str) -> None:
        log.error("snapshot.refused", chain=self._chain, block=snapshot.number, reason=reason)
        self._refused.add(snapshot.id)
        try:
            await self._store.discard(snapshot)
        except InvariantError as error:
            log.warning("snapshot.undeleted", chain=self._chain, error=str(error))


async def _difference(book: Book, reader: Reader, seed: int) -> str:
    """Compare a sample with what one reader says; return the first difference, if any."""
    try:
        drifts = await book.audit(reader, SAMPLE, seed)
    except InvariantError as error:
        return str(error)
    if not drifts:
        return ""
    first = drifts[0]
    return f"{first.subject} is {first.held} here and {first.actual} on the chain"
