"""Liquidations of watched positions, as the chain tells them: each is found once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import structlog

from keeper.errors import ConfigError
from keeper.journal.outbox import SqliteOutbox
from keeper.margin.message import Taken, liquidation_key, subject_of
from keeper.margin.roster import Entry, Key, Roster
from keeper.ports import Clock, LendingProtocol, Placing, Reader, Telling
from keeper.types import Head, Log, Token, Watch as LogWatch
from keeper.units import Address, Hash

log = structlog.get_logger(__name__)

OVERLAP = 16
"""Blocks looked at once more for liquidations."""
SEEN = 20_000
"""Liquidations remembered as told."""
TOLD_SECONDS = 172_800.0
"""Seconds of messages a restart reads, not to take a liquidation for a new one."""
LOOK_BACK = 86_400
"""Seconds of the chain's time after a restart in which liquidations are looked for."""
NEAR = 7_200
"""Blocks that are looked at whatever their time."""
Waiting = dict[Key, dict[str, Taken]]
"""What was found and not told yet, by entry and by the key of its message."""


class Liquidations:
    """Ask one chain for the logs of liquidations, when a watched debt fell and after a start.

    What was found is held until it was told, so that nothing else waits for it; on disk, a market
    counts as looked at only up to what is held.
    """

    def __init__(self, chain: str, reader: Reader, outbox: SqliteOutbox, clock: Clock) -> None:
        self._chain = chain
        self._reader = reader
        self._outbox = outbox
        self._clock = clock
        self._looked: dict[str, int] = {}
        self._marked: dict[str, int] = {}
        self._caught_up: set[str] = set()
        self._seen: dict[str, None] = {}
        self._waiting: dict[str, Waiting] = {}

    async def open(self) -> None:
        """Take up where the last process ended."""
        self._marked = await self._outbox.looked_up_to(self._chain)
        self._looked = dict(self._marked)

    async def begin(self, name: str, number: int) -> None:
        """Note where a market begins to be looked at, on disk before anything is told of it.

        What happens from there on is told of, even if the process ends in the middle of a look.
        """
        if name not in self._looked:
            await self._outbox.look_from(self._chain, name, number)
            self._looked[name] = self._marked[name] = number

    def is_caught_up(self, name: str) -> bool:
        """Say whether it was found out since the start what happened while nobody ran."""
        return name in self._caught_up

    def held(self, name: str) -> set[Key]:
        """Return the entries of which something was found that nobody was told of yet."""
        waiting = self._waiting.get(name, {})
        return {entry for entry, found in waiting.items() if found.keys() - self._seen.keys()}

    async def find(
        self,
        name: str,
        protocol: LendingProtocol,
        roster: Roster,
        fell: Sequence[Entry],
        head: Head,
    ) -> dict[Key, list[Taken]]:
        """Return liquidations that nobody was told of, by entry, as far as the chain tells.

        The chain is asked about those whose debt fell, and at the first look after a start about
        everybody watched, since the last block looked at.
        """
        since = self._looked.get(name)
        if since is None or not isinstance(protocol, Telling):
            return {}
        restarted = not self.is_caught_up(name)
        waiting = self._untold(name, roster)
        young = [
            entry
            for key, found in waiting.items()
            if (entry := roster.get(key)) is not None
            and any(each.number > head.number - OVERLAP for each in found.values())
        ]
        if not (fell or young or restarted):
            return _listed(waiting)
        # a reorg may have put one into a block of a height that was looked at
        after = since if restarted else min(since, head.number) - OVERLAP
        after = await self._after(after, head)
        if after >= head.number:
            return _listed(waiting)
        if restarted:
            told_since = self._clock.time() - TOLD_SECONDS
            told = await self._outbox.keys(f"margin/{self._chain}/", told_since)
            self._seen |= dict.fromkeys(told)
        logs = await self._logs(name, protocol.liquidation_logs(), max(after, -1) + 1, head.number)
        for found in waiting.values():
            for key in [key for key, each in found.items() if each.number > after]:
                del found[key]
        entries = roster.entries if restarted else {e.key: e for e in (*fell, *young)}.values()
        for entry, each in taken_of(name, protocol, logs, entries, protocol.tokens()):
            for taken in each:
                if (key := self._key(entry, taken)) not in self._seen:
                    waiting.setdefault(entry.key, {})[key] = taken
        self._waiting[name] = waiting
        # a block may have come meanwhile: what is held is told at the next, and not looked for again
        self._caught_up.add(name)
        self._looked[name] = head.number
        return _listed(waiting)

    def told(self, keys: Iterable[str]) -> None:
        """Remember the keys of messages about liquidations."""
        self._seen |= dict.fromkeys(keys)
        while len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]

    def done(self, name: str, roster: Roster, number: int) -> None:
        """Take a head as looked at to the end, but for what was found and is not told yet."""
        self._caught_up.add(name)
        self._looked[name] = number
        waiting = self._waiting[name] = self._untold(name, roster)
        held = (each.number - 1 for found in waiting.values() for each in found.values())
        mark = min((number, *held))
        if self._marked.get(name) != mark:
            self._marked[name] = mark
            self._outbox.looked(self._chain, name, mark)

    def _untold(self, name: str, roster: Roster) -> Waiting:
        """Return what is held of those who are still watched, without what was told since."""
        found = {
            entry: {key: each for key, each in held.items() if key not in self._seen}
            for entry, held in self._waiting.get(name, {}).items()
            if roster.get(entry) is not None
        }
        return {entry: held for entry, held in found.items() if held}

    async def _after(self, since: int, head: Head) -> int:
        """Return the block to look after: `since`, or the last before `LOOK_BACK` if that is later."""
        if head.number - since <= NEAR:
            return since
        oldest = head.timestamp - LOOK_BACK
        early, late = since, head.number - NEAR
        while early < late:
            middle = (early + late) // 2
            if (await self._reader.head(middle + 1)).timestamp < oldest:
                early = middle + 1
            else:
                late = middle
        return early

    async def _logs(self, name: str, watch: LogWatch, first: int, last: int) -> list[Log]:
        """Return logs from a block on, or from a later one if the node dropped those before it."""
        wanted = first
        logs: list[Log] | None = None
        while logs is None:
            try:
                logs = await self._reader.logs(watch, first, last)
            except ConfigError:
                if first == last:
                    raise
                first = last - (last - first) // 2
        if first > wanted:
            fields = {"chain": self._chain, "market": name, "wanted_from": wanted}
            log.warning("margin.logs_dropped", **fields, looked_from=first)
        return logs

    def _key(self, entry: Entry, taken: Taken) -> str:
        subject = subject_of(self._chain, entry.watch.name, entry.market, entry.borrower)
        return liquidation_key(subject, taken)


