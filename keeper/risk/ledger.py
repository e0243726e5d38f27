"""What settled plans cost and brought within the last day, each counted once."""

from collections.abc import Iterator
from dataclasses import dataclass

from keeper.risk.limits import DAY
from keeper.units import Hash


@dataclass(frozen=True, slots=True)
class Entry:
    """One settled plan; `missed` says whether it fell short of its estimate, None when not judged.

    `liquidates` is false of what only moves money or takes a nonce back.
    """

    time: float
    tx_hash: Hash | None
    gas: int
    repaid: int
    net_usd: int
    reverted: bool
    missed: bool | None = None
    liquidates: bool = True


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
        """Forget what is older than a day."""
        gone = [plan for plan, entry in self._entries.items() if entry.time <= now - DAY]
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
        """Return how many liquidating transactions reverted after a time.

        Who moves a pool back and forth can make a sale of profit revert; that must not stop the rest.
        """
        return sum(entry.reverted and entry.liquidates for entry in self.since(since))
