"""Load a stopped part of the book anew while the rest goes on, and fold it with the rest again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from keeper.book.book import Book
from keeper.chain import bloom
from keeper.chain.blocks import Blocks
from keeper.errors import IncompleteError, TransientError
from keeper.ports import Reader
from keeper.types import Head

BATCH = 32
"""Blocks whose logs are asked for at once."""


async def rebuild(book: Book, part: str, reader: Reader, blocks: Blocks) -> Head:
    """Load a part at the book's head, fold what came since, and fold it with the others again.

    Returns the head it was loaded at. Raises `TransientError` when that head was reorganised out
    or a read failed, `InvariantError` when a log since cannot be right: start again.
    """
    head = book.parts.begin(part)
    for _, source in book.parts.sources(part):
        await source.bootstrap(reader, head)
    watch = book.parts.watch_of(part)
    while not book.parts.rejoin(part):
        heads = await _missing(book, part, blocks)
        logs = await asyncio.gather(*(blocks.logs(each, watch) for each in heads))
        for each, found in zip(heads, logs, strict=True):
            standing = book.parts.behind(part)
            if standing is None or standing[0].hash != each.parent:
                break  # a reorg took blocks back while the logs were asked for
            wider = book.parts.catch_up(part, each, found, watch)
            if wider is not None:
                # A contract discovered in this block may have logged in this very block.
                watch = bloom.union(watch, wider)
                break
    return head


async def _missing(book: Book, part: str, blocks: Blocks) -> Sequence[Head]:
    """Return the next blocks a part has to fold, linked to where it stands."""
    standing = book.parts.behind(part)
    if standing is None:
        raise TransientError(f"{part} was loaded at a block that is no longer the chain's")
    at, ahead = standing
    if not ahead:
        # Without a block to ask for, whoever calls this again and again would never let go.
        raise TransientError(f"{part} has nothing to catch up with")
    if ahead[0].parent == at.hash:
        return ahead[:BATCH]
    numbers = range(at.number + 1, min(ahead[0].number, at.number + 1 + BATCH))
    heads = await asyncio.gather(*(blocks.by_number(number) for number in numbers))
    for before, after in zip([at, *heads], heads, strict=False):
        if after.parent != before.hash:
            raise TransientError(f"block {after.number} does not follow where {part} stands")
    return heads


class Rebuilder:
    """Rebuild whatever stops, each part on its own, with pauses that double while it fails.

    `load` makes a market's positions ready to be judged once its state is right. `rebuilt` is told
    of success with the seconds it took, `failed` of an attempt with the pause before the next. A
    part that stops again within the longest pause goes on with the pauses it had.

    What was kept of the history is forgotten when what was read does not add up the second time,
    and after success: a fault found later may be of that very scan.
    """

    def __init__(
        self,
        book: Book,
        reader: Reader,
        blocks: Blocks,
        load: Callable[[str], Awaitable[None]],
        rebuilt: Callable[[str, Head, float], None],
        failed: Callable[[str, Exception, float], None],
        *,
        first_pause: float = 1.0,
        longest_pause: float = 600.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book = book
        self._reader = reader
        self._blocks = blocks
        self._load = load
        self._rebuilt = rebuilt
        self._failed = failed
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._sleep = sleep
        self._monotonic = monotonic
        self._attempts: dict[str, int] = {}
        self._healed_at: dict[str, float] = {}
        self._stopped = asyncio.Event()

    def wake(self) -> None:
        """Look for stopped parts."""
        self._stopped.set()

    async def run(self) -> None:
        """Rebuild every part that stops, until cancelled."""
        healing: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                for part in self._book.parts.faults:
                    if part not in healing or healing[part].done():
                        healing[part] = tasks.create_task(self._heal(part))
                self._stopped.clear()
                await self._stopped.wait()

    async def _heal(self, part: str) -> None:
        if self._monotonic() - self._healed_at.get(part, 0.0) > self._longest_pause:
            self._attempts.pop(part, None)
        incomplete = 0
        while part in self._book.parts.faults:
            await self._sleep(self._pause(part))
            self._attempts[part] = self._attempts.get(part, 0) + 1
            started = self._monotonic()
            try:
                if incomplete > 1:
                    incomplete = 0
                    await self._reader.forget()
                head = await rebuild(self._book, part, self._reader, self._blocks)
                kind, _, name = part.partition("/")
                if kind == "market":
                    await self._load(name)
                if self._book.parts.is_folded(part):
                    await self._reader.forget()
            except Exception as error:  # noqa: BLE001 - told, and tried again
                incomplete += isinstance(error, IncompleteError)
                self._failed(part, error, self._pause(part))
                continue
            if self._book.trust(part):
                self._healed_at[part] = self._monotonic()
                self._rebuilt(part, head, self._healed_at[part] - started)

    def _pause(self, part: str) -> float:
        attempts = self._attempts.get(part, 0)
        if not attempts:
            return 0.0
        return min(self._first_pause * 2.0 ** min(attempts - 1, 30), self._longest_pause)
