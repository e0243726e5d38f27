"""Deliver what is in the outbox: each message once, in order, again until it arrives."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from keeper.journal.outbox import Change, Posted, Posting, SqliteOutbox
from keeper.notify.channel import Channel
from keeper.notify.note import Note, Severity
from keeper.notify.queue import Count, Queue
from keeper.notify.quiet import Quiet
from keeper.ports import Clock

KEEP = 30 * 86_400.0
"""Seconds for which what was delivered stays on record."""
DAY = 86_400.0


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
        self._pruned = float("-inf")
        self._queues = {
            channel.name: Queue(channel, outbox, clock, count, jitter) for channel in channels
        }

    @property
    def channels(self) -> list[str]:
        """Return the channels' names."""
        return list(self._queues)

    def waiting(self, channel: str) -> int:
        """Return how many messages a channel should have delivered: none that waits for the morning."""
        now = self._clock.time()
        # one that failed in an earlier process is due when it is tried again
        return sum(
            each.posting.due <= now or each.attempts > 0 for each in self._queues[channel].waiting
        )

    async def open(self) -> None:
        """Take up what an earlier process left undelivered."""
        await self._prune(self._clock.time())
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
            await self._prune(now)

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

    async def _prune(self, now: float) -> None:
        """Forget once a day what was delivered long ago."""
        if now - self._pruned >= DAY:
            self._pruned = now
            await self._outbox.prune(now - KEEP)

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
