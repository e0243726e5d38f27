"""What is already on record about each position, so that only changes are written."""

from collections.abc import Iterable, Sequence

from keeper.types import Opportunity, Reason, Skip, View
from keeper.units import Address

Key = tuple[str, Address, str]


class Standing:
    """Remember the last recorded state of every position at risk on one chain.

    An episode begins when a position is first seen and ends when it is no longer at risk; within
    it a choice is news once, and a skip is news when its reason was not among the last ones.
    """

    def __init__(self) -> None:
        self._chosen: set[Key] = set()
        self._reasons: dict[Key, frozenset[Reason]] = {}

    def news(
        self, view: View, opportunities: Sequence[Opportunity], skips: Sequence[Skip]
    ) -> tuple[list[Opportunity], list[Skip]]:
        """Return what has to be written, and remember it."""
        at_risk = {entry.position.key for entry in view.at_risk}
        at_risk.update(found.key for found in opportunities)
        # A position without a price is judged by nobody, and stays on record all the same.
        at_risk.update((skip.market, skip.borrower) for skip in skips)
        self._chosen = {key for key in self._chosen if key[:2] in at_risk}
        self._reasons = {key: last for key, last in self._reasons.items() if key[:2] in at_risk}
        return [found for found in opportunities if self._is_new(found)], self._changed(skips)

    def _is_new(self, found: Opportunity) -> bool:
        key = (*found.key, found.strategy)
        known = key in self._chosen
        self._chosen.add(key)
        return not known

    def _changed(self, skips: Iterable[Skip]) -> list[Skip]:
        """Return the skips that are news; a position may have one for each of its pairs."""
        now: dict[Key, dict[Reason, Skip]] = {}
        for skip in skips:
            key = (skip.market, skip.borrower, skip.strategy)
            now.setdefault(key, {}).setdefault(skip.reason, skip)
        news = [
            skip
            for key, reasons in now.items()
            for reason, skip in reasons.items()
            if reason not in self._reasons.get(key, frozenset())
        ]
        self._reasons.update((key, frozenset(reasons)) for key, reasons in now.items())
        return news
