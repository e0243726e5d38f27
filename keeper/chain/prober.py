"""Look at every endpoint of a pool from time to time, and judge it."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from keeper.chain import parse
from keeper.chain.member import Member
from keeper.chain.roster import Roster
from keeper.chain.survey import Sight, Survey
from keeper.errors import TransientError
from keeper.ports import Rpc

log = structlog.get_logger(__name__)

LONE = 8


class Prober:
    """Judge endpoints by a look at all of them at once, each `patience` seconds at most.

    A look costs three requests for each endpoint: its head, its chain id, a settled block; and one
    more for the block settled before. One that is alone and proves itself by the reads of each head
    has nothing to be compared with: it is looked at `LONE` times more rarely.
    """

    def __init__(
        self,
        roster: Roster,
        survey: Survey,
        monotonic: Callable[[], float],
        *,
        patience: float = 3.0,
    ) -> None:
        self._roster = roster
        self._survey = survey
        self._monotonic = monotonic
        self._patience = patience
        self._looked_at = float("-inf")

    async def run(self, interval: float, shortest: float) -> None:
        """Look at an interval, and sooner after a fault, until cancelled."""
        while True:
            await asyncio.sleep(shortest)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(interval - shortest, 0)):
                    await self._roster.doubt.wait()
            if not self._roster.doubt.is_set() and self._is_proven(interval):
                continue
            self._roster.doubt.clear()
            try:
                await self.probe()
            except Exception as error:
                # Whoever stops looking never sees an endpoint come back.
                log.exception("endpoints.unprobed", error=type(error).__name__)

    async def probe(self) -> None:
        """Look at every endpoint and judge it."""
        members = self._roster.members
        self._looked_at = self._monotonic()
        looks = [self._begin(member) for member in members]
        # Whoever takes longer is looked at on: cut short, it would not notice a dead connection.
        await asyncio.wait(looks, timeout=self._patience)
        sights: dict[str, Sight] = {}
        preferred = self._roster.preferred
        for member in sorted(members, key=lambda each: each.alias != preferred):
            if (sight := _taken(member)) is not None:
                member.seen(sight)
                sights[member.alias] = sight
            elif (verdict := member.missed(self._monotonic())) is not None:
                self._roster.judge(member, verdict)
        endpoints = {member.alias: member.rpc for member in members}
        verdicts = await self._survey.judge(endpoints, sights)
        for member in members:
            if (verdict := verdicts.get(member.alias)) is not None:
                self._roster.judge(member, verdict)

    async def close(self) -> None:
        """End the looks that go on."""
        looks = [member.look for member in self._roster.members if member.look is not None]
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    def _is_proven(self, interval: float) -> bool:
        """Tell whether the only endpoint lately told of a block that no other chain has."""
        members, now = self._roster.members, self._monotonic()
        return (
            len(members) == 1
            and members[0].is_usable
            and members[0].proven_at > now - interval
            and self._looked_at > now - LONE * interval
        )

    def _begin(self, member: Member) -> asyncio.Task[Sight]:
        _taken(member)  # what a slow look brought since the last round is old
        if member.look is None:
            member.look = asyncio.create_task(self._look(member.rpc))
        return member.look

    async def _look(self, rpc: Rpc) -> Sight:
        started = self._monotonic()
        header = await rpc.request("eth_getBlockByNumber", ["latest", False])
        seconds = self._monotonic() - started
        chain = await rpc.request("eth_chainId", [])
        try:
            return Sight(parse.quantity(chain), parse.head(header), seconds)
        except (TypeError, ValueError) as error:
            raise TransientError("the node sent no chain id") from error


def _taken(member: Member) -> Sight | None:
    """Take what a finished look brought; None when it brought nothing or goes on."""
    look = member.look
    if look is None or not look.done():
        return None
    member.look = None
    error = look.exception()
    if error is None:
        return look.result()
    if isinstance(error, TransientError):
        return None
    raise error
