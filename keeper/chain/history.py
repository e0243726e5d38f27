"""What the logs of a long history name: read in parallel ranges, in bounded memory, resumable."""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set as AbstractSet

from keeper.chain import bloom
from keeper.chain.blocks import Blocks
from keeper.chain.keys import Keys
from keeper.chain.patience import Patience
from keeper.chain.ranges import LogRanges
from keeper.errors import TransientError
from keeper.ports import Checkpoint, Progress, Rpc, Scanned
from keeper.types import Head, Log, Watch
from keeper.units import Hash

UNSETTLED = 1_024
"""Blocks below the head whose logs are always read again: a reorg while away may change them."""
SLICE = 1_000
"""Logs whose keys are taken without a pause."""
_SAVE_SECONDS = 2.0

Range = tuple[int, int]
Take = Callable[[int, int, list[Log]], Awaitable[None]]


class History:
    """Collect from the logs of many blocks; `in_flight` ranges are asked for at a time.

    Only the keys are kept, never the logs. What settled ranges gave goes into the checkpoint, so
    that a second start goes on where the first one ended, and rests on no block that a reorg could
    still replace: the checkpoint names the last settled block of each scan, and what was found
    under one that is not on the chain is not used.
    """

    def __init__(
        self,
        rpc: Rpc,
        ranges: LogRanges,
        checkpoint: Checkpoint,
        progress: Progress,
        *,
        in_flight: int = 8,
        patience: Callable[[], Patience] = Patience,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._blocks = Blocks(rpc)
        self._ranges = ranges
        self._checkpoint = checkpoint
        self._progress = progress
        self._in_flight = in_flight
        self._patience = patience
        self._monotonic = monotonic

    async def collect(
        self, stage: str, watch: Watch, first: int, last: int, key: Callable[[Log], bytes]
    ) -> AbstractSet[bytes]:
        """Return the distinct keys of all matching logs of an inclusive range.

        `stage` names the work in progress and checkpoint; keys of one stage have one length. What is
        done with all keys is done in another thread, and with a range's in slices.
        """
        found = Keys()
        if bloom.matches_nothing(watch) or first > last:
            return found
        settled = max(last - UNSETTLED, first - 1)
        identity = _identity(watch, first)
        kept = await self._kept(stage, identity)
        await asyncio.to_thread(_take_kept, found, kept)
        todo = missing(first, settled, [(part.first, part.last) for part in kept])
        todo.append((settled + 1, last))
        total = last - first + 1
        done = total - sum(end - start + 1 for start, end in todo)
        self._progress.report(stage, "blocks", done, total)
        anchor = await self._blocks.by_number(max(settled, 0))
        saver = _Saver(self._checkpoint, stage, identity, anchor, self._monotonic)
        # A settled range that names a key again has to save it: the recent ones are read anew.
        recent = Keys()

        async def take(start: int, end: int, logs: list[Log]) -> None:
            nonlocal done
            into, new = found if end <= settled else recent, []
            for at in range(0, len(logs), SLICE):
                if at:
                    await asyncio.sleep(0)
                new += into.add(map(key, logs[at : at + SLICE]))
            if into is found:
                await saver.add(start, end, new)
            done += end - start + 1
            self._progress.report(stage, "blocks", done, total)

        try:
            await self._read(watch, todo, take)
        finally:
            await saver.flush()
        await asyncio.to_thread(found.add, recent)
        return found

    async def _kept(self, stage: str, identity: bytes) -> list[Scanned]:
        """Return what is kept of this very history, save what is of another chain or branch."""
        kept = await self._checkpoint.load(stage, identity)
        anchors = {(part.anchor, part.anchor_hash) for part in kept}
        held = {each for each in anchors if await self._holds(*each)}
        return [part for part in kept if (part.anchor, part.anchor_hash) in held]

    async def _holds(self, number: int, anchor: Hash) -> bool:
        try:
            return (await self._blocks.by_number(number)).hash == anchor
        except TransientError:
            return False

    async def _read(self, watch: Watch, todo: Iterable[Range], take: Take) -> None:
        """Ask for the ranges, several at a time, each cut until it fits; take each as it comes."""
        waiting = deque(todo)
        running: dict[asyncio.Task[list[Log] | None], Range] = {}
        patience = self._patience()
        try:
            while waiting or running:
                while waiting and len(running) < self._in_flight:
                    first, last = waiting.popleft()
                    end = min(first + self._ranges.span - 1, last)
                    if end < last:
                        waiting.appendleft((end + 1, last))
                    part = self._ranges.part(watch, first, end)
                    running[asyncio.create_task(part)] = first, end
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    part_first, part_last = running.pop(task)
                    logs = await _outcome(task, patience)
                    if logs is None:
                        waiting.appendleft((part_first, part_last))
                    else:
                        await take(part_first, part_last, logs)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


class _Saver:
    """Save what settled ranges gave, a few seconds' worth at a time."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        stage: str,
        identity: bytes,
        anchor: Head,
        monotonic: Callable[[], float],
    ) -> None:
        self._checkpoint = checkpoint
        self._stage = stage
        self._identity = identity
        self._anchor = anchor
        self._monotonic = monotonic
        self._due = monotonic() + _SAVE_SECONDS
        self._ranges: list[Range] = []
        self._keys: list[bytes] = []

    async def add(self, first: int, last: int, keys: Sequence[bytes]) -> None:
        """Take a range and its new keys."""
        self._ranges.append((first, last))
        self._keys += keys
        if self._monotonic() >= self._due:
            await self.flush()

    async def flush(self) -> None:
        """Save all taken since the last time, keys with the first range: all or nothing."""
        keys = self._keys
        parts = [
            Scanned(
                *each,
                self._anchor.number,
                self._anchor.hash,
                b"" if position else b"".join(keys),
                0 if position or not keys else len(keys[0]),
            )
            for position, each in enumerate(joined(self._ranges))
        ]
        self._ranges, self._keys = [], []
        self._due = self._monotonic() + _SAVE_SECONDS
        if parts:
            await self._checkpoint.save(self._stage, self._identity, parts)


async def _outcome(task: asyncio.Task[list[Log] | None], patience: Patience) -> list[Log] | None:
    try:
        logs = task.result()
    except TransientError as error:
        await patience.bear(error)
        return None
    patience.renew()
    return logs


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Return the same blocks in ascending ranges, neighbours as one."""
    whole: list[Range] = []
    for first, last in sorted(ranges):
        if whole and first <= whole[-1][1] + 1:
            whole[-1] = whole[-1][0], max(last, whole[-1][1])
        else:
            whole.append((first, last))
    return whole


def missing(first: int, last: int, done: Iterable[Range]) -> list[Range]:
    """Return the parts of an inclusive range that are not in `done`, in order."""
    gaps: list[Range] = []
    for start, end in joined(done):
        if start > last:
            break
        if start > first:
            gaps.append((first, start - 1))
        first = max(first, end + 1)
    if first <= last:
        gaps.append((first, last))
    return gaps


def _take_kept(found: Keys, kept: Iterable[Scanned]) -> None:
    for part in kept:
        found.add(_split(part))


def _split(part: Scanned) -> Iterable[bytes]:
    keys, width = part.keys, part.width
    return (keys[at : at + width] for at in range(0, len(keys), width)) if width else ()


def _identity(watch: Watch, first: int) -> bytes:
    """Return a digest of what is searched for and from where."""
    told = hashlib.sha256(first.to_bytes(8, "big"))
    for part in (*sorted(watch.addresses), b"", *sorted(watch.topics)):
        told.update(len(part).to_bytes(1, "big") + part)
    return told.digest()
