"""Garbage collection that never walks what the book holds, and how long it stops everything."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

THRESHOLDS = (5_000, 10_000, 1_000)
"""More objects than the first make a young collection, more of those than the second a middle one.

A pause is as long as what it walks is large: 10,000 objects take two milliseconds or more. The logs of
a block are gone before a young one comes; sooner, it would walk them for nothing. What lives long was
set apart or is undo records, which go without a collector, so that a full one finds little.
"""
HELD = 10_000
"""Objects that make a young collection while a head is decided on: a crowd's, in pieces."""
MIDDLE = 1
"""Young collections after which a middle one follows a head of few."""


class Collection:
    """Measures every pause of the collector while entered, and sets what was loaded apart."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._started = 0.0
        self._before = gc.get_threshold()
        self._held = 0
        self._was_crowd = False

    def __enter__(self) -> Self:
        self._before = gc.get_threshold()
        gc.set_threshold(*THRESHOLDS)
        gc.callbacks.append(self._on_phase)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        gc.callbacks.remove(self._on_phase)
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def settle(self) -> None:
        """Set all that lives now apart, so that no later collection looks at it."""
        gc.collect()
        gc.freeze()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the collector from stopping what is done meanwhile, by one or several chains at once.

        What came together is collected at the end, before the next head finds it waiting. A crowd's
        positions live a head longer: they are walked once, and not again as long as they do.
        """
        self._held += 1
        gc.set_threshold(HELD, *THRESHOLDS[1:])
        before = gc.get_count()[1]
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                young, middle, _ = gc.get_count()
                is_crowd, was_crowd = middle > before, self._was_crowd
                self._was_crowd = is_crowd
                if middle > MIDDLE and not is_crowd and not was_crowd:
                    gc.collect(1)
                elif young > THRESHOLDS[0] // 2:
                    gc.collect(0)
                gc.set_threshold(*THRESHOLDS)

    def _on_phase(self, phase: str, info: dict[str, int]) -> None:
        del info
        now = time.perf_counter()
        if phase == "start":
            self._started = now
        else:
            self._observe(now - self._started)
