"""One market in the book: its columns, its prices, and who is at risk in it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from keeper.book.columns import Columns
from keeper.book.legs import BLOCK, Floats, Rows
from keeper.book.spread import PIECE, Spread, Weighed, joined, measured, spread, unit, weigh
from keeper.ports import LegArrays, LendingProtocol, Placing, Valuing
from keeper.types import (
    AtRisk,
    CallResult,
    Cause,
    Head,
    NextBlock,
    Position,
    Prices,
    Reason,
    Skip,
)
from keeper.units import WAD, Address

SCREEN_MARGIN = 1e-5
"""Float health under 1 + this is recomputed exactly.

The screen's own error is about 1e-12; contracts round to whole token units, which for WBTC is
0.0006 USD at 60,000 USD, so the margin is right for debts of 60 USD and more.
"""
THRESHOLD = 1.0 + SCREEN_MARGIN


SLICE = 4
"""Borrowers computed in exact integers, or taken into the columns, without a pause."""
PART = 256
"""Borrowers looked up by row, and what brought them under, before the first of them is computed."""
UNREAD = 256
"""Borrowers without a price that are looked at exactly; of all others as much is known by the screen."""
FREED = 64
"""Positions freed without a pause."""
INLINE_ROWS = 32_768
"""Rows screened on the event loop, in half a millisecond; more, and bands, are made beside it."""
INLINE_ACCOUNTS = 2_048
"""Accounts looked up by name on the event loop, which costs more for each than a row screened."""
ACCOUNTS = 20_000
"""Accounts looked up by name while the columns are held."""
BULK = 20_000
"""Changed borrowers from which on all columns are built anew rather than row by row."""

T = TypeVar("T")
IsCurrent = Callable[[], bool]
"""Says whether the book still stands at the head that is judged."""


@dataclass(slots=True)
class Followed:
    """What outlives a market's columns: what debts weigh, who is followed, and who of them changed."""

    weights: Floats = field(default_factory=lambda: np.zeros(0))
    borrowers: AbstractSet[Address] = frozenset()
    arrived: set[Address] = field(default_factory=set)


