"""Tells observers what happened, after the send it tells of, through one bounded queue."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from keeper.engine import Report

CAPACITY = 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a plan or the executor."""

    chain: str
    name: str
    fields: Mapping[str, object]


Observer = Callable[[Report | Event], None]


class Observation:
    """Queue reports and events of one chain; a full queue drops and counts.

    An observer that fails is told of and asked again: what it shows may be wrong, sending is not.
    """

    def __init__(
        self,
        on_drop: Callable[[int], None],
        on_fault: Callable[[Exception], None],
        capacity: int = CAPACITY,
    ) -> None:
        self._queue: asyncio.Queue[Report | Event] = asyncio.Queue(capacity)
        self._on_drop = on_drop
        self._on_fault = on_fault
        self._observers: list[Observer] = []

    def add(self, observer: Observer) -> None:
        """Let an observer see everything told from now on."""
        self._observers.append(observer)

    def tell(self, subject: Report | Event) -> None:
        """Queue a subject without waiting."""
        try:
            self._queue.put_nowait(subject)
        except asyncio.QueueFull:
            self._on_drop(1)

    async def run(self) -> None:
        """Hand subjects to the observers until cancelled."""
        while True:
            self._hand_over(await self._queue.get())

    async def during(self, work: Awaitable[T]) -> T:
        """Hand over what is told while work goes on, and the rest when it ends; return its result."""
        running = asyncio.ensure_future(self.run())
        try:
            return await work
        finally:
            running.cancel()
            await asyncio.wait([running])
            self.flush()

    def flush(self) -> None:
        """Hand over what is queued, at the end."""
        while not self._queue.empty():
            self._hand_over(self._queue.get_nowait())

    def _hand_over(self, subject: Report | Event) -> None:
        for observer in self._observers:
            try:
                observer(subject)
            except Exception as error:  # noqa: BLE001
                self._on_fault(error)
