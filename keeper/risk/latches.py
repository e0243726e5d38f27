"""Breakers that stay open once opened: until the operator, or a time set before, closes them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keeper.journal.breakers import BreakerChange

PAUSED, SIGNER = "operator_pause", "signer"
MEASURED = ("loss", "revert_rate", "estimate")
"""Opened by what the transactions brought; these alone close by time, when a time is set."""
LATCHED = (PAUSED, SIGNER, *MEASURED)


@dataclass(frozen=True, slots=True)
class Opened:
    """Since when a breaker is open, why, and until when, None for as long as nobody closes it."""

    time: float
    detail: str
    until: float | None


class Latches:
    """The latched breakers of one chain; `tell` hears of every change."""

    def __init__(
        self, chain: str, reset_seconds: float | None, tell: Callable[[BreakerChange], None]
    ) -> None:
        self._chain = chain
        self._reset = reset_seconds
        self._tell = tell
        self._closed: dict[str, float] = {}
        self.opened: dict[str, Opened] = {}

    def restore(self, changes: Iterable[BreakerChange]) -> None:
        """Stand as the journal says: what was open stays open."""
        for change in changes:
            if change.chain != self._chain or change.name not in LATCHED:
                continue
            if change.is_open:
                self.opened[change.name] = Opened(change.time, change.detail, change.until)
            else:
                self.opened.pop(change.name, None)
                self._closed[change.name] = change.time

    def since(self, name: str) -> float:
        """Return when a breaker was last closed: what happened before is forgiven."""
        return self._closed.get(name, 0.0)

    def open(self, name: str, detail: str, cause: str, now: float) -> None:
        """Open a breaker; one that is open stays as it is."""
        if name in self.opened:
            return
        until = None if self._reset is None or name not in MEASURED else now + self._reset
        self.opened[name] = Opened(now, detail, until)
        self._tell(BreakerChange(now, self._chain, name, True, detail, cause, until))

    def close(self, cause: str, now: float, names: Iterable[str] = LATCHED) -> list[str]:
        """Close breakers and return which of them were open."""
        closed = [name for name in names if name in self.opened]
        for name in closed:
            detail = self.opened.pop(name).detail
            self._closed[name] = now
            self._tell(BreakerChange(now, self._chain, name, False, detail, cause))
        return closed

    def expire(self, now: float) -> None:
        """Close what was to stay open until now."""
        due = [n for n, o in self.opened.items() if o.until is not None and o.until <= now]
        self.close("time", now, due)
