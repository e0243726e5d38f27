"""What takes pauses of chains that are not open, over a journal in memory."""

from keeper.app.unopened import Unopened
from keeper.journal.breakers import BreakerChange
from tests.fake_node import FakeClock


class Rows:
    """Keep what breakers did."""

    def __init__(self) -> None:
        self.changes: list[BreakerChange] = []

    async def breaker(self, change: BreakerChange) -> None:
        """Keep one change."""
        self.changes.append(change)


def unopened() -> Unopened:
    """Return one of which no chain is open."""
    rows = Rows()
    return Unopened(rows, lambda: rows.changes, FakeClock(), lambda _: None)
