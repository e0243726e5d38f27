"""What one channel has to deliver: in order, again until it arrives, and past what is refused."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from keeper.errors import InvariantError, KeeperError, TransientError
from keeper.journal.outbox import Posted, SqliteOutbox
from keeper.notify.channel import Channel, LaterError, RefusedError
from keeper.notify.note import Note
from keeper.ports import Clock

log = structlog.get_logger(__name__)

SHORTEST = 1.0
"""Seconds before the first new attempt; each further one waits twice as long."""
LONGEST = 300.0
LATEST = 3_600.0
"""Seconds for which a channel that asks for it is left alone at most."""
GIVE_UP = 3 * 86_400.0
"""Seconds after which a message is told nobody any more."""
TRIES = 5
"""Refusals of a message alone from which on it is given up as soon as another one arrives."""
FREE = 10
"""Refusals in a row without a pause: as many as it takes to find one among `most` messages."""


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


@dataclass(frozen=True, slots=True)
class _Aside:
    """A message refused alone: how often, until when it is left alone, and what arrived before."""

    tries: int
    until: float
    taken: int


class Queue:
    """Deliver what is put in, in the order it was posted.

    Where messages are refused together, fewer of them are tried. One that is refused alone is set
    aside and tried again, while others go on; what is about the same waits for `TRIES` of that. It is
    given up when the refusal is final, or when others arrive: then the channel is not to blame.
    """

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
        self._aside: dict[int, _Aside] = {}
        self._outbox = outbox
        self._clock = clock
        self._count = count
        self._jitter = jitter
        self._limit = channel.most
        self._failures = 0
        self._refusals = 0
        self._taken = 0
        self._is_others_turn = False
        self._wake = asyncio.Event()

    def put(self, posted: Posted) -> None:
        """Take a message that is on disk."""
        note = Note.read(posted.posting.record)
        self.waiting.append(posted)
        self._notes[posted.id] = note
        self._subjects[posted.id] = note.subject or note.key
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self._wake.clear()
            now = self._clock.time()
            batch = self._batch(now)
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
            due = self._due()
            try:
                async with asyncio.timeout(None if due is None else max(due - now, 0.0)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _batch(self, now: float) -> list[Posted]:
        """Return what is to be tried now: one that was set aside by itself, others together, by turns."""
        again = [
            each
            for each in (self.waiting if self._aside else ())
            if (aside := self._aside.get(each.id)) is not None and aside.until <= now
        ]
        if again and not self._is_others_turn:
            self._is_others_turn = True
            return again[:1]
        self._is_others_turn = False
        found = ready(self._free(), self._subjects, now)[: self._limit]
        if not found:
            return again[:1]
        return found[: self.channel.fitting([self._notes[each.id] for each in found])]

    def _free(self) -> list[Posted]:
        """Return what neither was set aside nor waits for something that was."""
        if not self._aside:
            return self.waiting
        held = {
            self._subjects[number] for number, each in self._aside.items() if each.tries < TRIES
        }
        return [
            each
            for each in self.waiting
            if each.id not in self._aside and self._subjects[each.id] not in held
        ]

    def _due(self) -> float | None:
        """Return when something is to be tried that is not yet, None when nothing is there."""
        times = [each.posting.due for each in self._free()]
        times += [each.until for each in self._aside.values()]
        return min(times, default=None)

    async def _deliver(self, batch: Sequence[Posted]) -> float:
        """Try once; return how long to leave the channel alone."""
        name = self.channel.name
        try:
            await self.channel.send([self._notes[each.id] for each in batch])
        except LaterError as error:
            pause = min(error.seconds, LATEST)
            if error.is_tried:
                return await self._failed(batch, str(error), pause)
            # keeping to a limit is no failure
            await self._again(batch, self._clock.time() + pause, str(error))
            return pause
        except TransientError as error:
            return await self._failed(batch, str(error), 0.0)
        except Exception as error:  # noqa: BLE001 - a channel's fault stops no other
            return await self._refused(batch, error)
        self._failures = self._refusals = 0
        self._taken += len(batch)
        self._limit = min(2 * self._limit, self.channel.most)
        self._forget(batch)
        self._count(name, "delivered", len(batch))
        # A cancelled task has sent it all the same: the record must not miss it.
        mark = asyncio.ensure_future(self._outbox.delivered(batch, self._clock.time()))
        self.marking.add(mark)
        mark.add_done_callback(self.marking.discard)
        await asyncio.shield(mark)
        return 0.0

    async def _failed(self, batch: Sequence[Posted], why: str, wanted: float) -> float:
        """Try all of it again later, not before the seconds that the channel `wanted`."""
        name, now = self.channel.name, self._clock.time()
        self._failures += 1
        pause = max(pause_after(self._failures, self._jitter()), wanted)
        self._count(name, "failed", len(batch))
        log.warning("notification.failed", channel=name, error=why, retry_seconds=round(pause, 1))
        await self._again(batch, now + pause, why)
        return pause

    async def _refused(self, batch: Sequence[Posted], error: Exception) -> float:
        """Try fewer of it, or go on without the one it is."""
        name, now = self.channel.name, self._clock.time()
        why = str(error) if isinstance(error, KeeperError) else type(error).__name__
        self._refusals += 1
        self._count(name, "failed", len(batch))
        log.warning("notification.refused", channel=name, error=why, messages=len(batch))
        if len(batch) > 1:
            self._limit = len(batch) // 2
        else:
            if batch[0].id not in self._aside:
                # it is found; one that is tried again says nothing of the others
                self._limit = self.channel.most
            await self._set_aside(batch[0], error, why, now)
        over = self._refusals - FREE
        return pause_after(over, self._jitter()) if over > 0 else 0.0

    async def _set_aside(self, each: Posted, error: Exception, why: str, now: float) -> None:
        before = self._aside.get(each.id, _Aside(0, now, self._taken))
        tries, is_final = before.tries + 1, isinstance(error, RefusedError) and error.is_final
        if is_final or (tries >= TRIES and self._taken > before.taken):
            await self._give_up([each], now, why)
            return
        until = now + pause_after(tries, self._jitter())
        if await self._again([each], until, why):
            self._aside[each.id] = _Aside(tries, until, before.taken)
            self._is_others_turn = True

    async def _again(self, batch: Sequence[Posted], due: float, why: str) -> list[Posted]:
        """Record when messages are tried again, and give up what is too old; return the others."""
        now = self._clock.time()
        if old := [each for each in batch if now - each.posting.time >= GIVE_UP]:
            await self._give_up(old, now, why)
        again = [each for each in batch if now - each.posting.time < GIVE_UP]
        if again:
            chosen = {each.id for each in again}
            self.waiting = [
                replace(each, attempts=each.attempts + 1) if each.id in chosen else each
                for each in self.waiting
            ]
            await self._outbox.failed(again, due, why)
        return again

    async def _give_up(self, batch: Sequence[Posted], now: float, why: str) -> None:
        name, titles = self.channel.name, [self._notes[each.id].title for each in batch]
        self._forget(batch)
        self._count(name, "given_up", len(batch))
        log.error(
            "notification.given_up", channel=name, messages=len(batch), error=why, first=titles[0]
        )
        await self._outbox.given_up(batch, now, why)

    def _forget(self, batch: Iterable[Posted]) -> None:
        done = {each.id for each in batch}
        self.waiting = [each for each in self.waiting if each.id not in done]
        for number in done:
            del self._notes[number], self._subjects[number]
            self._aside.pop(number, None)
