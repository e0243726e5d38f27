"""One market in the book: its columns, its prices, and who is at risk in it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keeper.book.columns import Columns
from keeper.ports import LendingProtocol
from keeper.types import (
    AtRisk,
    CallResult,
    Cause,
    Head,
    NextBlock,
    Position,
    Prices,
    Reason,
    Skip,
)
from keeper.units import WAD, Address

SCREEN_MARGIN = 1e-5
"""Float health under 1 + this is recomputed exactly.

The screen's own error is about 1e-12; contracts round to whole token units, which for WBTC is
0.0006 USD at 60,000 USD, so the margin is right for debts of 60 USD and more.
"""


class MarketBook:
    """Screen one market and compute its candidates exactly."""

    def __init__(self, protocol: LendingProtocol) -> None:
        self.protocol = protocol
        self.prices = Prices(protocol.market, 1, {})
        self.liquidatable = 0
        self.debt_at_risk = 0
        self._before = self.prices
        self._columns = Columns()
        self._causes: dict[Address, Cause] = {}
        self._touched: set[Address] = set()

    def observe(
        self, prices: Sequence[CallResult], others: Sequence[CallResult], head: Head
    ) -> None:
        """Take a head's answers: the oracle's reads, and the protocol's own."""
        self._before = self.prices
        self.prices = self.protocol.oracle.prices(prices, head)
        self.protocol.observe(others, head)

    def at_risk(self, next_block: NextBlock) -> tuple[list[AtRisk], list[Skip]]:
        """Return liquidatable positions, worst first, and a `Skip` for each that has no price."""
        found: list[AtRisk] = []
        skips: list[Skip] = []
        causes: dict[Address, Cause] = {}
        self.debt_at_risk = 0
        before: NDArray[np.float64] | None = None
        for borrower in self._columns.below(self._health(next_block), 1.0 + SCREEN_MARGIN):
            position = self.protocol.position(borrower, self.prices, next_block)
            if position is None:
                skips.append(self._unpriced(borrower))
                continue
            if position.health >= WAD:
                continue
            cause = self._causes.get(borrower)
            if cause is None:
                before = self._health_before(next_block) if before is None else before
                cause = self._cause(borrower, before)
            causes[borrower] = cause
            pairs, refusals = self.protocol.pairs(position, self.prices, next_block)
            found.append(AtRisk(position, tuple(pairs), tuple(refusals), cause))
            self.debt_at_risk += position.debt_value
        self._causes = causes
        self._touched.clear()
        self.liquidatable = len(found)
        return found, skips

    def positions(self, next_block: NextBlock, below: float, limit: int) -> list[Position]:
        """Return exact positions whose approximate health is under `below`, worst first."""
        found = []
        for borrower in self._columns.below(self._health(next_block), below)[:limit]:
            position = self.protocol.position(borrower, self.prices, next_block)
            if position is not None:
                found.append(position)
        return found

    def _health(self, next_block: NextBlock) -> NDArray[np.float64]:
        changed = self.protocol.changed()
        for borrower in changed:
            self._columns.replace(borrower, *self.protocol.legs(borrower))
        self._touched |= changed
        return self._columns.health(*self.protocol.factors(self.prices, next_block))

    def _health_before(self, next_block: NextBlock) -> NDArray[np.float64]:
        """Return health at the next block as it would be at the prices of the head before."""
        return self._columns.health(*self.protocol.factors(self._before, next_block))

    def _cause(self, borrower: Address, before: NDArray[np.float64]) -> Cause:
        """Say what brought a position under: its own change, interest at old prices, or a price.

        The screen is exact enough to name it.
        """
        if borrower in self._touched:
            return Cause.POSITION
        return Cause.INTEREST if before[self._columns.row(borrower)] < 1.0 else Cause.PRICE

    def _unpriced(self, borrower: Address) -> Skip:
        return Skip(
            self.protocol.market,
            self.protocol.protocol,
            borrower,
            Reason.NO_PRICE,
            "a price this position needs could not be read",
        )
