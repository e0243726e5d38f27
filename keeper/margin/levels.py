"""How near an account is to its liquidation, and when that changed enough to be told."""

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from keeper.units import BPS, WAD, Bps, Wad


class Level(IntEnum):
    """How near a position is to its liquidation, the worse the higher."""

    SAFE = 0
    WARNING = 1
    CALL = 2
    CRITICAL = 3
    LIQUIDATABLE = 4

    @property
    def word(self) -> str:
        """Return the level as people and JSON have it."""
        return self.name.lower()


class Kind(StrEnum):
    """What a message is about."""

    WORSE = "worse"
    BETTER = "better"
    REMINDER = "reminder"
    LIQUIDATED = "liquidated"


@dataclass(frozen=True, slots=True)
class Ladder:
    """The health at and under which each level begins, the highest first."""

    warning: Wad
    call: Wad
    critical: Wad

    def level(self, health: int) -> Level:
        """Return the level of a health factor."""
        if health < WAD:
            return Level.LIQUIDATABLE
        if health <= self.critical:
            return Level.CRITICAL
        if health <= self.call:
            return Level.CALL
        return Level.WARNING if health <= self.warning else Level.SAFE

    def begin(self, level: Level) -> Wad:
        """Return the health under which a level begins; nothing is under that of being safe."""
        match level:
            case Level.WARNING:
                return self.warning
            case Level.CALL:
                return self.call
            case Level.CRITICAL:
                return self.critical
            case Level.LIQUIDATABLE:
                return Wad(WAD)
            case Level.SAFE:
                return Wad(2**256)

    def raised(self, other: "Ladder") -> "Ladder":
        """Return the ladder that begins each level where the earlier of two does."""
        return Ladder(
            max(self.warning, other.warning),
            max(self.call, other.call),
            max(self.critical, other.critical),
        )


@dataclass(frozen=True, slots=True)
class Habits:
    """When a change is told: a better level only beyond `slack`, and once it held for `cooldown`.

    From a call on, what nobody acknowledged is told once more after `escalate` seconds, if set.
    """

    slack: Bps = Bps(50)
    cooldown: float = 600.0
    escalate: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The level told last, since when, and how often something was told of this position.

    `episode` is the head at which it came to be watched: who leaves a list and comes back to it is
    told of everything again.
    """

    level: Level = Level.SAFE
    changes: int = 0
    since: float = 0.0
    better_since: float | None = None
    acknowledged: bool = False
    reminded: bool = False
    episode: int = 0

    def changed(self, level: Level, now: float) -> "Standing":
        """Return the standing after a change was told."""
        return Standing(level, self.changes + 1, now, episode=self.episode)


def step(
    standing: Standing, health: int, now: float, ladder: Ladder, habits: Habits
) -> tuple[Standing, Kind | None]:
    """Return how a position stands with this health, and what has to be told, if anything.

    Worse is told at once. Better is told when health is `slack` above where the level begins and was
    so for `cooldown` seconds: a price that swings around a level says nothing new.
    """
    if ladder.level(health) > standing.level:
        return standing.changed(ladder.level(health), now), Kind.WORSE
    settled = min(ladder.level(health * BPS // (BPS + habits.slack)), standing.level)
    if settled < standing.level:
        since = now if standing.better_since is None else standing.better_since
        if now - since >= habits.cooldown:
            return standing.changed(settled, now), Kind.BETTER
        return replace(standing, better_since=since), None
    if standing.better_since is not None:
        standing = replace(standing, better_since=None)
    if is_due(standing, now, habits):
        return replace(standing, changes=standing.changes + 1, reminded=True), Kind.REMINDER
    return standing, None


def is_due(standing: Standing, now: float, habits: Habits) -> bool:
    """Say whether nobody acknowledged a call for so long that it is told once more."""
    return (
        habits.escalate is not None
        and standing.level >= Level.CALL
        and not standing.acknowledged
        and not standing.reminded
        and now - standing.since >= habits.escalate
    )
