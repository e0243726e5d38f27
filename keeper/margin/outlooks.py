"""What is known of prices by market: sampled while somebody is watched there, kept over a restart."""

import asyncio
from collections.abc import Iterator

from keeper.book.market import MarketBook
from keeper.journal.outbox import SqliteOutbox
from keeper.margin.outlook import LONGEST, Outlook
from keeper.margin.records import prices_of
from keeper.margin.roster import Entry, Roster
from keeper.ports import Placing, Plain
from keeper.types import Position, Prices, View
from keeper.units import to_hex

SLICE = 4
"""Positions computed exactly without letting the event loop go on."""


class Outlooks:
    """Sample the prices of one chain's markets, and begin levels earlier where they are wild.

    Where a protocol has many markets, each has its own prices, and its own outlook.
    """

    def __init__(self, chain: str, outbox: SqliteOutbox, step: float) -> None:
        self._chain = chain
        self._outbox = outbox
        self._step = step
        self._known: dict[str, Outlook] = {}
        self._restored: set[str] = set()

    def of(self, place: str) -> Outlook:
        """Return what is known of one market's prices."""
        return self._known.setdefault(place, Outlook(self._step))

    async def sample(self, name: str, market: MarketBook, roster: Roster, view: View) -> None:
        """Take prices where a sample is due, and raise ladders by what they say."""
        now, taken = float(view.head.timestamp), False
        for place, prices in _places(name, market, roster, view, self._due(now)):
            if place not in self._restored:
                rows = await self._outbox.samples(self._chain, place, now - LONGEST)
                kept = [(time, prices_of(row)) for time, row in rows if time <= now]
                await asyncio.to_thread(self.of(place).restore, kept)
                self._restored.add(place)
                taken = taken or bool(kept)
            outlook = self.of(place)
            if outlook.wants(now) and prices.values:
                await asyncio.to_thread(outlook.add, now, prices)
                shown = {to_hex(asset): str(price) for asset, price in prices.values.items()}
                self._outbox.sample(self._chain, place, now, shown, now - LONGEST)
                taken = True
        if taken:
            await self.raise_all(market, roster, view)

    async def raise_all(self, market: MarketBook, roster: Roster, view: View) -> None:
        """Begin levels where the chances that are set say, if that is earlier."""
        wanted = [entry for entry in roster.entries if entry.watch.chances is not None]
        for place, entry in enumerate(wanted):
            if place % SLICE == 0:
                await asyncio.sleep(0)
            chances, outlook = entry.watch.chances, self._known.get(entry.market)
            if chances is None or outlook is None or outlook.covariance is None:
                continue
            try:
                found = market.protocol.position(entry.account, market.prices, view.next_block)
            except Exception:  # noqa: BLE001, S112 - whoever judges it says so, and it harms no other
                continue
            if found is None:
                continue
            raised = outlook.ladder(plain(market, found)[0], chances)
            if raised is not None:
                roster.raise_ladder(entry, entry.watch.ladder.raised(raised))

    def _due(self, now: float) -> set[str]:
        """Return the places that are sampled and need no sample yet."""
        return {place for place, outlook in self._known.items() if not outlook.wants(now)}


def plain(market: MarketBook, position: Position) -> tuple[Position, Prices]:
    """Return a position in tokens that people know, and the prices of them."""
    if position.debt and isinstance(market.protocol, Plain):
        return market.protocol.plain(position, market.prices)
    return position, market.prices


def _places(
    name: str, market: MarketBook, roster: Roster, view: View, known: set[str]
) -> Iterator[tuple[str, Prices]]:
    """Yield the places to be sampled, and their prices."""
    if not isinstance(market.protocol, Placing):
        if name not in known:
            yield name, market.prices
        return
    those: dict[str, list[Entry]] = {}
    for entry in roster.entries:
        if entry.market not in known:
            those.setdefault(entry.market, []).append(entry)
    for place, entries in those.items():
        for entry in entries[:SLICE]:
            try:
                found = market.protocol.position(entry.account, market.prices, view.next_block)
                prices = None if found is None else plain(market, found)[1]
            except Exception:  # noqa: BLE001, S112 - another's position shows the prices as well
                continue
            if prices is None:
                continue
            yield place, prices
            break
