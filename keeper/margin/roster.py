"""The watched positions of one market, in columns, so that one pass says who is to be looked at."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from keeper.margin.levels import Ladder, Level, Standing, is_due
from keeper.margin.watch import Watch
from keeper.units import BPS, WAD, Address
from keeper.volatility import Floats

MARGIN = 1e-5
"""What the float screen's health may be off by: nearer to a level, exact integers decide."""
Key = tuple[str, Address]
"""A watch and a borrower."""


@dataclass(slots=True)
class Entry:
    """One position on one watch."""

    watch: Watch
    borrower: Address
    ladder: Ladder
    standing: Standing

    @property
    def key(self) -> Key:
        """Identify the entry in its market."""
        return self.watch.name, self.borrower


class Roster:
    """Entries of one market with the healths between which nothing is told of each."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._places: dict[Key, int] = {}
        self._worse: Floats = np.zeros(0)
        self._better: Floats = np.zeros(0)
        self._scaled: Floats = np.zeros(0)
        self._fell: dict[int, float] = {}
        self._levels = np.zeros(0, np.intp)
        self._watches: list[str] = []
        self._watch_of = np.zeros(0, np.intp)
        self._told: set[int] = set()
        self.borrowers: list[Address] = []
        self.health: Floats = np.zeros(0)
        self.owed: Floats = np.zeros(0)

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, key: Key) -> Entry | None:
        """Return an entry, None for one that is not watched."""
        place = self._places.get(key)
        return None if place is None else self.entries[place]

    def fill(
        self,
        members: Iterable[tuple[Watch, Address]],
        standing_of: Callable[[Watch, Address], Standing],
    ) -> list[Entry]:
        """Watch these; return who is not watched any more. Ladders and standings known are kept."""
        before = self.entries
        scaled = dict(zip(self._places, self._scaled.tolist(), strict=True))
        wanted = {(watch.name, borrower): watch for watch, borrower in members}
        known = {entry.key: entry for entry in before}
        self.entries = [
            known.get(key) or Entry(watch, key[1], watch.ladder, standing_of(watch, key[1]))
            for key, watch in wanted.items()
        ]
        self._places = {entry.key: place for place, entry in enumerate(self.entries)}
        self.borrowers = [entry.borrower for entry in self.entries]
        self._watches = sorted({entry.watch.name for entry in self.entries})
        numbers = {name: number for number, name in enumerate(self._watches)}
        self._watch_of = np.array([numbers[entry.watch.name] for entry in self.entries], np.intp)
        self._levels = np.zeros(len(self.entries), np.intp)
        self._told, self._fell = set(), {}
        self._scaled = np.array([scaled.get(key, np.nan) for key in self._places])
        self._worse, self._better = np.zeros(len(self.entries)), np.zeros(len(self.entries))
        self.health = np.full(len(self.entries), np.nan)
        self.owed = np.zeros(len(self.entries))
        for place in range(len(self.entries)):
            self._bound(place)
        return [entry for entry in before if entry.key not in self._places]

    def set(self, entry: Entry, standing: Standing) -> None:
        """Let an entry stand differently."""
        entry.standing = standing
        self._bound(self._places[entry.key])

    def raise_ladder(self, entry: Entry, ladder: Ladder) -> None:
        """Begin an entry's levels elsewhere from now on."""
        entry.ladder = ladder
        self._bound(self._places[entry.key])

    def see(self, health: Floats, owed: Floats, scaled: Floats) -> list[Entry]:
        """Take what the screen says; return whose debt fell, so who may have been liquidated."""
        self.health, self.owed = health, owed
        fell = np.flatnonzero(scaled < self._scaled * (1.0 - 1e-12))
        kept = np.isin(np.arange(len(scaled)), fell)
        self._scaled = np.where(kept, self._scaled, scaled)
        self._fell = dict(zip(fell.tolist(), scaled[fell].tolist(), strict=True))
        return [self.entries[place] for place in fell.tolist()]

    def answered(self) -> None:
        """Take the lower debts as known: it was found out what became of the rest."""
        for place, scaled in self._fell.items():
            self._scaled[place] = scaled

    def to_look_at(self, now: float) -> list[Entry]:
        """Return the entries of which something may have to be told, worst first."""
        health = self.health
        moved = ~(health > self._worse) | (health >= self._better)
        places = set(np.flatnonzero(moved).tolist())
        for place in self._told:
            entry = self.entries[place]
            waiting = entry.standing.better_since is not None
            if waiting or is_due(entry.standing, now, entry.watch.habits):
                places.add(place)
        found = np.array(sorted(places), np.intp)
        # what has no price, NaN, comes last
        return [self.entries[place] for place in found[np.argsort(health[found], kind="stable")]]

    def tally(self) -> Mapping[tuple[str, Level], tuple[int, float]]:
        """Return by watch and level how many positions there are, and what they owe together."""
        size = len(Level)
        kinds = self._watch_of * size + self._levels
        length = size * len(self._watches)
        counts = np.bincount(kinds, self.owed > 0, length).tolist()
        debts = np.bincount(kinds, self.owed, length).tolist()
        return {
            (name, level): (int(counts[number * size + level]), debts[number * size + level])
            for number, name in enumerate(self._watches)
            for level in Level
        }

    def _bound(self, place: int) -> None:
        entry = self.entries[place]
        level, ladder = entry.standing.level, entry.ladder
        self._levels[place] = level
        (self._told.add if level else self._told.discard)(place)
        next_level = Level(level + 1) if level < Level.LIQUIDATABLE else None
        worse = 0.0 if next_level is None else ladder.begin(next_level) / WAD
        better = np.inf if level is Level.SAFE else ladder.begin(level) / WAD
        slack = 1.0 + entry.watch.habits.slack / BPS
        self._worse[place] = worse * (1.0 + MARGIN)
        self._better[place] = better * slack * (1.0 - MARGIN)
