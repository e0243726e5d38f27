"""The endpoints of a pool: who may be asked, in which order, and what an operator is told."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from keeper.chain.member import Member, ranked
from keeper.chain.survey import Standing, Verdict
from keeper.errors import TransientError
from keeper.ports import Rpc
from keeper.types import Head
from keeper.units import to_hex

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EndpointState:
    """How one endpoint stands; `lag` in blocks, None while unknown, `latency` in seconds."""

    alias: str
    standing: Standing
    reason: str
    head: int | None
    lag: int | None
    latency: float | None
    faults: float
    preferred: bool


class Roster:
    """Hold every endpoint's record, and wake who waits for one to come or go."""

    def __init__(
        self, endpoints: Sequence[tuple[str, Rpc]], monotonic: Callable[[], float]
    ) -> None:
        self.members = [Member(alias, rpc) for alias, rpc in endpoints]
        self.preferred = ""
        self.doubt = asyncio.Event()
        self._monotonic = monotonic
        self._changed = asyncio.Event()

    def ranked(self) -> list[Member]:
        """Return the usable members, best first."""
        return ranked(self.members, self.preferred, self._monotonic())

    def order(self) -> list[str]:
        """Return the aliases of the usable endpoints, best first."""
        return [member.alias for member in self.ranked()]

    def states(self) -> list[EndpointState]:
        """Return how every endpoint stands, in the order of the configuration."""
        now = self._monotonic()
        return [
            EndpointState(
                member.alias,
                member.verdict.standing,
                member.verdict.reason,
                None if member.head is None else member.head.number,
                member.verdict.lag,
                member.latency,
                member.faults(now),
                member.alias == self.preferred,
            )
            for member in self.members
        ]

    def prefer(self, alias: str) -> None:
        """Read from an endpoint while it is about as good as the best: it tells of the heads."""
        self.preferred = alias

    def told(self, alias: str, head: Head) -> None:
        """Take in that an endpoint announced a block, which it holds then."""
        for member in self.members:
            if member.alias == alias:
                member.held.append(to_hex(head.hash))

    def blame(self, alias: str) -> None:
        """Count a fault against an endpoint, and have all looked at soon."""
        for member in self.members:
            if member.alias == alias:
                member.blame(self._monotonic())
        self.doubt.set()

    def judge(self, member: Member, verdict: Verdict) -> None:
        """Set how an endpoint stands; said aloud when that changes."""
        before, member.verdict = member.verdict, verdict
        if verdict.standing is before.standing:
            return
        if verdict.standing is Standing.USABLE:
            log.info("endpoint.used", endpoint=member.alias, lag_blocks=verdict.lag)
        else:
            log.error("endpoint.left_out", endpoint=member.alias, reason=verdict.reason)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is looked at when an endpoint comes or goes."""
        while not condition():
            await self._changed.wait()

    def nobody(self) -> TransientError:
        """Return the error that says why no endpoint can be asked, naming aliases alone."""
        reasons = (f"{member.alias} {member.verdict.reason}" for member in self.members)
        return TransientError(f"no usable endpoint: {', '.join(reasons)}")
