"""Bars on a terminal for what takes minutes."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from io import TextIOBase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress as Screen, TaskID

    from keeper.ports import Progress

_SHORTEST = 1.0


class CurrentStderr(TextIOBase):
    """Write to whatever stderr is at the time: above the bars while there are any."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


class Bars:
    """One bar for each stage, drawn once a stage takes longer than a second."""

    def __init__(self, screen: Screen, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._monotonic = monotonic
        self._began: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}

    def of(self, chain: str) -> Progress:
        """Return the progress of one chain."""
        return _Chain(self, chain)

    def report(self, stage: str, unit: str, done: int, total: int) -> None:
        """Move a stage's bar; the last bar takes the screen with it."""
        began = self._began.setdefault(stage, self._monotonic())
        if done >= total:
            self._end(stage)
        elif stage in self._tasks:
            self._screen.update(self._tasks[stage], completed=done)
        elif self._monotonic() - began >= _SHORTEST:
            self._screen.start()
            description = f"{stage} ({unit})"
            self._tasks[stage] = self._screen.add_task(description, completed=done, total=total)

    def _end(self, stage: str) -> None:
        del self._began[stage]
        task = self._tasks.pop(stage, None)
        if task is not None:
            self._screen.remove_task(task)
        if not self._tasks:
            self._screen.stop()


class _Chain:
    """The stages of one chain."""

    def __init__(self, bars: Bars, chain: str) -> None:
        self._bars = bars
        self._chain = chain

    def report(self, stage: str, unit: str, done: int, total: int) -> None:
        """Move a stage's bar."""
        self._bars.report(f"{self._chain}: {stage}", unit, done, total)


@contextmanager
def bars() -> Iterator[Callable[[str], Progress] | None]:
    """Yield what draws bars for a chain while the body runs; None when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    screen = Progress(*columns, console=Console(stderr=True), transient=True)
    try:
        yield Bars(screen).of
    finally:
        screen.stop()
