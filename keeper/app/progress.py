"""How far a long load is, told as log lines."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """A stage since `started` (monotonic seconds), when `before` of its units were done already."""

    started: float
    before: int

    def rate(self, now: float, done: int) -> float:
        """Return units per second, 0 while nothing was done."""
        elapsed = now - self.started
        return (done - self.before) / elapsed if elapsed > 0 else 0.0

    def left(self, now: float, done: int, total: int) -> float | None:
        """Return the seconds the rest takes at this rate, None while there is no rate."""
        rate = self.rate(now, done)
        return (total - done) / rate if rate > 0 else None


class LoggedProgress:
    """Log at an interval, and at the end of a stage that took longer; satisfies `ports.Progress`."""

    def __init__(
        self,
        chain: str,
        *,
        interval: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain = chain
        self._interval = interval
        self._monotonic = monotonic
        self._paces: dict[str, Pace] = {}
        self._due: dict[str, float] = {}

    def report(self, stage: str, unit: str, done: int, total: int) -> None:
        """Take how many units of a stage are done."""
        now = self._monotonic()
        pace = self._paces.setdefault(stage, Pace(now, done))
        due = self._due.setdefault(stage, now + self._interval)
        ended = done >= total
        if now >= due or (ended and now - pace.started >= self._interval):
            left = pace.left(now, done, total)
            fields = {
                "chain": self._chain,
                "stage": stage,
                "percent": round(100 * done / max(total, 1), 1),
                f"{unit}_per_second": round(pace.rate(now, done), 1),
                "eta_seconds": None if left is None else math.ceil(left),
            }
            log.info("bootstrap.progress", **fields)
            self._due[stage] = now + self._interval
        if ended:
            del self._paces[stage], self._due[stage]
