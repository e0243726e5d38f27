"""Deliver what is in the outbox: each message once, in order, again until it arrives."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

import structlog

from keeper.errors import InvariantError, KeeperError, TransientError
from keeper.journal.outbox import Change, Posted, Posting, SqliteOutbox
from keeper.notify.channel import Channel
from keeper.notify.note import Note, Severity
from keeper.notify.quiet import Quiet
from keeper.ports import Clock

log = structlog.get_logger(__name__)

SHORTEST = 1.0
"""Seconds before the first new attempt; each further one waits twice as long."""
LONGEST = 300.0
GIVE_UP = 3 * 86_400.0
"""Seconds after which a message is told nobody any more."""
KEEP = 30 * 86_400.0
"""Seconds for which what was delivered stays on record."""


class Count(Protocol):
    """Is told how messages fared: delivered, failed or given_up."""

    def __call__(self, channel: str, result: str, count: int) -> None:
        """Count some messages of a channel."""
        ...


def pause_after(failures: int, jitter: float) -> float:
    """Return the seconds to wait after so many failures in a row; `jitter` is from 0 to 1."""
    return float(min(SHORTEST * 2 ** min(failures - 1, 30), LONGEST)) * (0.5 + jitter / 2)


def ready(waiting: Sequence[Posted], subjects: Mapping[int, str], now: float) -> list[Posted]:
    """Return what may go out, oldest first.

    A message that is due takes earlier ones of its subject along, so that none overtakes another.
    """
    last: dict[str, int] = {}
    for each in waiting:
        if each.posting.due <= now:
            last[subjects[each.id]] = each.id
    return [
        each
        for each in waiting
        if each.posting.due <= now or each.id <= last.get(subjects[each.id], 0)
    ]


class Dispatcher:
    """Post messages and have them delivered, every channel in a task of its own.

    `post` returns when they are on disk: whatever happens then, they are delivered, if the process
    is killed in between by the next one.
    """

    def __init__(
        self,
        channels: Iterable[Channel],
        outbox: SqliteOutbox,
        clock: Clock,
        count: Count,
        *,
        quiet: Mapping[str, Quiet] = MappingProxyType({}),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._quiet = quiet
        self._queues = {
            channel.name: _Queue(channel, outbox, clock, count, jitter) for channel in channels
        }

    @property
    def channels(self) -> list[str]:
        """Return the channels' names."""
        return list(self._queues)

    def waiting(self, channel: str) -> int:
        """Return how many messages a channel has not delivered yet."""
        return len(self._queues[channel].waiting)

    async def open(self) -> None:
        """Take up what an earlier process left undelivered."""
        await self._outbox.prune(self._clock.time() - KEEP)
        self._take(await self._outbox.waiting())

    async def post(
        self,
        notes: Iterable[tuple[Note, Iterable[str]]],
        change: Change | None = None,
    ) -> None:
        """Write messages, each with its channels, and what they tell of, to disk, all or nothing."""
        now = self._clock.time()
        postings = [
            Posting(channel, note.key, note.time, self._due(channel, note, now), record)
            for note, channels in notes
            for record in (note.record(),)
            for channel in channels
        ]
        if postings or change is not None:
            self._take(await self._outbox.post(postings, change))

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, queue in self._queues.items():
                tasks.create_task(queue.run(), name=f"notify-{name}")

    async def close(self) -> None:
        """Return once what was delivered is on record, and let go of the channels."""
        for queue in self._queues.values():
            await asyncio.gather(*queue.marking)
            await queue.channel.close()

    def _due(self, channel: str, note: Note, now: float) -> float:
        """Return when a message is to be sent: what is critical at once, the rest after quiet hours."""
        quiet = self._quiet.get(channel)
        if quiet is None or note.severity is Severity.CRITICAL:
            return now
        return quiet.end_after(now)

    def _take(self, posted: Iterable[Posted]) -> None:
        for each in posted:
            # what is for a channel that is no longer configured waits until it is again
            if (queue := self._queues.get(each.posting.channel)) is not None:
                queue.put(each)


class _Queue:
    """What one channel has to deliver, in the order it was posted."""

    def __init__(
        self,
        channel: Channel,
        outbox: SqliteOutbox,
        clock: Clock,
        count: Count,
        jitter: Callable[[], float],
    ) -> None:
        self.channel = channel
        self.waiting: list[Posted] = []
        self.marking: set[asyncio.Task[None]] = set()
        self._notes: dict[int, Note] = {}
        self._subjects: dict[int, str] = {}
        self._outbox = outbox
        self._clock = clock
        self._count = count
        self._jitter = jitter
        self._failures = 0
        self._wake = asyncio.Event()

    def put(self, posted: Posted) -> None:
        note = Note.read(posted.posting.record)
        self.waiting.append(posted)
        self._notes[posted.id] = note
        self._subjects[posted.id] = note.subject or note.key
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.time()
            batch = ready(self.waiting, self._subjects, now)[: self.channel.most]
            if batch:
                try:
                    pause = await self._deliver(batch)
                except InvariantError as error:
                    # the journal: the messages are in it all the same, and liquidations go on
                    name, why = self.channel.name, str(error)
                    log.error("notification.not_recorded", channel=name, error=why)  # noqa: TRY400
                    pause = LONGEST
                if pause:
                    await asyncio.sleep(pause)
                continue
            due = min((each.posting.due for each in self.waiting), default=None)
            try:
                async with asyncio.timeout(None if due is None else max(due - now, 0.0)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _deliver(self, batch: Sequence[Posted]) -> float:
        """Try once; return how long to leave the channel alone."""
        name = self.channel.name
        try:
            await self.channel.send([self._notes[each.id] for each in batch])
        except Exception as error:  # noqa: BLE001 - a channel's fault stops no other
            return await self._failed(batch, error)
        self._failures = 0
        self._forget(batch)
        self._count(name, "delivered", len(batch))
        # A cancelled task has sent it all the same: the record must not miss it.
        mark = asyncio.ensure_future(self._outbox.delivered(batch, self._clock.time()))
        self.marking.add(mark)
        mark.add_done_callback(self.marking.discard)
        await asyncio.shield(mark)
        return 0.0

    async def _failed(self, batch: Sequence[Posted], error: Exception) -> float:
        name, now = self.channel.name, self._clock.time()
        why = str(error) if isinstance(error, KeeperError) else type(error).__name__
        self._failures += 1
        pause = pause_after(self._failures, self._jitter())
        self._count(name, "failed", len(batch))
        level = log.warning if isinstance(error, TransientError) else log.error
        level("notification.failed", channel=name, error=why, retry_seconds=round(pause, 1))
        old = [each for each in batch if now - each.posting.time >= GIVE_UP]
        if old:
            self._forget(old)
            self._count(name, "given_up", len(old))
            log.error("notification.given_up", channel=name, messages=len(old), error=why)
            await self._outbox.given_up(old, now, why)
        again = [each for each in batch if now - each.posting.time < GIVE_UP]
        if again:
            chosen = {each.id for each in again}
            self.waiting = [
                replace(each, attempts=each.attempts + 1) if each.id in chosen else each
                for each in self.waiting
            ]
            await self._outbox.failed(again, now + pause, why)
        return pause

    def _forget(self, batch: Sequence[Posted]) -> None:
        done = {each.id for each in batch}
        self.waiting = [each for each in self.waiting if each.id not in done]
        for number in done:
            del self._notes[number], self._subjects[number]
