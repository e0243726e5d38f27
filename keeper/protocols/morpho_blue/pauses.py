"""Ask what does not answer less and less: anybody may create a market, of contracts of his own."""

from keeper.units import Address

LONGEST = 256
"""Heads after which what never answers is asked again."""
SHORT = 2
"""And what did answer once: its borrowers may be liquidatable the moment it answers again."""


class Pauses:
    """Counts heads and failures: what failed rests for a head, and twice as long each time again."""

    def __init__(self) -> None:
        self._heads = 0
        self._resting: dict[Address, tuple[int, int]] = {}
        self._answered: set[Address] = set()

    def pass_head(self) -> None:
        """Begin the next head."""
        self._heads += 1

    def is_due(self, what: Address) -> bool:
        """Tell whether something is to be asked at this head."""
        return self._resting.get(what, (0, 0))[1] <= self._heads

    def noted(self, what: Address, *, is_told: bool) -> bool:
        """Remember whether something answered, and return it."""
        if is_told:
            self._resting.pop(what, None)
            self._answered.add(what)
        else:
            failures = min(self._resting.get(what, (0, 0))[0] + 1, LONGEST)
            longest = SHORT if what in self._answered else LONGEST
            self._resting[what] = failures, self._heads + min(1 << failures >> 1, longest)
        return is_told
