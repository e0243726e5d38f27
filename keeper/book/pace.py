"""How many positions are judged at a head, so that the next one does not come before all are."""

from collections.abc import Callable

LEAST = 64
"""Positions of each market that are judged at any pace, in a few milliseconds."""

SHORTEST, LONGEST = 1e-4, 60.0
"""Seconds that are worth measuring."""
HALF, NEARLY_ALL = 0.5, 0.8


class Pace:
    """Judge all as long as there is time for all, and fewer once a head came too early.

    A judging that is overtaken is void, and the next one begins again: with more to judge than fits
    between two heads nothing would ever be decided. What is judged is halved when that happened
    twice in a row, and grows again as long as some of the time between two heads is left.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._most: int | None = None
        self._began = float("-inf")
        self._apart = 0.0
        self._in_a_row = 0

    @property
    def most(self) -> int | None:
        """Return how many positions of each market are judged at a head, None when all are."""
        return self._most

    def begin(self) -> None:
        """Begin a head."""
        now = self._monotonic()
        self._apart, self._began = now - self._began, now

    def overtaken(self, candidates: int) -> None:
        """Take in that another head came first; a market had as many `candidates`, no other more."""
        self._in_a_row += 1
        most = candidates if self._most is None else min(self._most, candidates)
        if self._in_a_row > 1 and most > LEAST:
            self._most = max(LEAST, most // 2)

    def done(self, candidates: int) -> None:
        """Take in that a head was judged in time; a market had as many `candidates`, no other more."""
        self._in_a_row = 0
        if self._most is None:
            return
        spent = max(self._monotonic() - self._began, SHORTEST)
        apart = min(self._apart, LONGEST)
        most = self._most
        if spent < HALF * apart:
            most = int(most * HALF * apart / spent) + 1
        elif spent < NEARLY_ALL * apart:
            # Not all that was spent grows with what is judged.
            most += most // 8
        self._most = None if most >= candidates else most
