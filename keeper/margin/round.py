"""Whether every market was looked at for one day's digest, over as many heads as that takes."""

from collections.abc import Iterable
from datetime import date


class Round:
    """Keep which markets were seen since a day's digest came due, and which could not be."""

    def __init__(self) -> None:
        self._day: date | None = None
        self._seen: set[str] = set()
        self._failed: set[str] = set()

    def begin(self, day: date | None) -> None:
        """Start anew when another day's digest is due; None when none is."""
        if day != self._day:
            self._day = day
            self._seen.clear()
            self._failed.clear()

    def seen(self, name: str) -> None:
        """Take a market as looked at, whatever failed there before."""
        self._seen.add(name)
        self._failed.discard(name)

    def failed(self, name: str) -> None:
        """Take a market as one that the digest does not wait for, unless it was looked at before."""
        if name not in self._seen:
            self._failed.add(name)

    def due(self, names: Iterable[str]) -> date | None:
        """Return the day whose digest can be told, as no market is left to be looked at."""
        return self._day if self._seen | self._failed >= set(names) else None

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of the markets that could not be looked at."""
        return sorted(self._failed & set(names))
