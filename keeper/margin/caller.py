"""Make the margin calls of one chain: beside the line, after each head that was decided on."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, time
from functools import partial
from typing import Any, Protocol

import structlog

from keeper.book.book import Book
from keeper.book.market import MarketBook
from keeper.errors import TransientError
from keeper.journal.outbox import (
    SqliteOutbox,
    forget_standings,
    write_standings,
)
from keeper.margin.levels import Kind, Level, Standing, step
from keeper.margin.liquidations import pools, taken_of
from keeper.margin.message import (
    Situation,
    Taken,
    compose,
    digest,
    liquidation_key,
    subject_of,
)
from keeper.margin.outlook import LONGEST, Outlook
from keeper.margin.records import listed, prices_of, row_of, standing_of
from keeper.margin.roster import Entry, Key, Roster
from keeper.margin.watch import Watch
from keeper.notify.daily import Daily
from keeper.notify.dispatcher import Dispatcher
from keeper.notify.note import Note
from keeper.ports import Clock, LendingProtocol, Placing, Reader, Telling
from keeper.types import Position, View
from keeper.units import USD, Address, to_hex

log = structlog.get_logger(__name__)

SLICE = 4
"""Positions computed exactly without letting the event loop go on."""
CHUNK = 64
"""Changes written in one transaction, so that no record of a send waits long."""
ROWS = 500
"""New positions written in one transaction."""
FEW = 8
"""Changes of one head for which paths are drawn out of history as well."""
REFRESH = 300.0
"""Seconds after which it is looked anew who owes enough to be watched."""
OVERLAP = 16
"""Blocks looked at once more for liquidations."""
SEEN = 20_000
"""Liquidations remembered as told."""
TOLD_SECONDS = 172_800.0
"""Seconds of messages a restart reads, not to take a liquidation for a new one."""
LOOK_BACK = 7_200
"""Blocks after a restart in which liquidations are looked for."""
HORIZONS = (3_600.0, 86_400.0, 604_800.0)
"""Seconds for which a message names chances."""


class Gauge(Protocol):
    """Is told how the watched positions stand."""

    def __call__(self, watch: str, level: str, positions: int, debt_usd: float) -> None:
        """Show one level of one watch."""
        ...


class MarginCaller:
    """Watch the positions of one chain and tell of every change once.

    `see` takes a head that was decided on; `run` looks at the latest of them while the book stands
    there. Prices and positions are the book's own; the chain is asked for logs when a watched debt
    fell, to tell a liquidation from a repay.
    """

    def __init__(
        self,
        chain: str,
        watches: Iterable[Watch],
        book: Book,
        reader: Reader,
        outbox: SqliteOutbox,
        dispatcher: Dispatcher,
        clock: Clock,
        show: Gauge,
        *,
        sample_seconds: float = 300.0,
        digest: time | None = None,
    ) -> None:
        self._chain = chain
        self._watches = tuple(watches)
        self._book = book
        self._reader = reader
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._clock = clock
        self._show = show
        self._sample_seconds = sample_seconds
        self._digest = Daily(digest)
        self._rosters: dict[str, Roster] = {}
        self._outlooks: dict[str, Outlook] = {}
        self._refreshed: dict[str, float] = {}
        self._looked: dict[str, int] = {}
        self._known: dict[tuple[str, str, str], Standing] = {}
        self._caught_up: set[str] = set()
        self._seen: dict[str, None] = {}
        self._latest: View | None = None
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self.done_at: int = -1

    def see(self, view: View) -> None:
        """Take a head that was decided on; it is looked at as soon as nothing else is to be done."""
        self._latest = view
        self._wake.set()

    async def open(self) -> None:
        """Take up how everybody stood when the last process ended."""
        for row in await self._outbox.standings(self._chain):
            self._known[row.watch, row.market, row.borrower] = standing_of(row)
        self._looked = await self._outbox.looked_up_to(self._chain)

    async def run(self) -> None:
        """Look at each latest head until cancelled; what fails costs that head alone."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            view = self._latest
            if view is None:
                continue
            try:
                async with self._turn:
                    await self._look(view)
            except TransientError as error:
                log.warning("margin.postponed", chain=self._chain, error=str(error))
            except Exception as error:
                log.exception("margin.failed", chain=self._chain, error=str(error))
            self.done_at = view.head.number

    async def acknowledge(self, borrower: Address) -> int:
        """Let nobody be reminded of a borrower's calls until they get worse; return how many there are."""
        async with self._turn:
            count = 0
            for market, roster in self._rosters.items():
                for entry in roster.entries:
                    if entry.borrower != borrower or entry.standing.level is Level.SAFE:
                        continue
                    standing = replace(entry.standing, acknowledged=True)
                    rows = [row_of(self._chain, market, entry, standing, {})]
                    await self._dispatcher.post([], partial(write_standings, rows=rows))
                    roster.set(entry, standing)
                    count += 1
            return count

    def listing(self, *, whole: bool) -> list[dict[str, Any]]:
        """Return how the watched positions stand, worst first; those that are safe only if `whole`."""
        found = []
        for market, roster in self._rosters.items():
            unit = self._book.markets[market].prices.unit
            columns = zip(roster.entries, roster.health.tolist(), roster.owed.tolist(), strict=True)
            for entry, health, owed in columns:
                if owed > 0 and (whole or entry.standing.level is not Level.SAFE):
                    found.append(listed(self._chain, market, entry, health, owed / unit))
        return sorted(found, key=lambda each: (each["health"] is None, each["health"] or 0.0))

    async def _look(self, view: View) -> None:
        for name in view.prices:
            market = self._book.markets.get(name)
            if market is None or self._book.head != view.head:
                continue
            if isinstance(market.protocol, Placing):
                continue  # its accounts are no borrowers: positions are not found by address
            await self._sample(name, market, view)
            roster = await self._roster(name, market, view)
            if len(roster):
                await self._judge(name, market, roster, view)
        self._gauge(view)
        if (day := self._digest.due(self._clock.time())) is not None:
            await self._summarise(day)

    async def _judge(self, name: str, market: MarketBook, roster: Roster, view: View) -> None:
        def is_current() -> bool:
            return self._book.head == view.head

        if name not in self._looked:
            # What happens from here on is told of, even if the process ends in the middle of this look.
            await self._outbox.look_from(self._chain, name, view.head.number)
            self._looked[name] = view.head.number
        seen = await market.standing(roster.borrowers, view.next_block, is_current)
        if seen is None:
            return
        fell = roster.see(*seen)
        now = self._clock.time()
        unknown: set[Key] = set()
        liquidated: dict[Key, list[Taken]] = {}
        try:
            liquidated = await self._liquidations(name, market.protocol, roster, fell, view)
        except TransientError as error:
            # nobody else's call waits for what became of these
            unknown = {entry.key for entry in fell}
            log.warning("margin.postponed", chain=self._chain, market=name, error=str(error))
        looked_at = [
            *(roster.get(key) for key in liquidated),
            *(e for e in roster.to_look_at(now) if e.key not in liquidated.keys() | unknown),
        ]
        changes: list[tuple[Entry, Standing, list[Note], Position]] = []
        for place, entry in enumerate(each for each in looked_at if each is not None):
            if place % SLICE == 0:
                await asyncio.sleep(0)
            if not is_current():
                # the next head shows what is left
                await self._tell(name, roster, changes)
                return
            position = self._position(market, entry, view)
            if position is None:
                continue
            taken = liquidated.get(entry.key, ())
            standing, kinds = _judged(entry, position, taken, now)
            if standing != entry.standing:
                few = len(looked_at) <= FEW
                situation = self._situation(entry, position, market, view, now, kinds and few)
                notes = [
                    compose(situation, entry.standing, standing, kind, told) for kind, told in kinds
                ]
                changes.append((entry, standing, notes, position))
            if len(changes) == CHUNK:
                await self._tell(name, roster, changes)
                changes = []
        await self._tell(name, roster, changes)
        if not unknown:
            self._done(name, roster, view.head.number)

    def _situation(
        self,
        entry: Entry,
        position: Position,
        market: MarketBook,
        view: View,
        now: float,
        drawing: object,
    ) -> Situation:
        outlook = self._outlooks[market.protocol.market]
        horizons = {*HORIZONS}
        chances = entry.watch.chances
        if chances is not None:
            horizons.add(chances.horizon)
        known = outlook.chances(position, sorted(horizons))
        horizon = HORIZONS[1] if chances is None else chances.horizon
        drawn = outlook.drawn_chance(position, horizon, view.head.number) if drawing else None
        return Situation(
            self._chain,
            view.head.number,
            now,
            entry.watch,
            position,
            market.prices,
            entry.ladder,
            known,
            drawn,
        )

    def _position(self, market: MarketBook, entry: Entry, view: View) -> Position | None:
        """Return an exact position; None when it cannot be computed, which is nobody else's harm."""
        try:
            return market.protocol.position(entry.borrower, market.prices, view.next_block)
        except Exception as error:  # noqa: BLE001 - the line stops a market that is wrong
            fields = {"chain": self._chain, "market": market.protocol.market}
            log.warning("margin.not_judged", **fields, borrower=entry.borrower, error=str(error))
            return None

    async def _tell(
        self,
        market: str,
        roster: Roster,
        changes: Sequence[tuple[Entry, Standing, list[Note], Position]],
    ) -> None:
        """Write standings and messages in one piece, then stand by them."""
        if not changes:
            return
        rows = [
            row_of(self._chain, market, entry, standing, {"health": str(position.health)})
            for entry, standing, _, position in changes
        ]
        notes = [
            (note, _channels(entry.watch, note))
            for entry, _, written, _ in changes
            for note in written
        ]
        await self._dispatcher.post(notes, partial(write_standings, rows=rows))
        for entry, standing, written, _ in changes:
            roster.set(entry, standing)
            self._seen |= dict.fromkeys(n.key for n in written if "liquidation" in n.data)
        while len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]

    async def _liquidations(
        self,
        name: str,
        protocol: LendingProtocol,
        roster: Roster,
        fell: Sequence[Entry],
        view: View,
    ) -> dict[Key, list[Taken]]:
        """Return what the chain tells of liquidations of those whose debt fell, by entry.

        At the first look after a start of everybody watched, since the last block looked at.
        """
        since, number = self._looked.get(name), view.head.number
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
        logs = await self._reader.logs(pools(protocol), max(after, -1) + 1, number)
        entries = roster.entries if restarted else fell
        found = taken_of(protocol, logs, entries, protocol.tokens())
        fresh = {
            key: [each for each in taken if self._key(name, key, each) not in self._seen]
            for key, taken in found.items()
        }
        return {key: taken for key, taken in fresh.items() if taken}

    def _key(self, market: str, key: Key, taken: Taken) -> str:
        return liquidation_key(subject_of(self._chain, key[0], market, key[1]), taken)

    def _done(self, name: str, roster: Roster, number: int) -> None:
        """Take a head as looked at to the end."""
        roster.answered()
        self._caught_up.add(name)
        if self._looked.get(name) != number:
            self._looked[name] = number
            self._outbox.looked(self._chain, name, number)

    async def _sample(self, name: str, market: MarketBook, view: View) -> None:
        """Keep prices from time to time, and let levels begin earlier where they are wild."""
        protocol = market.protocol.protocol
        if not any(watch.covers(self._chain, name, protocol) for watch in self._watches):
            return
        now = float(view.head.timestamp)
        outlook = self._outlooks.get(name)
        if outlook is None:
            outlook = self._outlooks[name] = Outlook(self._sample_seconds)
            rows = await self._outbox.samples(self._chain, name, now - LONGEST)
            kept = [(time, prices_of(row)) for time, row in rows if time <= now]
            await asyncio.to_thread(outlook.restore, kept)
        if not outlook.wants(now):
            return
        await asyncio.to_thread(outlook.add, now, market.prices)
        shown = {to_hex(asset): str(price) for asset, price in market.prices.values.items()}
        self._outbox.sample(self._chain, name, now, shown, now - LONGEST)
        await self._raise(name, market, view)

    async def _raise(self, name: str, market: MarketBook, view: View) -> None:
        roster, outlook = self._rosters.get(name), self._outlooks[name]
        if roster is None or outlook.covariance is None:
            return
        wanted = [entry for entry in roster.entries if entry.watch.chances is not None]
        for place, entry in enumerate(wanted):
            if place % SLICE == 0:
                await asyncio.sleep(0)
            chances = entry.watch.chances
            position = market.protocol.position(entry.borrower, market.prices, view.next_block)
            if chances is None or position is None:
                continue
            raised = outlook.ladder(position, chances)
            if raised is not None:
                roster.raise_ladder(entry, entry.watch.ladder.raised(raised))

    async def _roster(self, name: str, market: MarketBook, view: View) -> Roster:
        """Return who is watched in a market, looked up anew from time to time."""
        now = self._clock.time()
        roster = self._rosters.setdefault(name, Roster())
        if now - self._refreshed.get(name, float("-inf")) < REFRESH:
            return roster
        members: list[tuple[Watch, Address]] = []
        for watch in self._watches:
            if not watch.covers(self._chain, name, market.protocol.protocol):
                continue
            who = await self._members(watch, market, view)
            if who is None:
                return roster
            members += [(watch, borrower) for borrower in who]
            # whoever was told of a level is told, too, how it ends
            kept = {e.borrower for e in roster.entries if e.watch is watch and e.standing.level}
            # and whoever was watched when the last process ended, what became of him since
            kept |= {
                Address(bytes.fromhex(borrower[2:]))
                for of, at, borrower in self._known
                if (of, at) == (watch.name, name)
            }
            members += [(watch, borrower) for borrower in kept]
        before = {entry.key for entry in roster.entries}
        dropped = roster.fill(members, partial(self._restored, name))
        added = [
            row_of(self._chain, name, entry, entry.standing, {})
            for entry in roster.entries
            if entry.key not in before
            and (entry.watch.name, name, to_hex(entry.borrower)) not in self._known
        ]
        for start in range(0, len(added), ROWS):
            rows = added[start : start + ROWS]
            await self._dispatcher.post([], partial(write_standings, rows=rows))
        self._known = {key: each for key, each in self._known.items() if key[1] != name}
        self._refreshed[name] = now
        gone = [row_of(self._chain, name, entry, entry.standing, {}) for entry in dropped]
        if gone:
            await self._dispatcher.post([], partial(forget_standings, rows=gone))
        if name in self._outlooks:
            await self._raise(name, market, view)
        return roster

    async def _members(
        self, watch: Watch, market: MarketBook, view: View
    ) -> Iterable[Address] | None:
        if watch.addresses is not None and watch.above is None:
            return watch.addresses
        least = 1.0 if watch.above is None else watch.above / USD * market.prices.unit
        who = await market.owing(least, view.next_block)
        if who is None or watch.addresses is None:
            return who
        return watch.addresses.intersection(who)

    def _restored(self, market: str, watch: Watch, borrower: Address) -> Standing:
        return self._known.get((watch.name, market, to_hex(borrower)), Standing())

    async def _summarise(self, day: date) -> None:
        """Tell the channels of each watch how its positions stand, once a day."""
        now, listed = self._clock.time(), self.listing(whole=True)
        notes = [
            (digest(self._chain, watch.name, day.isoformat(), now, listed), watch.channels)
            for watch in self._watches
        ]
        await self._dispatcher.post(notes)
        self._digest.done(day)

    def _gauge(self, view: View) -> None:
        totals: dict[tuple[str, Level], tuple[int, float]] = {}
        for name, roster in self._rosters.items():
            prices = view.prices.get(name)
            if prices is None:
                continue
            for key, (count, owed) in roster.tally().items():
                before = totals.get(key, (0, 0.0))
                totals[key] = before[0] + count, before[1] + owed / prices.unit
        for watch in self._watches:
            for level in Level:
                count, debt = totals.get((watch.name, level), (0, 0.0))
                self._show(watch.name, level.word, count, debt)


def _judged(
    entry: Entry, position: Position, taken: Sequence[Taken], now: float
) -> tuple[Standing, list[tuple[Kind, Taken | None]]]:
    """Return how an entry stands now, and what has to be told of it."""
    if taken:
        standing = entry.standing.changed(entry.ladder.level(position.health), now)
        return standing, [(Kind.LIQUIDATED, each) for each in taken]
    standing, kind = step(entry.standing, position.health, now, entry.ladder, entry.watch.habits)
    return standing, [] if kind is None else [(kind, None)]


def _channels(watch: Watch, note: Note) -> tuple[str, ...]:
    """Return who is told: the pagers, too, of what nobody acknowledged."""
    pagers = watch.pagers if note.data["kind"] == Kind.REMINDER else ()
    return tuple(dict.fromkeys((*watch.channels, *pagers)))
