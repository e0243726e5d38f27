"""Hours of the day in which only what is critical is told."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Quiet:
    """From one time of the day to another, over midnight too, in a time zone."""

    begin: time
    end: time
    zone: ZoneInfo

    def end_after(self, now: float) -> float:
        """Return when it is no longer quiet: now, or when these hours end."""
        here = datetime.fromtimestamp(now, self.zone)
        for day in (-1, 0):
            begin = self._at(here, day, self.begin)
            end = self._at(here, day + (self.end <= self.begin), self.end)
            if begin <= here < end:
                return end.timestamp()
        return now

    def _at(self, here: datetime, days: int, at: time) -> datetime:
        return datetime.combine(here.date() + timedelta(days), at, self.zone)
