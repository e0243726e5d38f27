"""The watched positions of one market, in columns, so that one pass says who is to be looked at."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keeper.margin.levels import Ladder, Level, Standing, is_due
from keeper.margin.watch import Watch
from keeper.units import BPS, WAD, Address
from keeper.volatility import Floats

MARGIN = 1e-5
"""What the float screen's health may be off by: nearer to a level, exact integers decide."""
Key = tuple[str, Address]
"""A watch and an account."""


class Known(NamedTuple):
    """A health and a debt in base currency as they were at a head; NaN and 0 when never looked at."""

    health: float = math.nan
    owed: float = math.nan
    head: int = 0


NEVER = Known()


@dataclass(slots=True)
class Entry:
    """One position on one watch: an account of the protocol, and the market it is in.

    `known` is what was known before it was watched.
    """

    watch: Watch
    account: Address
    market: str
    ladder: Ladder
    standing: Standing
    known: Known = NEVER

    @property
    def key(self) -> Key:
        """Identify the entry in its market."""
        return self.watch.name, self.account

    @property
    def borrower(self) -> Address:
        """Return whose account it is."""
        return Address(self.account[-20:])


@dataclass(frozen=True, slots=True)
class Shown:
    """Some entries of a roster as they stood at one moment; what it sees later changes nothing here."""

    entries: Sequence[Entry]
    health: Floats
    owed: Floats
    heads: NDArray[np.int64]
    places: NDArray[np.intp]

    def known(self, place: int) -> Known:
        """Return the health and debt of the entry at a place."""
        return Known(float(self.health[place]), float(self.owed[place]), int(self.heads[place]))


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
        self.accounts: list[Address] = []
        self.health: Floats = np.zeros(0)
        self.owed: Floats = np.zeros(0)
        self.heads = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, key: Key) -> Entry | None:
        """Return an entry, None for one that is not watched."""
        place = self._places.get(key)
        return None if place is None else self.entries[place]

    def filled(self, entries: Iterable[Entry]) -> "Roster":
        """Return a roster of these entries, with what is known here of those that are here, too.

        Nothing changes here: may run beside the event loop.
        """
        made = Roster()
        made.entries = list(entries)
        made._places = {entry.key: place for place, entry in enumerate(made.entries)}
        made.accounts = [entry.account for entry in made.entries]
        made._watches = sorted({entry.watch.name for entry in made.entries})
        numbers = {name: number for number, name in enumerate(made._watches)}
        made._watch_of = np.array([numbers[entry.watch.name] for entry in made.entries], np.intp)
        size = len(made.entries)
        made._levels, made._scaled = np.zeros(size, np.intp), np.full(size, np.nan)
        made._worse, made._better = np.zeros(size), np.zeros(size)
        made.health = np.array([entry.known.health for entry in made.entries], np.float64)
        made.owed = np.array([entry.known.owed for entry in made.entries], np.float64)
        made.heads = np.array([entry.known.head for entry in made.entries], np.int64)
        before = np.array([self._places.get(key, -1) for key in made._places], np.intp)
        kept = np.flatnonzero(before >= 0)
        made._scaled[kept] = self._scaled[before[kept]]
        made.health[kept] = self.health[before[kept]]
        made.owed[kept] = self.owed[before[kept]]
        made.heads[kept] = self.heads[before[kept]]
        fell = {self.entries[place].key: scaled for place, scaled in self._fell.items()}
        made._fell = {made._places[key]: fell[key] for key in fell.keys() & made._places.keys()}
        for place in range(size):
            made._bound(place)
        return made

    @property
    def is_seen(self) -> bool:
        """Say whether every entry was looked at, at one head."""
        return not len(self.heads) or bool((self.heads > 0).all())

    def known(self, entry: Entry) -> Known:
        """Return the health and debt last seen of an entry."""
        place = self._places[entry.key]
        return Known(float(self.health[place]), float(self.owed[place]), int(self.heads[place]))

    def shown(self, *, whole: bool, watch: str | None = None) -> "Shown":
        """Return the entries with debt, or of which nobody knows, as they stand now.

        Those that are safe only if `whole`, those of one watch only if it is named.
        """
        chosen = ~(self.owed == 0.0) & ((self.heads > 0) | (self._levels > 0))
        if not whole:
            chosen &= self._levels > 0
        if watch is not None:
            of = self._watches.index(watch) if watch in self._watches else -1
            chosen &= self._watch_of == of
        places = np.flatnonzero(chosen)
        return Shown(self.entries, self.health, self.owed, self.heads, places)

    def owes_nothing(self, entry: Entry) -> bool:
        """Say whether the screen saw no debt of an entry."""
        return bool(self.owed[self._places[entry.key]] == 0.0)

    def set(self, entry: Entry, standing: Standing) -> None:
        """Let an entry stand differently."""
        entry.standing = standing
        self._bound(self._places[entry.key])

    def raise_ladder(self, entry: Entry, ladder: Ladder) -> None:
        """Begin an entry's levels elsewhere from now on."""
        entry.ladder = ladder
        self._bound(self._places[entry.key])

    def see(self, health: Floats, owed: Floats, scaled: Floats, head: int = 1) -> list[Entry]:
        """Take what the screen says; return whose debt fell, so who may have been liquidated."""
        self.health, self.owed = health, owed
        self.heads = np.full(len(self.entries), head, np.int64)
        fell = np.flatnonzero(scaled < self._scaled * (1.0 - 1e-12))
        kept = np.isin(np.arange(len(scaled)), fell)
        self._scaled = np.where(kept, self._scaled, scaled)
        self._fell = dict(zip(fell.tolist(), scaled[fell].tolist(), strict=True))
        return [self.entries[place] for place in fell.tolist()]

    def answered(self) -> None:
        """Take the lower debts as known: it was found out what became of the rest."""
        for place, scaled in self._fell.items():
            self._scaled[place] = scaled
        self._fell = {}

    def unfinished(self) -> list[Entry]:
        """Return the entries told of a level, or of which it is not known why their debt fell."""
        places = self._told | self._fell.keys()
        return [self.entries[place] for place in sorted(places)]

    def owing(self, least: float) -> list[Entry]:
        """Return the entries that owed at least a value in base currency when last looked at.

        What was not looked at, or has no price, may owe as much.
        """
        return [self.entries[place] for place in np.flatnonzero(~(self.owed < least)).tolist()]

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
        debts = np.bincount(kinds, np.nan_to_num(self.owed), length).tolist()
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


def worst_first(
    held: Sequence[tuple[Shown, int]], limit: int | None
) -> Iterator[tuple[Shown, int, int]]:
    """Yield what is shown of several rosters, each with the number it came with, and its place.

    The least healthy first, `limit` at most; what is not known comes last.
    """
    if not held:
        return
    health = np.concatenate([shown.health[shown.places] for shown, _ in held])
    of = np.repeat(np.arange(len(held)), [len(shown.places) for shown, _ in held])
    places = np.concatenate([shown.places for shown, _ in held])
    order = np.argsort(health, kind="stable")[:limit]
    for each in order:
        shown, number = held[of[each]]
        yield shown, number, int(places[each])
