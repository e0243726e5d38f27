"""Make the margin calls of one chain: beside the line, after each head that was decided on."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    StandingRow,
    forget_standings,
    write_standings,
)
from keeper.margin.levels import Kind, Level, Standing, step
from keeper.margin.liquidations import Liquidations
from keeper.margin.message import (
    DIGEST_ROWS,
    Situation,
    Summary,
    Taken,
    compose,
    digest,
)
from keeper.margin.outlooks import SLICE, Outlooks, plain
from keeper.margin.records import (
    known_of,
    listed,
    listed_row,
    row_of,
    standing_of,
    tally_rows,
)
from keeper.margin.roster import NEVER, Entry, Key, Known, Roster, worst_first
from keeper.margin.round import Round
from keeper.margin.watch import Watch
from keeper.notify.daily import Daily
from keeper.notify.dispatcher import Dispatcher
from keeper.notify.note import Note
from keeper.ports import Clock, Placing, Reader
from keeper.types import Position, View, home_of
from keeper.units import MAX_UINT256, USD, WAD, Address, Wad, to_hex

log = structlog.get_logger(__name__)

CHUNK = 64
"""Changes written in one transaction, so that no record of a send waits long."""
ROWS = 500
"""New positions written in one transaction."""
FEW = 8
"""Changes of one head for which paths are drawn out of history as well."""
REFRESH = 300.0
"""Seconds after which it is looked anew who owes enough to be watched."""
LISTED = 8
"""Positions listed without letting the event loop go on."""
HORIZONS = (3_600.0, 86_400.0, 604_800.0)
"""Seconds for which a message names chances."""
AUCTIONS = frozenset({"maker-clip"})
"""Protocols of which the positions are sales of what was liquidated: there is nobody to warn."""


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
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._clock = clock
        self._show = show
        self._digest = Daily(digest)
        self._rosters: dict[str, Roster] = {}
        self._outlooks = Outlooks(chain, outbox, sample_seconds)
        self._liquidations = Liquidations(chain, reader, outbox, clock)
        self._refreshed: dict[str, float] = {}
        self._turns: dict[str, int] = {}
        self._looks = 0
        self._round = Round()
        self._unread: set[str] = set()
        self._units: dict[str, int] = {}
        self._known: dict[tuple[str, str, str], StandingRow] = {}
        self._left: dict[tuple[str, Level], tuple[int, float]] = {}
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
        rows = await self._outbox.standings(self._chain)
        known = {(row.watch, row.market, row.borrower): row for row in rows if self._is_on(row)}
        await self._take(known)
        if gone := [row for row in rows if not self._is_on(row)]:
            await self._dispatcher.post([], partial(forget_standings, rows=gone))
        await self._liquidations.open()

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
            except Exception as error:  # noqa: BLE001 - the next head is looked at again
                self._complain(error)
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
                    rows = [self._row(market, entry, standing, roster.known(entry))]
                    await self._dispatcher.post([], partial(write_standings, rows=rows))
                    roster.set(entry, standing)
                    count += 1
            return count

    async def listing(
        self, *, whole: bool, limit: int | None = None, watch: str | None = None
    ) -> tuple[list[dict[str, Any]], int]:
        """Return how the watched positions stand, the `limit` worst first, and how many there are.

        Those that are safe only if `whole`. What was not looked at since the start is as the last
        process left it. The event loop goes on in between.
        """
        held = [
            (roster.shown(whole=whole, watch=watch), self._units[name])
            for name, roster in self._rosters.items()
        ]
        rows = [
            row
            for row in self._known.values()
            if (whole or row.level != Level.SAFE.word) and watch in {None, row.watch}
        ]
        found: list[dict[str, Any]] = []
        for number, (shown, unit, place) in enumerate(worst_first(held, limit)):
            if number % LISTED == 0:
                await asyncio.sleep(0)
            found.append(listed(self._chain, shown.entries[place], shown.known(place), unit))
        for number, row in enumerate(rows if limit is None else rows[: limit - len(found)]):
            if number % LISTED == 0:
                await asyncio.sleep(0)
            found.append(listed_row(row))
        return found, sum(len(shown.places) for shown, _ in held) + len(rows)

    async def _look(self, view: View) -> None:
        covered = {
            name: market
            for name, market in self._book.markets.items()
            if self._covers(name, market)
        }
        watched = [(name, market) for name, market in covered.items() if name in view.prices]
        # those first that earlier heads had no time for
        watched.sort(key=lambda each: self._turns.get(each[0], 0))
        self._looks += 1
        self._round.begin(self._digest.due(self._clock.time()))
        for name in covered.keys() - view.prices.keys():
            # it is stopped
            self._round.failed(name)
        for name, market in watched:
            if self._book.head != view.head:
                break
            self._turns[name] = self._looks
            if view.prices[name].values or name not in self._units:
                # one that goes on again has no prices, and no unit, until it is read
                self._units[name] = view.prices[name].unit
            try:
                if await self._look_at(name, market, view):
                    self._round.seen(name)
            except Exception as error:  # noqa: BLE001 - one market harms no other
                self._round.failed(name)
                self._complain(error, market=name)
        self._gauge()
        # a digest of what was not looked at yet would say nothing, and be the day's only one
        if (day := self._round.due(covered)) is not None:
            await self._summarise(day, covered)

    async def _look_at(self, name: str, market: MarketBook, view: View) -> bool:
        """Look at one market; say whether everybody watched there was seen at one head."""
        roster = await self._roster(name, market, view)
        await self._outlooks.sample(name, market, roster, view)
        if len(roster):
            await self._judge(name, market, roster, view)
        return roster.is_seen

    def _complain(self, error: Exception, **fields: str) -> None:
        if isinstance(error, TransientError):
            log.warning("margin.postponed", chain=self._chain, **fields, error=str(error))
        else:
            log.error("margin.failed", chain=self._chain, **fields, exc_info=error)

    def _covers(self, name: str, market: MarketBook) -> bool:
        protocol = market.protocol.protocol
        return protocol not in AUCTIONS and any(
            watch.covers(self._chain, name, protocol) for watch in self._watches
        )

    def _is_on(self, row: StandingRow) -> bool:
        """Say whether a row is of a watch that there is, and of a market that it covers."""
        name = home_of(row.market)
        market = self._book.markets.get(name)
        if market is None or market.protocol.protocol in AUCTIONS:
            return False
        return any(
            watch.name == row.watch and watch.covers(self._chain, name, market.protocol.protocol)
            for watch in self._watches
        )

    async def _judge(self, name: str, market: MarketBook, roster: Roster, view: View) -> None:
        def is_current() -> bool:
            return self._book.head == view.head

        await self._liquidations.begin(name, view.head.number)
        seen = await market.standing(roster.accounts, view.next_block, is_current)
        if seen is None:
            return
        fell = roster.see(*seen, view.head.number)
        now = self._clock.time()
        unknown: set[Key] = set()
        liquidated: dict[Key, list[Taken]] = {}
        failed = False
        try:
            liquidated = await self._liquidations.find(
                name, market.protocol, roster, fell, view.head
            )
            self._unread.discard(name)
        except TransientError as error:
            # nobody else's call waits for what became of these
            unknown = {entry.key for entry in fell}
            failed = True
            log.warning("margin.postponed", chain=self._chain, market=name, error=str(error))
        except Exception:
            # it may never pass: calls are told all the same
            failed = True
            if name not in self._unread:
                self._unread.add(name)
                log.exception("margin.logs_unread", chain=self._chain, market=name)
        # who is better may have been liquidated: who owes less, after a start anybody
        blind = {entry.key for entry in fell} if failed else set()
        all_blind = failed and not self._liquidations.is_caught_up(name)
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
            taken = liquidated.get(entry.key, ())
            try:
                position = self._position(market, roster, entry, view)
                if position is not None:
                    standing, kinds = _judged(entry, position, taken, now)
                    is_blind = all_blind or entry.key in blind
                    if is_blind and (Kind.BETTER, None) in kinds:
                        continue
                    if standing != entry.standing:
                        drawing = bool(kinds) and len(looked_at) <= FEW
                        about = self._situation(entry, position, market, view, now, drawing)
                        notes = [compose(about, entry.standing, standing, *kind) for kind in kinds]
                        changes.append((entry, standing, notes, position))
            except Exception as error:  # noqa: BLE001 - one position harms no other
                fields = {"chain": self._chain, "market": entry.market}
                log.warning(
                    "margin.not_judged", **fields, borrower=to_hex(entry.borrower), error=str(error)
                )
            if len(changes) == CHUNK:
                await self._tell(name, roster, changes)
                changes = []
        await self._tell(name, roster, changes)
        if not failed:
            roster.answered()
            self._liquidations.done(name, roster, view.head.number)

    def _situation(
        self,
        entry: Entry,
        position: Position,
        market: MarketBook,
        view: View,
        now: float,
        drawing: bool,
    ) -> Situation:
        outlook = self._outlooks.of(entry.market)
        position, prices = plain(market, position)
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
            prices,
            entry.ladder,
            known,
            drawn,
        )

    def _position(
        self, market: MarketBook, roster: Roster, entry: Entry, view: View
    ) -> Position | None:
        """Return an exact position; None when a price it needs was not read."""
        protocol = market.protocol
        found = protocol.position(entry.account, market.prices, view.next_block)
        if found is None and roster.owes_nothing(entry):
            # it is closed: a trove that is gone is no position any more
            about = (entry.market, protocol.protocol, entry.borrower)
            return Position(*about, (), (), 0, 0, Wad(MAX_UINT256))
        return found

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
            self._row(market, entry, standing, _known(position, int(roster.heads[0])))
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
            self._liquidations.told(n.key for n in written if "liquidation" in n.data)

    def _row(self, market: str, entry: Entry, standing: Standing, known: Known) -> StandingRow:
        owed = round(known.owed / self._units[market], 2)
        return row_of(self._chain, entry, standing, known, owed)

    async def _roster(self, name: str, market: MarketBook, view: View) -> Roster:
        """Return who is watched in a market, looked up anew from time to time."""
        now = self._clock.time()
        roster = self._rosters.setdefault(name, Roster())
        is_new = self._arrived(name, market, roster)
        if not is_new and now - self._refreshed.get(name, float("-inf")) < REFRESH:
            return roster
        members: list[tuple[Watch, Address]] = []
        for watch in self._watches:
            if not watch.covers(self._chain, name, market.protocol.protocol):
                continue
            who = await self._members(watch, market, view)
            if who is None:
                return roster
            members += [(watch, account) for account in who]
            kept = self._kept(watch, name, market, roster)
            # and whoever was watched when the last process ended, what became of him since
            kept |= self._remembered(watch, name, market)
            members += [(watch, account) for account in kept]
        known = {key for key in self._known if _is_of(key[1], name)}
        before = roster
        wanted = {(watch.name, account): watch for watch, account in members}
        entries: list[Entry] = []
        for place, (key, watch) in enumerate(wanted.items()):
            if place % ROWS == 0:
                await asyncio.sleep(0)
            entry = before.get(key)
            entries.append(entry or self._opened(name, market, view.head.number, watch, key[1]))
        roster = self._rosters[name] = await asyncio.to_thread(before.filled, entries)
        added = [
            self._row(name, entry, entry.standing, NEVER)
            for entry in roster.entries
            if before.get(entry.key) is None
            and (entry.watch.name, entry.market, to_hex(entry.borrower)) not in known
        ]
        for start in range(0, len(added), ROWS):
            rows = added[start : start + ROWS]
            await self._dispatcher.post([], partial(write_standings, rows=rows))
        if known:
            await self._take({key: row for key, row in self._known.items() if key not in known})
        self._refreshed[name] = now
        gone = [
            self._row(name, entry, entry.standing, NEVER)
            for entry in before.entries
            if roster.get(entry.key) is None
        ]
        if gone:
            await self._dispatcher.post([], partial(forget_standings, rows=gone))
        await self._outlooks.raise_all(market, roster, view)
        return roster

    def _arrived(self, name: str, market: MarketBook, roster: Roster) -> bool:
        """Say whether somebody named on a watch has an account that nobody watches yet."""
        if not isinstance(market.protocol, Placing):
            return False
        watches = [
            watch
            for watch in self._watches
            if watch.addresses and watch.covers(self._chain, name, market.protocol.protocol)
        ]
        market.follow(frozenset().union(*(watch.addresses or () for watch in watches)))
        return any(
            account[-20:] in (watch.addresses or ()) and roster.get((watch.name, account)) is None
            for account in market.arrived()
            for watch in watches
        )

    async def _members(
        self, watch: Watch, market: MarketBook, view: View
    ) -> Collection[Address] | None:
        """Return the accounts a watch takes in; None when nothing is loaded."""
        is_placing = isinstance(market.protocol, Placing)
        if watch.addresses is not None and watch.above is None and not is_placing:
            return watch.addresses
        least = _least(watch, market)
        return await market.owing(least, view.next_block, watch.addresses)

    def _kept(self, watch: Watch, name: str, market: MarketBook, roster: Roster) -> set[Address]:
        """Return the accounts that stay on a watch, whatever they owe now.

        Whoever was told of a level is told, too, how it ends. Who owed enough when last looked at and
        does not any more may have been liquidated: he stays until that was looked for and told.
        """
        held = self._liquidations.held(name)
        is_caught_up = self._liquidations.is_caught_up(name)
        owing = roster.owing(_least(watch, market)) if is_caught_up else roster.entries
        named = [e for e in owing if watch.addresses is None or e.borrower in watch.addresses]
        found = [entry for key in held if (entry := roster.get(key)) is not None]
        entries = (*roster.unfinished(), *named, *found)
        return {entry.account for entry in entries if entry.watch is watch}

    def _remembered(self, watch: Watch, name: str, market: MarketBook) -> set[Address]:
        """Return the accounts on a watch when the last process ended."""
        found = set()
        for of, place, borrower in self._known:
            if of != watch.name or not _is_of(place, name):
                continue
            who: Address | None = Address(bytes.fromhex(borrower[2:]))
            if isinstance(market.protocol, Placing) and who is not None:
                who = market.protocol.account_in(place, who)
            if who is not None:
                found.add(who)
        return found

    def _opened(
        self, name: str, market: MarketBook, number: int, watch: Watch, account: Address
    ) -> Entry:
        """Return an entry as it stood when the last process ended, or one that begins now."""
        protocol = market.protocol
        place = protocol.place(account) if isinstance(protocol, Placing) else name
        row = self._known.get((watch.name, place, to_hex(Address(account[-20:]))))
        if row is None:
            return Entry(watch, account, place, watch.ladder, Standing(episode=number))
        return Entry(watch, account, place, watch.ladder, standing_of(row), known_of(row))

    async def _summarise(self, day: date, markets: Mapping[str, MarketBook]) -> None:
        """Tell the channels of each watch how its positions stand, once a day."""
        now, totals = self._clock.time(), self._totals()
        notes = []
        for watch in self._watches:
            mine = [totals.get((watch.name, level), (0, 0.0)) for level in Level]
            worst, count = await self.listing(whole=False, limit=DIGEST_ROWS, watch=watch.name)
            watched, debt = sum(number for number, _ in mine), sum(owed for _, owed in mine)
            failed = self._round.missing(
                name
                for name, market in markets.items()
                if watch.covers(self._chain, name, market.protocol.protocol)
            )
            summary = Summary(
                self._chain, watch.name, day.isoformat(), watched, count, debt, tuple(failed)
            )
            notes.append((digest(summary, now, worst), watch.channels))
        await self._dispatcher.post(notes)
        self._digest.done(day)

    async def _take(self, known: dict[tuple[str, str, str], StandingRow]) -> None:
        """Take rows of the last process as those of which nothing newer is known."""
        self._known = known
        self._left = await asyncio.to_thread(tally_rows, list(known.values()))

    def _totals(self) -> dict[tuple[str, Level], tuple[int, float]]:
        """Return by watch and level how many positions there are, and what they owe in dollars.

        Where nothing can be looked at, as last seen.
        """
        totals = dict(self._left)
        for name, roster in self._rosters.items():
            for key, (count, owed) in roster.tally().items():
                before = totals.get(key, (0, 0.0))
                totals[key] = before[0] + count, before[1] + owed / self._units[name]
        return totals

    def _gauge(self) -> None:
        totals = self._totals()
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


def _least(watch: Watch, market: MarketBook) -> float:
    """Return from which debt on, in base currency, a watch takes a position in."""
    return 1.0 if watch.above is None else watch.above / USD * market.prices.unit


def _is_of(place: str, name: str) -> bool:
    """Say whether a position's market is one of those under a name."""
    return place == name or place.startswith(f"{name}/")


def _known(position: Position, head: int) -> Known:
    health = position.health / WAD if position.debt else float("inf")
    return Known(health, float(position.debt_value), head)
