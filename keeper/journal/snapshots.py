"""Snapshots of a book in the journal's file: small transactions, valid by the last one.

A page has a transaction of its own and comes after everything else that waits, so that the record
of a send never waits for more than one page.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from keeper.errors import InvariantError
from keeper.journal import snapshot_rows as rows
from keeper.journal.codec import dump, load
from keeper.journal.pages import Page, pack, unpack, whole_checksum
from keeper.journal.writer import Writer
from keeper.ports import Clock, Pages
from keeper.types import Head

OLDER_BY = 1024
"""Blocks between the newest snapshot and the one kept for a reorg that takes the newest along."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot on record; what it says of itself holds once `SnapshotStore.read` accepted it."""

    id: int
    chain: str
    number: int
    record: str
    time: float
    fingerprint: str
    pages: int
    size: int
    checksum: bytes

    @property
    def head(self) -> Head:
        """Return the head it was frozen at."""
        return load(Head, orjson.loads(self.record))


class SnapshotReader:
    """Read snapshots and leave the file as it is, also while a keeper writes to it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def found(self, chain: str) -> list[Snapshot]:
        """Return a chain's snapshots that were written to the end, the last one taken first."""
        return await asyncio.to_thread(self._found, chain)

    def read(self, snapshot: Snapshot) -> Callable[[str], Iterator[bytes]]:
        """Return what gives each source's pages, every page checked as it is read.

        Raises `InvariantError` when a page is missing or the record is not as it was written.
        """
        with _reading(self._path, snapshot.chain) as db:
            places = rows.places(db, snapshot.id)
        about = _about(snapshot.chain, snapshot.record, snapshot.fingerprint)
        if whole_checksum(about, places) != snapshot.checksum:
            raise InvariantError(snapshot.chain, "the checksum does not hold")
        return partial(self._pages, snapshot)

    async def discard(self, snapshot: Snapshot) -> None:
        """Leave it to the keeper, which finds out for itself."""

    def _pages(self, snapshot: Snapshot, source: str) -> Iterator[bytes]:
        """Read and check one page while the one before is made use of; neither needs the interpreter."""
        with closing(self._checked(snapshot, source)) as pages, ThreadPoolExecutor(1) as beside:
            coming = beside.submit(next, pages, None)
            while (page := coming.result()) is not None:
                coming = beside.submit(next, pages, None)
                yield page

    def _checked(self, snapshot: Snapshot, source: str) -> Generator[bytes]:
        with _reading(self._path, snapshot.chain) as db:
            for number, encoding, data, checksum in rows.pages(db, snapshot.id, source):
                try:
                    content = unpack(Page(source, number, encoding, data, checksum))
                except ValueError as error:
                    raise InvariantError(snapshot.chain, str(error)) from error
                yield content

    def _found(self, chain: str) -> list[Snapshot]:
        if not self._path.exists():
            return []
        with _reading(self._path, chain) as db:
            return [Snapshot(number, chain, *rest) for number, *rest in rows.snapshots(db, chain)]


class SnapshotStore(SnapshotReader):
    """Keep each chain's newest snapshot, and an older one."""

    def __init__(self, writer: Writer, path: Path, clock: Clock) -> None:
        super().__init__(path)
        self._writer = writer
        self._clock = clock

    async def save(
        self,
        chain: str,
        head: Head,
        fingerprint: str,
        sources: Mapping[str, Pages],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Snapshot | None:
        """Write what was frozen at a head; it counts once all of it is on disk.

        None, and it never counts, when it was not wanted any more at a page or at the end;
        `is_wanted` is asked in the writer's thread too. Raises `InvariantError` when it cannot be
        written; what was kept before stays.
        """
        await self._drop(await self._writer.spare(partial(rows.torn, chain=chain)))
        record = orjson.dumps(dump(head)).decode()
        time = self._clock.time()
        draft = (time, chain, head.number, record, fingerprint)
        number = await self._writer.spare(partial(rows.begin, draft=draft))
        written: list[tuple[str, int, bytes]] = []
        size = 0
        for source, encode in sources.items():
            packing = _packed(source, encode)
            while (page := await asyncio.to_thread(next, packing, None)) is not None:
                if not is_wanted():
                    return None
                await self._writer.spare(partial(rows.write_page, snapshot=number, page=page))
                written.append((source, page.number, page.checksum))
                size += len(page.data)
        checksum = whole_checksum(_about(chain, record, fingerprint), written)
        made = Snapshot(
            number, chain, head.number, record, time, fingerprint, len(written), size, checksum
        )
        finish = partial(
            rows.finish, snapshot=number, extent=(len(written), size), checksum=checksum
        )
        if not await self._writer.spare(lambda db: is_wanted() and finish(db)):
            return None
        held = await self.found(chain)
        kept = kept_of([(each.id, each.number) for each in held])
        await self._drop([each.id for each in held if each.id not in kept])
        return made

    async def discard(self, snapshot: Snapshot) -> None:
        """Forget a snapshot that is not to be used again."""
        await self._writer.spare(partial(rows.tear, snapshot=snapshot.id))
        await self._drop([snapshot.id])

    async def disown(self, chain: str) -> list[int]:
        """Forget every snapshot of a chain, all at once; return the blocks they were of.

        One that is being written is not among them. From the first transaction on none counts,
        whatever becomes of this process.
        """
        found = await self._writer.spare(partial(rows.tear_all, chain=chain))
        await self._drop([number for number, _ in found])
        return [block for _, block in found]

    async def _drop(self, numbers: Sequence[int]) -> None:
        """Delete snapshots in steps; what is left of one by then counts as torn."""
        for number in numbers:
            await self._writer.spare(partial(rows.tear, snapshot=number))
            while await self._writer.spare(partial(rows.drop_some, snapshot=number)):
                pass


def kept_of(found: Sequence[tuple[int, int]]) -> set[int]:
    """Return which of a chain's (id, block), the last taken first, are kept.

    Beside the newest: the newest of those that are old enough for a deep reorg, and the oldest of
    the others, which will be old enough next. One above the newest is of a branch that was left.
    """
    if not found:
        return set()
    newest = found[0]
    old = [each for each in found if each[1] <= newest[1] - OLDER_BY]
    young = [each for each in found if each[1] <= newest[1] and each not in old]
    return {newest[0], young[-1][0], *(number for number, _ in old[:1])}


def _packed(source: str, encode: Pages) -> Iterator[Page]:
    for number, content in enumerate(encode()):
        yield pack(source, number, content)


def _about(chain: str, record: str, fingerprint: str) -> str:
    return f"{chain}\0{record}\0{fingerprint}"


@contextmanager
def _reading(path: Path, chain: str) -> Iterator[sqlite3.Connection]:
    try:
        with closing(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
            )
        ) as db:
            yield db
    except sqlite3.Error as error:
        raise InvariantError(chain, f"the journal cannot be read ({error})") from error
