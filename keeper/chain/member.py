"""One endpoint of a pool: how it stands, what it lately did, and how good it is to ask."""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from keeper.chain.survey import Sight, Standing, Verdict
from keeper.ports import Rpc
from keeper.types import Head
from keeper.units import to_hex

_FAULT_SECONDS = 1.0
_FAULT_HALF_LIFE = 30.0
_BLOCK_SECONDS = 0.5
_LATENCY_WEIGHT = 0.3
_MISSES = 2
_REST = 1.0
_LONGEST_REST = 300.0
"""A quota of a day is asked about again now and then: the provider may have raised it."""
_HELD = 64
"""Blocks that are known to be held: only new ones are asked about by their hash."""
_UNSEEN = Verdict(Standing.UNSEEN, "was not asked yet")


@dataclass(slots=True)
class Member:
    """One endpoint and its record; a fault counts half after half a minute.

    `proven_at` is when it last told what is in a block named by its hash: no other chain has that
    one, and a block that does not go on from those before has ancestors asked for, which is no proof.
    `held` are the hashes of blocks it told of, as it wrote them, until its next fault.
    """

    alias: str
    rpc: Rpc
    verdict: Verdict = _UNSEEN
    head: Head | None = None
    latency: float | None = None
    heard_at: float = float("-inf")
    proven_at: float = float("-inf")
    rests_until: float = float("-inf")
    lacks: set[str] = field(default_factory=set)
    look: asyncio.Task[Sight] | None = None
    held: deque[str] = field(default_factory=lambda: deque(maxlen=_HELD))
    _misses: int = 0
    _faults: float = 0.0
    _faulted_at: float = 0.0

    @property
    def is_usable(self) -> bool:
        """Tell whether requests may go here."""
        return self.verdict.standing is Standing.USABLE

    def faults(self, now: float) -> float:
        """Return the recent faults, faded by age."""
        return self._faults * math.pow(2.0, (self._faulted_at - now) / _FAULT_HALF_LIFE)

    def blame(self, now: float) -> None:
        """Remember one fault; one that was started anew may have lost its last blocks."""
        self.held.clear()
        self._faults = self.faults(now) + 1
        self._faulted_at = now

    def rest(self, now: float, seconds: float | None) -> None:
        """Ask others first for a while: the provider limits the rate."""
        self.rests_until = now + min(_REST if seconds is None else seconds, _LONGEST_REST)

    def seen(self, sight: Sight) -> None:
        """Take what a look brought."""
        self._misses = 0
        self.head = sight.head
        self.held.append(to_hex(sight.head.hash))
        old = sight.seconds if self.latency is None else self.latency
        self.latency = old + _LATENCY_WEIGHT * (sight.seconds - old)

    def missed(self, now: float) -> Verdict | None:
        """Count a look without an answer; return a verdict from the second in a row on."""
        self._misses += 1
        self.blame(now)
        if self._misses < _MISSES and self.verdict.standing is not Standing.UNSEEN:
            return None
        return Verdict(Standing.SILENT, "gives no answer")

    def score(self, now: float) -> float:
        """Return the seconds an answer is expected to cost, faults and lag included."""
        lag = self.verdict.lag or 0
        return (self.latency or 0.0) + _FAULT_SECONDS * self.faults(now) + _BLOCK_SECONDS * lag


def ranked(members: Sequence[Member], preferred: str, now: float) -> list[Member]:
    """Return the usable members, best first, those that rest last.

    The preferred one keeps its place unless another is clearly better: reads that alternate between
    nodes see the chain go back and forth.
    """

    def cost(member: Member) -> tuple[bool, float]:
        score = member.score(now)
        if member.alias == preferred:
            score = 0.6 * score - 0.02
        return member.rests_until > now, score

    return sorted((member for member in members if member.is_usable), key=cost)
