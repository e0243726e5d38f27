"""Liquidations of watched positions, as the chain tells them: each is found once."""

from collections.abc import Iterable, Mapping, Sequence

from keeper.journal.outbox import SqliteOutbox
from keeper.margin.message import Taken, liquidation_key, subject_of
from keeper.margin.roster import Entry, Key, Roster
from keeper.ports import Clock, LendingProtocol, Placing, Reader, Telling
from keeper.types import Log, Token
from keeper.units import Address

OVERLAP = 16
"""Blocks looked at once more for liquidations."""
SEEN = 20_000
"""Liquidations remembered as told."""
TOLD_SECONDS = 172_800.0
"""Seconds of messages a restart reads, not to take a liquidation for a new one."""
LOOK_BACK = 7_200
"""Blocks after a restart in which liquidations are looked for."""


class Liquidations:
    """Ask one chain for the logs of liquidations, when a watched debt fell and after a start."""

    def __init__(self, chain: str, reader: Reader, outbox: SqliteOutbox, clock: Clock) -> None:
        self._chain = chain
        self._reader = reader
        self._outbox = outbox
        self._clock = clock
        self._looked: dict[str, int] = {}
        self._caught_up: set[str] = set()
        self._seen: dict[str, None] = {}

    async def open(self) -> None:
        """Take up where the last process ended."""
        self._looked = await self._outbox.looked_up_to(self._chain)

    async def begin(self, name: str, number: int) -> None:
        """Note where a market begins to be looked at, on disk before anything is told of it.

        What happens from there on is told of, even if the process ends in the middle of a look.
        """
        if name not in self._looked:
            await self._outbox.look_from(self._chain, name, number)
            self._looked[name] = number

    async def find(
        self,
        name: str,
        protocol: LendingProtocol,
        roster: Roster,
        fell: Sequence[Entry],
        number: int,
    ) -> dict[Key, list[Taken]]:
        """Return what the chain tells of liquidations of those whose debt fell, by entry.

        At the first look after a start of everybody watched, since the last block looked at.
        """
        since = self._looked.get(name)
        restarted = name not in self._caught_up
        if since is None or not isinstance(protocol, Telling) or not (fell or restarted):
            return {}
        # a reorg may have put one into a block of a height that was looked at
        after = max(since if restarted else min(since, number) - OVERLAP, number - LOOK_BACK)
        if after >= number:
            return {}
        if restarted:
            told_since = self._clock.time() - TOLD_SECONDS
            told = await self._outbox.keys(f"margin/{self._chain}/", told_since)
            self._seen |= dict.fromkeys(told)
        logs = await self._reader.logs(protocol.liquidation_logs(), max(after, -1) + 1, number)
        entries = roster.entries if restarted else fell
        found = taken_of(name, protocol, logs, entries, protocol.tokens())
        fresh = {
            entry.key: [each for each in taken if self._key(entry, each) not in self._seen]
            for entry, taken in found
        }
        return {key: taken for key, taken in fresh.items() if taken}

    def told(self, keys: Iterable[str]) -> None:
        """Remember the keys of messages about liquidations."""
        self._seen |= dict.fromkeys(keys)
        while len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]

    def done(self, name: str, number: int) -> None:
        """Take a head as looked at to the end."""
        self._caught_up.add(name)
        if self._looked.get(name) != number:
            self._looked[name] = number
            self._outbox.looked(self._chain, name, number)

    def _key(self, entry: Entry, taken: Taken) -> str:
        subject = subject_of(self._chain, entry.watch.name, entry.market, entry.borrower)
        return liquidation_key(subject, taken)


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
    for each in logs:
        told = protocol.liquidation(each)
        if told is None:
            continue
        borrower, debt, collateral, repaid, seized, liquidator = told
        place = protocol.place_told(each) if isinstance(protocol, Placing) else name
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
        )
        for entry in by_position.get((place, borrower), ()):
            found.setdefault(entry.key, (entry, []))[1].append(taken)
    return list(found.values())