class MarketBook:
    """Screen one market and compute its candidates exactly.

    Whatever takes long is done beside the event loop or in slices, and the book may go on to the
    next head meanwhile: then there is no answer for the one that was asked about. `followed` is that
    of the market as it was screened before, if it was.
    """

    def __init__(self, protocol: LendingProtocol, followed: Followed | None = None) -> None:
        self.protocol = protocol
        self.followed = followed or Followed()
        self.prices = Prices(protocol.market, 1, {})
        self._judged: Prices | None = None
        self._columns: Columns | None = None
        self._causes: dict[Address, Cause] = {}
        self._pending: set[Address] = set()
        self._touched: set[Address] = set()
        self.candidates = 0
        """Borrowers to be judged exactly at the last head, however many of them were."""
        self.unread = 0
        """Borrowers nobody can judge, for want of a price."""
        self._turn = -1
        self._found: list[AtRisk] = []
        self._spent: list[AtRisk] = []
        self._closed = False
        self._lock = asyncio.Lock()

    def observe(
        self, prices: Sequence[CallResult], others: Sequence[CallResult], head: Head
    ) -> None:
        """Take a head's answers: the oracle's reads, and the protocol's own."""
        self.prices = self.protocol.oracle.prices(prices, head)
        self.protocol.observe(others, head)

    async def load(self) -> None:
        """Build the columns from the whole ledger; run once it was loaded, or loaded anew."""
        async with self._lock:
            await self._load()

    async def close(self) -> None:
        """Let the columns go beside the event loop; nobody is judged here from now on."""
        self._closed = True
        async with self._lock:
            columns, self._columns = self._columns, None
            if columns is not None:
                await asyncio.to_thread(columns.release)

    async def at_risk(
        self, next_block: NextBlock, is_current: IsCurrent, most: int | None = None
    ) -> tuple[list[AtRisk], list[Skip]] | None:
        """Return liquidatable positions, worst first, and a `Skip` for those without a price.

        `most` is how many are judged, all when it is None: the weightiest, and the others in turns.
        Of those without a price no more than `UNREAD` are named. None when the book went on to
        another head.
        """
        async with self._lock:
            columns = await self._renew(is_current)
            if columns is None:
                return None
            rows, turn = await self._screened(columns, next_block, most)
            found: list[AtRisk] = []
            skips: list[Skip] = []
            earlier = None
            if self._judged is not None:
                earlier = self.protocol.factors(self._judged, next_block)
            known: dict[Address, Cause] = {}
            well: list[Address] = []
            for first in range(0, len(rows), PART):
                if first:
                    await asyncio.sleep(0)
                if not is_current():
                    return None
                causes = self._causes_of(columns, rows[first : first + PART], earlier)
                async for borrower in _in_slices(tuple(causes), is_current):
                    position = self.protocol.position(borrower, self.prices, next_block)
                    if position is None:
                        skips.append(self._unpriced(borrower))
                    elif position.health < WAD:
                        pairs, refusals = self.protocol.pairs(position, self.prices, next_block)
                        cause = known[borrower] = causes[borrower]
                        found.append(AtRisk(position, tuple(pairs), tuple(refusals), cause))
                    else:
                        well.append(borrower)
            if not is_current():
                return None
            if turn is None:
                self._causes = known
                self._touched.clear()
                self._judged = self.prices
            else:
                # Nobody knows yet what brought the others under: it is asked of the same prices again.
                for borrower in well:
                    self._causes.pop(borrower, None)
                self._causes.update(known)
                self._turn = turn
            self._spent, self._found = self._found, found.copy()
            return found, skips

    async def _screened(
        self, columns: Columns, next_block: NextBlock, most: int | None
    ) -> tuple[Rows, int | None]:
        """Return the rows to compute, worst first, those without a price last.

        With them where the next turn begins, None when no candidate has to wait for one.
        """
        factors = self.protocol.factors(self.prices, next_block)
        screen = partial(columns.candidates, *factors, THRESHOLD)
        rows = await _beside(columns.work(*factors, THRESHOLD), screen)
        unread = await _beside(len(rows), partial(columns.unread, rows, *factors))
        chosen, unpriced = rows[~unread], rows[unread]
        self.candidates, self.unread = len(chosen), len(unpriced)
        turn = None
        if most is not None and most < len(chosen):
            weigh = partial(columns.weights, chosen, *map(self._valued, factors))
            chosen, turn = _part(chosen, await _beside(len(chosen), weigh), most, self._turn)
        return np.concatenate([chosen, unpriced[:UNREAD]]), turn

    async def let_go(self) -> None:
        """Free the positions found before the last time, a few at a time.

        A crowd of thousands has more than a hundred thousand nouns: let go all at once, it stops the
        event loop.
        """
        spent = self._spent
        while spent:
            del spent[-FREED:]
            await asyncio.sleep(0)

    async def positions(
        self, next_block: NextBlock, below: float, limit: int, is_current: IsCurrent
    ) -> list[Position] | None:
        """Return exact positions whose approximate health is under `below`, worst first.

        None when the book went on to another head.
        """
        async with self._lock:
            columns = await self._renew(is_current)
            if columns is None:
                return None
            factors = self.protocol.factors(self.prices, next_block)
            rows = await asyncio.to_thread(columns.below, *factors, below)
            found = []
            async for borrower in _in_slices(columns.borrowers(rows[:limit]), is_current):
                position = self.protocol.position(borrower, self.prices, next_block)
                if position is not None:
                    found.append(position)
            return found if is_current() else None

    async def standing(
        self, borrowers: Sequence[Address], next_block: NextBlock, is_current: IsCurrent
    ) -> tuple[Floats, Floats, Floats] | None:
        """Return `Columns.standing` of some accounts at the next block, debts in base currency.

        None when the book went on to another head. An asset weighs as much in the sum of scaled
        amounts as it was worth when it was first asked for, so that a small debt's fall is seen
        beside a large one, whatever their tokens' decimals. Many are looked at a piece at a time,
        beside the event loop, so that no head waits for more than one of them.
        """
        pieces: list[tuple[Floats, Floats, Floats]] = []
        for start in range(0, max(len(borrowers), 1), ACCOUNTS):
            async with self._lock:
                columns = await self._renew(is_current)
                if columns is None:
                    return None
                collateral, debt = self.protocol.factors(self.prices, next_block)
                worth = self._worth(debt)
                weights = self.followed.weights = kept(self.followed.weights, worth)
                piece = borrowers[start : start + ACCOUNTS]
                found = partial(columns.standing, piece, collateral, debt, worth, weights)
                many = len(piece) > INLINE_ACCOUNTS
                pieces.append(await asyncio.to_thread(found) if many else found())
        if not is_current():
            return None
        health, owed, scaled = (np.concatenate(each) for each in zip(*pieces, strict=True))
        return health, owed, scaled

    async def owing(
        self, least: float, next_block: NextBlock, among: AbstractSet[Address] | None = None
    ) -> list[Address] | None:
        """Return the accounts that owe at least a value in base currency, approximately.

        Those of some borrowers alone when `among` names them; one without a price may owe enough.
        Looks at a block of rows at a time, beside the event loop, so that no head waits for more
        than one of them; None when nothing is loaded.
        """
        found: list[Address] = []
        start, before = 0, self._columns
        while True:
            async with self._lock:
                columns = self._columns
                if columns is None or self._closed:
                    return None
                if columns is not before:
                    # made anew between two blocks, they have everybody in another row
                    found, start, before = [], 0, columns
                if start >= len(columns):
                    return found
                collateral, debt = self.protocol.factors(self.prices, next_block)
                worth = self._worth(debt)
                owing = await asyncio.to_thread(columns.owing, start, least, collateral, worth)
                start += BLOCK
            found += owing if among is None else [e for e in owing if e[-20:] in among]

    def follow(self, borrowers: AbstractSet[Address]) -> None:
        """Keep from now on which accounts of these borrowers change, for `arrived`."""
        self.followed.borrowers = borrowers

    def arrived(self) -> set[Address]:
        """Return and forget the accounts that changed, of those who are followed."""
        arrived, self.followed.arrived = self.followed.arrived, set()
        return arrived

    async def spread(self, next_block: NextBlock) -> Spread | None:
        """Return how far positions are from their threshold; None where the columns are being made.

        The columns are held a piece at a time, so that no head waits for all of it. What changes
        meanwhile may be counted as it was or as it is.
        """
        factors = self.protocol.factors(self.prices, next_block)
        pieces: list[Weighed] = []
        columns = self._columns
        while columns is not None and PIECE * len(pieces) < len(columns):
            async with self._lock:
                if columns is self._columns:
                    first = PIECE * len(pieces)
                    pieces.append(await asyncio.to_thread(weigh, columns, first, *factors))
            if columns is not self._columns:
                return None
        if columns is None:
            return None
        weighed = await asyncio.to_thread(joined, pieces)
        if columns is not self._columns:
            return None
        places = measured(weighed)
        owed: list[float] = []
        exact: list[int] = []
        for place, borrower in zip(
            places, columns.borrowers(weighed.rows[np.array(places, np.intp)]), strict=True
        ):
            position = self.protocol.position(borrower, self.prices, next_block)
            if position is not None and position.debt_value >= self.prices.unit:
                owed.append(float(weighed.owed[place]))
                exact.append(position.debt_value)
            await asyncio.sleep(0)
        worth = unit(owed, exact)
        return await asyncio.to_thread(spread, weighed, worth)

    def _worth(self, debt: Floats) -> Floats:
        """Return what debts count by class, in base currency."""
        if isinstance(self.protocol, Valuing):
            return debt * self.protocol.worth(self.prices)
        return debt

    def _valued(self, factors: Floats) -> Floats:
        """Return factors in base currency, where they are not; what nobody knows the worth of is none."""
        if isinstance(self.protocol, Valuing):
            return factors * np.nan_to_num(self.protocol.worth(self.prices))
        return factors

    async def _load(self) -> None:
        self._take_changed()
        self._pending.clear()
        self._touched.clear()
        self._judged = None
        before, self._columns = self._columns, None
        self._columns = await asyncio.to_thread(_built, self.protocol.all_legs(), before)

    async def _renew(self, is_current: IsCurrent) -> Columns | None:
        """Bring the columns to the ledger as it stands; None when that went on meanwhile."""
        if self._closed or not is_current():
            return None
        if self._columns is None:
            await self._load()
        self._take_changed()
        if len(self._pending) > BULK:
            await self._load()
            self._take_changed()
        columns = self._columns
        assert columns is not None
        async for borrower in _in_slices(tuple(self._pending), is_current):
            columns.replace(borrower, *self.protocol.legs(borrower))
            self._pending.discard(borrower)
        return columns if is_current() else None

    def _take_changed(self) -> None:
        changed = self.protocol.changed()
        self._pending |= changed
        self._touched |= changed
        if self.followed.borrowers:
            among = self.followed.borrowers
            self.followed.arrived |= {each for each in changed if each[-20:] in among}

    def _causes_of(
        self, columns: Columns, rows: Rows, earlier: tuple[Floats, Floats] | None
    ) -> dict[Address, Cause]:
        """Say what brought candidates under: their own change, interest at old prices, or a price.

        `earlier` are the factors at the next block as they would be at the prices of the head judged
        before. The screen is exact enough to name it. What was under before keeps its cause; what
        nobody looked at before came as it is.
        """
        borrowers = columns.borrowers(rows)
        if earlier is None:
            return {each: self._causes.get(each, Cause.POSITION) for each in borrowers}
        causes = {}
        for borrower, health in zip(
            borrowers, columns.health(rows, *earlier).tolist(), strict=True
        ):
            known = self._causes.get(borrower)
            if known is None and borrower in self._touched:
                known = Cause.POSITION
            causes[borrower] = known or (Cause.INTEREST if health < 1.0 else Cause.PRICE)
        return causes

    def _unpriced(self, borrower: Address) -> Skip:
        market = self.protocol.market
        if isinstance(self.protocol, Placing):
            market = self.protocol.place(borrower)
        return Skip(
            market,
            self.protocol.protocol,
            Address(borrower[-20:]),
            Reason.NO_PRICE,
            "a price this position needs could not be read",
        )


