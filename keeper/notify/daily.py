"""Once a day, whenever somebody looks first after the time set."""

from datetime import UTC, date, datetime, time


class Daily:
    """Says of each day at most once that its time has come; days and times are UTC."""

    def __init__(self, at: time | None) -> None:
        self._at = at
        self._done: date | None = None

    def due(self, now: float) -> date | None:
        """Return the day whose time has come and that was not `done` yet, None otherwise."""
        here = datetime.fromtimestamp(now, UTC)
        if self._at is None or here.time() < self._at or self._done == here.date():
            return None
        return here.date()

    def done(self, day: date) -> None:
        """Take a day as dealt with."""
        self._done = day
