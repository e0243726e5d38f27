"""How each relay has done: what it took, what came of it, how long it needs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

WEIGHT = 0.2
"""Share of the newest answer in the mean latency."""

IN_VAIN = 10
"""Transactions held without one inclusion after which a relay is left out."""

PROBE = 10
"""Every so many hand-overs one that is left out gets its chance."""


class Handed(StrEnum):
    """How one hand-over ended; an unclear one may have arrived."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNCLEAR = "unclear"


class Outcome(StrEnum):
    """What came of a transaction for one that held it, as metrics label it.

    Of a shared one it is not known which of those that held it had it included: each counts it.
    """

    INCLUDED = "included"
    SHARED = "shared"
    VAIN = "vain"


@dataclass(slots=True)
class Score:
    """Counts of one relay; `seconds` is the running mean of its answers, None before the first.

    `words` are its last complaint. `won` are transactions included while it alone held them, `together`
    those that others held as well, `lost` those it held in vain. Of several that held one nobody can
    tell which had it included: `credit` has an equal part of it for each.
    """

    taken: int = 0
    refused: int = 0
    unclear: int = 0
    won: int = 0
    together: int = 0
    credit: float = 0.0
    lost: int = 0
    seconds: float | None = None
    words: str = ""

    @property
    def is_idle(self) -> bool:
        """Whether it has had its chances and nothing it held was ever included."""
        return not (self.won or self.together) and self.lost >= IN_VAIN

    @property
    def inclusion(self) -> float:
        """Return the share of what it held that it had included, by Laplace's rule of succession."""
        return (self.credit + 1) / (self.won + self.together + self.lost + 2)


class Scores:
    """Keep a score for every relay by name, and tell who counts along."""

    def __init__(
        self,
        relays: Iterable[str],
        handed: Callable[[str, str, float], None] | None = None,
        ended: Callable[[str, str], None] | None = None,
    ) -> None:
        self._scores = {relay: Score() for relay in relays}
        self._on_handed = handed
        self._on_ended = ended
        self._turns = 0

    def of(self, relay: str) -> Score:
        """Return a relay's score."""
        return self._scores[relay]

    def handed(self, relay: str, how: Handed, seconds: float, words: str) -> None:
        """Count one hand-over, the time its answer took, and what was said."""
        score = self._scores[relay]
        match how:
            case Handed.TAKEN:
                score.taken += 1
            case Handed.REFUSED:
                score.refused += 1
            case Handed.UNCLEAR:
                score.unclear += 1
        if how is not Handed.UNCLEAR:
            known = score.seconds
            score.seconds = seconds if known is None else known + WEIGHT * (seconds - known)
        score.words = words or score.words
        if self._on_handed is not None:
            self._on_handed(relay, how, seconds)

    def ended(self, relay: str, *, included: bool, holders: int = 1) -> None:
        """Count what came of a transaction the relay held, one of so many holders."""
        score = self._scores[relay]
        outcome = Outcome.VAIN
        if included:
            outcome = Outcome.INCLUDED if holders == 1 else Outcome.SHARED
            score.won += holders == 1
            score.together += holders > 1
            score.credit += 1 / holders
        else:
            score.lost += 1
        if self._on_ended is not None:
            self._on_ended(relay, outcome)

    def choose(self) -> Sequence[str]:
        """Return who is asked this time, best first: all but the idle, and those now and then."""
        self._turns += 1
        return self.active() if self._turns % PROBE else self.best_first()

    def active(self) -> Sequence[str]:
        """Return all but the idle, best first; all when there are no others."""
        ordered = self.best_first()
        return [each for each in ordered if not self._scores[each].is_idle] or ordered

    def best_first(self) -> Sequence[str]:
        """Return all relays by inclusion, the configured order among equals."""
        return sorted(self._scores, key=lambda relay: -self._scores[relay].inclusion)