def _listed(waiting: Waiting) -> dict[Key, list[Taken]]:
    return {entry: list(found.values()) for entry, found in waiting.items() if found}


def taken_of(
    name: str,
    protocol: Telling,
    logs: Iterable[Log],
    entries: Iterable[Entry],
    tokens: Mapping[Address, Token],
) -> list[tuple[Entry, list[Taken]]]:
    """Return what logs tell of liquidations of these entries, in the chain's order."""
    by_position: dict[tuple[str, Address], list[Entry]] = {}
    for entry in entries:
        by_position.setdefault((entry.market, entry.borrower), []).append(entry)
    found: dict[Key, tuple[Entry, list[Taken]]] = {}
    ordinals: Counter[tuple[Hash, str, Address]] = Counter()
    for each in logs:
        told = protocol.liquidation(each)
        if told is None:
            continue
        borrower, debt, collateral, repaid, seized, liquidator = told
        place = protocol.place_told(each) if isinstance(protocol, Placing) else name
        if not (of := by_position.get((place, borrower))):
            continue
        within = each.tx_hash, place, borrower
        taken = Taken(
            each.block_number,
            each.tx_hash,
            each.index,
            borrower,
            tokens[debt],
            tokens[collateral],
            repaid,
            seized,
            liquidator,
            ordinals[within],
        )
        ordinals[within] += 1
        for entry in of:
            found.setdefault(entry.key, (entry, []))[1].append(taken)
    return list(found.values())
