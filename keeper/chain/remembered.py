"""A checkpoint in memory and a progress nobody sees, for readers that need no more."""

from collections.abc import Sequence

from keeper.ports import Scanned


class Remembered:
    """Keep scans while the process lives; satisfies `ports.Checkpoint`."""

    def __init__(self) -> None:
        self._scans: dict[str, tuple[bytes, list[Scanned]]] = {}

    async def load(self, stage: str, identity: bytes) -> list[Scanned]:
        """Return what was saved of a scan."""
        known, parts = self._scans.get(stage, (identity, []))
        return list(parts) if known == identity else []

    async def save(self, stage: str, identity: bytes, parts: Sequence[Scanned]) -> None:
        """Add to a scan."""
        known, kept = self._scans.get(stage, (identity, []))
        before = kept if known == identity else []
        self._scans[stage] = identity, [*before, *parts]

    async def clear(self) -> None:
        """Forget every scan."""
        self._scans.clear()


class Unreported:
    """Tell nobody; satisfies `ports.Progress`."""

    def report(self, stage: str, unit: str, done: int, total: int) -> None:
        """Do nothing."""
