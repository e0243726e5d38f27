"""Positions whose transactions fail on the chain though every simulation holds."""

from collections.abc import Iterable

from keeper.execution.flight import Key
from keeper.types import Included, Receipt, Reverted

PATIENCE = 4
"""Heads for which the second failure holds a position back; each further one four times as long."""
LONGEST = 1_024
KEPT = 1_024
"""Positions remembered."""


class Failed:
    """Hold back, longer each time, what fails again and again.

    A simulation has to hold before a retry, so the cause it would show is gone by then; what no
    simulation shows, as an order within the block, may be gone at once or never. Once is chance.
    """

    def __init__(self) -> None:
        self._failures: dict[Key, tuple[int, int]] = {}

    def ended(self, receipt: Receipt, keys: Iterable[Key], head: int) -> None:
        """Take how a plan for these positions ended by a head.

        One that failed beside others that held counts as well: where a rival took it nobody asks for it.
        """
        match receipt:
            case Reverted():
                held: frozenset[Key] = frozenset()
            case Included():
                held = frozenset((item.market, item.borrower) for item in receipt.items if item.ok)
            case _:
                return
        for key in dict.fromkeys(keys):
            count, _ = self._failures.pop(key, (0, 0))
            if key not in held:
                pause = min(PATIENCE ** min(count, 9), LONGEST) if count else 0
                self._failures[key] = count + 1, head + pause
        while len(self._failures) > KEPT:
            del self._failures[next(iter(self._failures))]

    def held(self, head: int) -> frozenset[Key]:
        """Return the positions held back at a head."""
        return frozenset(key for key, (_, until) in self._failures.items() if head < until)
