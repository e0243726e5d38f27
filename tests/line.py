"""A keeper on the local chain for tests of the whole line: set up, run, count."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from keeper.cli.demo.stage import Stage, staged
from keeper.cli.demo.tally import Tally
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.devnet.scenario import underwater
from keeper.types import Reason


class Play:
    """A running keeper with everything it reported so far."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.net = stage.net
        self.tally = Tally()

    def count(self) -> Tally:
        """Take what was reported since the last look."""
        for heap in (self.stage.events, self.stage.reports):
            while heap:
                self.tally.take(heap.popleft())
        return self.tally

    def assert_taken(self, borrowers: Iterable[bytes]) -> None:
        """Assert that exactly these were liquidated; tell why one was not."""
        tally = self.count()
        missing = [
            tally.refused.get(who, "never judged")
            for who in borrowers
            if who not in tally.liquidated
        ]
        assert not missing, missing
        assert tally.liquidated == set(borrowers)

    def reasons(self, borrowers: Iterable[bytes]) -> set[Reason]:
        """Return why each of these borrowers was last refused."""
        self.count()
        return {self.tally.refused[who].reason for who in borrowers}

    def under(self, borrowers: Iterable[bytes]) -> set[bytes]:
        """Return who is liquidatable by the protocol's own account."""
        return underwater(self.net, list(borrowers))

    async def audit(self) -> list[Any]:
        """Compare the whole book with the chain."""
        return await self.stage.line.book.audit(self.stage.line.reader, sample=10_000, seed=1)


@asynccontextmanager
async def playing(
    net: Devnet, home: Path, *, live: bool = True, lanes: int = 1, **settings: Any
) -> AsyncIterator[Play]:
    """Deploy an operator with some lanes, write its settings and run a keeper on them."""
    operator = deploy_operator(net, lanes=lanes)
    path = write_settings(net, operator, home, live=live, **settings)
    async with staged(net, load([path]).settings, live=live) as stage:
        yield Play(stage)


def assert_clean(tally: Tally) -> None:
    """Assert that no send was rejected or reverted and that profit was as estimated."""
    assert tally.rejected_sends == 0
    assert tally.reverted == 0
    assert tally.worst_error_bps <= 1
