"""What settled plans cost and brought within the last day, each counted once."""

from collections.abc import Iterator
from dataclasses import dataclass

from keeper.risk.limits import DAY
from keeper.units import Address, Hash

PositionKey = tuple[str, Address]
"""A market and a borrower."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One settled plan; `missed` says whether it fell short of its estimate, None when not judged.

    `liquidates` is false of what only moves money or takes a nonce back. `positions` are those it was
    for, empty where that is not known; `outrun` says that another transaction was faster.
    """

    time: float
    tx_hash: Hash | None
    gas: int
    repaid: int
    net_usd: int
    reverted: bool
    missed: bool | None = None
    liquidates: bool = True
    positions: frozenset[PositionKey] = frozenset()
    outrun: bool = False


class Ledger:
    """Entries by plan: told again replaces, and what a reorg undid is taken out."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def book(self, plan_id: str, entry: Entry) -> None:
        """Count a plan, in place of what was known of it."""
        self._entries.pop(plan_id, None)
        self._entries[plan_id] = entry

    def strike(self, plan_id: str, tx_hash: Hash | None) -> None:
        """Take a plan out when it was counted for this very transaction."""
        entry = self._entries.get(plan_id)
        if entry is not None and tx_hash is not None and entry.tx_hash == tx_hash:
            del self._entries[plan_id]

    def forget(self, now: float) -> None:
        """Forget what is older than a day, by the newest entry: a clock may jump ahead and come back."""
        newest = max((entry.time for entry in self._entries.values()), default=now)
        before = min(now, newest) - DAY
        gone = [plan for plan, entry in self._entries.items() if entry.time <= before]
        for plan in gone:
            del self._entries[plan]

    def since(self, time: float) -> Iterator[Entry]:
        """Yield what was settled after a time, in the order it was told."""
        return (entry for entry in self._entries.values() if entry.time > time)

    def gas(self, since: float) -> int:
        """Return the gas paid after a time, in wei."""
        return sum(entry.gas for entry in self.since(since))

    def repaid(self, since: float) -> int:
        """Return the dollars repaid after a time."""
        return sum(entry.repaid for entry in self.since(since))

    def net(self, since: float) -> int:
        """Return the dollars won or lost after a time."""
        return sum(entry.net_usd for entry in self.since(since))

    def reverts(self, since: float) -> int:
        """Return how many liquidating transactions reverted after a time that no position explains twice.

        Who moves a pool back and forth can make a sale of profit revert, one position may fail on the
        chain only, and a rival may be faster: none of that must stop the rest.
        """
        count, known = 0, set[PositionKey]()
        for entry in self.since(since):
            if not entry.reverted or not entry.liquidates or entry.outrun:
                continue
            if not known & entry.positions:
                count += 1
                known |= entry.positions
        return count