def kept(weights: Floats, worth: Floats) -> Floats:
    """Return weights by class: as they were, and by what they are worth now for those without."""
    found = np.nan_to_num(worth)
    known = np.flatnonzero(weights[: len(found)])
    found[known] = weights[known]
    return found


def _built(gather: Callable[[], LegArrays], before: Columns | None) -> Columns:
    """Return the columns of all legs, those before them freed first."""
    if before is not None:
        before.release()
    return Columns.filled(gather())


async def _beside(rows: int, compute: Callable[[], T]) -> T:
    """Return what is computed of some rows, beside the event loop where they are many."""
    return await asyncio.to_thread(compute) if rows > INLINE_ROWS else compute()


def _part(rows: Rows, weights: Floats, most: int, turn: int) -> tuple[Rows, int]:
    """Return the rows of a head that are judged, as they come, and where the next turn begins.

    Dust stays under water for years, and where there are more than a head leaves time for, it must
    not keep away those that are worth something: three quarters are the weightiest, the last quarter
    are the next rows of the others after `turn`.
    """
    turns = max(most // 4, 1)
    by_weight = np.argsort(-weights, kind="stable")
    first, others = by_weight[: most - turns], by_weight[most - turns :]
    others = others[np.argsort(rows[others])]
    start = np.searchsorted(rows[others], turn, "right")
    taken = others[np.arange(start, start + turns) % len(others)]
    chosen: Rows = rows[np.sort(np.concatenate([first, taken]))]
    return chosen, int(rows[taken[-1]])


async def _in_slices(borrowers: Sequence[Address], is_current: IsCurrent) -> AsyncIterator[Address]:
    """Yield borrowers, letting the event loop go on between slices; end when the head is old."""
    for start in range(0, len(borrowers), SLICE):
        if start:
            await asyncio.sleep(0)
        if not is_current():
            return
        for borrower in borrowers[start : start + SLICE]:
            yield borrower
