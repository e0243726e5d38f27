"""Each liquidation of a tape told once, though a reorg brings its transaction again."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from keeper.tape.records import Liquidation

Call = tuple[bytes, str, bytes, bytes, bytes]
"""A transaction, and in it the market, borrower, debt and collateral of a call."""


@dataclass(slots=True)
class Once:
    """Remembers what it was told of; one transaction may call twice for the same pair."""

    _seen: set[tuple[int, Call]] = field(default_factory=set)

    def new(self, liquidations: Sequence[Liquidation]) -> list[Liquidation]:
        """Return those of some blocks of one branch, in order, that were not told of before."""
        calls = Counter[Call]()
        found: list[Liquidation] = []
        for each in liquidations:
            call = (each.tx_hash, each.market, each.borrower, each.debt, each.collateral)
            calls[call] += 1
            place = (calls[call], call)
            if place not in self._seen:
                self._seen.add(place)
                found.append(each)
        return found
