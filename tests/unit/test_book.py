"""The book: dispatch, undo, the screen's margin, causes, and prices that could not be read."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from keeper.book import spread as spread_of
from keeper.book.book import Book
from keeper.book.columns import Columns
from keeper.book.market import FREED
from keeper.book.parts import UNDO_DEPTH
from keeper.errors import InvariantError
from keeper.ports import LegArrays, LegRow, Pages, Reader, Terms
from keeper.types import (
    Backstop,
    Call,
    CallResult,
    Cause,
    Drift,
    FlashSource,
    Head,
    Liquidation,
    Log,
    NextBlock,
    Permission,
    Position,
    Prices,
    Reason,
    Skip,
    Token,
    Undo,
    View,
    Watch,
)
from keeper.units import WAD, Address, Hash, Wad, Wei

TOKEN = Token(Address(b"\x01" * 20), "TKN", 18)
LEDGER = Address(b"\xaa" * 20)
FEED = Address(b"\xbb" * 20)
TOPIC = b"\x0f" * 32
UNIT = 10**8


def head(number: int, fork: int = 0, parent_fork: int = 0) -> Head:
    return Head(
        number,
        block_hash(number, fork),
        block_hash(number - 1, parent_fork),
        12 * number,
        Wei(1),
        0,
        30_000_000,
    )


def block_hash(number: int, fork: int = 0) -> Hash:
    return Hash(bytes([fork]) + (number + 1).to_bytes(31, "big"))


def log(at: Head, borrower: int, debt: int, address: Address = LEDGER) -> Log:
    data = borrower.to_bytes(20, "big") + debt.to_bytes(32, "big")
    return Log(address, (TOPIC,), data, at.number, at.hash, 0)


class OnePriceOracle:
    """Prices the one token from the one read."""

    def watch(self) -> Watch:
        return Watch(frozenset({FEED}), frozenset({TOPIC}))

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        raise NotImplementedError

    def fold(self, log: Log) -> Undo | None:
        return None

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        return [Drift("price", 1, 2)]

    def snapshot(self) -> Pages:
        raise NotImplementedError

    def restore(self, pages: Iterable[bytes]) -> None:
        raise NotImplementedError

    def calls(self) -> Sequence[Call]:
        return [Call(FEED, b"price")]

    def prices(self, results: Sequence[CallResult], head: Head) -> Prices:
        read = {TOKEN.address: int.from_bytes(results[0].data, "big")} if results[0].ok else {}
        return Prices("m", UNIT, read, head.hash)


class LoanLedger:
    """Every borrower has 100 tokens of collateral at a threshold of 80 %; debt grows 1 % a second."""

    market = "m"
    protocol = "p"

    def __init__(self) -> None:
        self.oracle = OnePriceOracle()
        self.debts: dict[Address, int] = {}
        self.dirty: set[Address] = set()
        self.weight: Callable[[Address], int] = lambda _: 1

    def watch(self) -> Watch:
        return Watch(frozenset({LEDGER}), frozenset({TOPIC}))

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        raise NotImplementedError

    def fold(self, log: Log) -> Undo | None:
        borrower = Address(log.data[:20])
        before = self.debts.get(borrower, 0)
        self.debts[borrower] = int.from_bytes(log.data[20:], "big")
        self.dirty.add(borrower)

        def undo() -> None:
            self.debts[borrower] = before
            self.dirty.add(borrower)

        return undo

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        return []

    def snapshot(self) -> Pages:
        raise NotImplementedError

    def restore(self, pages: Iterable[bytes]) -> None:
        raise NotImplementedError

    def calls(self) -> Sequence[Call]:
        return [Call(LEDGER, b"sentinel")]

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        assert [result.data for result in results] == [b"up"]

    def tokens(self) -> Mapping[Address, Token]:
        return {TOKEN.address: TOKEN}

    def borrowers(self) -> int:
        return sum(1 for debt in self.debts.values() if debt)

    def changed(self) -> set[Address]:
        dirty, self.dirty = self.dirty, set()
        return dirty

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        debt = self.debts[borrower]
        weight = self.weight(borrower)
        return ([(0, 100 * WAD * weight)], [(1, debt * weight)]) if debt else ([], [])

    def all_legs(self) -> Callable[[], LegArrays]:
        self.dirty = set()
        debts = {who: float(debt * self.weight(who)) for who, debt in self.debts.items() if debt}
        weights = np.array([self.weight(who) for who in debts], np.float64)
        rows = np.arange(len(debts))
        zeros, ones = np.zeros(len(debts), np.intp), np.ones(len(debts), np.intp)
        held, owed = 100.0 * WAD * weights, np.array(list(debts.values()), np.float64)
        return lambda: LegArrays(list(debts), rows, zeros, held, rows, ones, owed)

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        price = prices.get(TOKEN.address)
        value = np.nan if price is None else price / WAD
        growth = 1 + at.timestamp / 100
        return np.array([value * 0.8, 0.0]), np.array([0.0, UNIT / WAD * growth])

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        price = prices.get(TOKEN.address)
        if price is None:
            return None
        debt = self.debts[borrower] * UNIT * (100 + at.timestamp) // 100 // WAD
        collateral = 100 * price
        health = Wad(collateral * 8_000 * WAD // 10_000 // debt)
        return Position("m", "p", borrower, (), (), collateral, debt, health)

    def pairs(
        self, position: Position, prices: Prices, at: NextBlock
    ) -> tuple[Sequence[Terms], Sequence[Skip]]:
        return (), ()

    @property
    def stopped(self) -> str:
        return ""

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        raise NotImplementedError

    def withdrawable(self, token: Address) -> int | None:
        return None

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        return ()

    def execution(self, terms: Terms) -> Liquidation:
        raise NotImplementedError

    def permissions(self) -> Sequence[Permission]:
        raise NotImplementedError

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        raise NotImplementedError

    def backstops(self) -> Sequence[Backstop]:
        return ()


class ValuedLedger(LoanLedger):
    """Loans of two tokens, the second of units that are worth next to nothing."""

    def worth(self, prices: Prices) -> NDArray[np.float64]:
        return np.array([1.0, 1e-15])


def answers(price: int | None) -> list[CallResult]:
    priced = (
        CallResult(False, b"") if price is None else CallResult(True, price.to_bytes(32, "big"))
    )
    return [priced, CallResult(True, b"up")]


def standing() -> tuple[Book, LoanLedger]:
    ledger = LoanLedger()
    book = Book("test", [ledger], [], TOKEN)
    book.stand_at(head(0))
    return book, ledger


def at(timestamp: int) -> NextBlock:
    return NextBlock(1, timestamp, Wei(1))


def test_a_log_reaches_its_source_and_undo_takes_it_back() -> None:
    book, ledger = standing()
    book.fold(head(1), [log(head(1), 7, 50 * WAD)])
    book.fold(head(2), [log(head(2), 7, 60 * WAD), log(head(2), 8, 1), log(head(2), 9, 2, FEED)])
    assert ledger.borrowers() == 2
    book.undo()
    assert book.head == head(1)
    assert ledger.borrowers() == 1
    assert ledger.debts[Address((7).to_bytes(20, "big"))] == 50 * WAD


def test_a_block_that_does_not_follow_is_refused() -> None:
    book, _ = standing()
    with pytest.raises(InvariantError, match="does not follow"):
        book.fold(head(1, parent_fork=1), [])
    with pytest.raises(InvariantError, match="does not follow"):
        book.fold(head(2), [])


def test_a_reorg_deeper_than_held_is_an_error() -> None:
    book, _ = standing()
    for number in range(1, UNDO_DEPTH + 10):
        book.fold(head(number), [])
    for _ in range(UNDO_DEPTH - 1):
        book.undo()
    with pytest.raises(InvariantError, match="deeper"):
        book.undo()


async def view_at(book: Book, price: int | None, timestamp: int) -> tuple[View, list[Skip]]:
    book.observe(book.reads(), answers(price), head(1))
    seen = await book.view(at(timestamp), 100)
    assert seen is not None
    return seen


async def test_the_cause_tells_position_price_and_interest_apart() -> None:
    book, _ = standing()
    book.fold(
        head(1), [log(head(1), 7, 70 * WAD), log(head(1), 8, 79 * WAD), log(head(1), 9, 90 * WAD)]
    )
    view, _ = await view_at(book, UNIT, 0)
    assert {risk.position.borrower[-1]: risk.cause for risk in view.at_risk} == {9: Cause.POSITION}
    view, _ = await view_at(book, UNIT, 2)
    causes = {risk.position.borrower[-1]: risk.cause for risk in view.at_risk}
    assert causes == {9: Cause.POSITION, 8: Cause.INTEREST}
    view, _ = await view_at(book, UNIT * 8 // 10, 2)
    causes = {risk.position.borrower[-1]: risk.cause for risk in view.at_risk}
    assert causes == {9: Cause.POSITION, 8: Cause.INTEREST, 7: Cause.PRICE}
    assert [risk.position.borrower[-1] for risk in view.at_risk] == [9, 8, 7]


async def test_strategies_have_longer_for_more_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same time for any crowd they would answer for none of a large one, head after head."""
    book, ledger = standing()
    assert (await view_at(book, UNIT, 0))[0].deadline_ms == 100
    book.fold(head(1), [log(head(1), borrower, 90 * WAD) for borrower in (7, 8, 9)])
    # Where there is nothing to choose, nothing takes time.
    assert (await view_at(book, UNIT, 0))[0].deadline_ms == 100
    ledger.pairs = lambda *_: ((object(),), ())  # type: ignore[assignment, method-assign]
    assert (await view_at(book, UNIT, 0))[0].deadline_ms == 103
    monkeypatch.setattr("keeper.book.book.MOST_MS", 2)
    assert (await view_at(book, UNIT, 0))[0].deadline_ms == 102


async def test_a_crowd_is_named_right_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Causes are looked up for a part of the rows at a time."""
    monkeypatch.setattr("keeper.book.market.PART", 3)
    book, _ = standing()
    book.fold(head(1), [log(head(1), number, 90 * WAD) for number in range(1, 5)])
    await view_at(book, UNIT, 0)
    book.fold(head(2), [log(head(2), number, 79 * WAD) for number in range(5, 12)])
    view, _ = await view_at(book, UNIT, 0)
    assert len(view.at_risk) == 4
    book.fold(head(3), [log(head(3), number, 85 * WAD) for number in range(12, 16)])
    view, _ = await view_at(book, UNIT * 8 // 10, 0)
    causes = {risk.position.borrower[-1]: risk.cause for risk in view.at_risk}
    assert causes == {
        **dict.fromkeys(range(1, 5), Cause.POSITION),
        **dict.fromkeys(range(5, 12), Cause.PRICE),
        **dict.fromkeys(range(12, 16), Cause.POSITION),
    }


async def test_what_views_held_is_freed_a_little_at_a_time() -> None:
    """The view before the last is what nobody looks at any more."""
    book, _ = standing()
    count = 3 * FREED
    book.fold(head(1), [log(head(1), number, 90 * WAD) for number in range(1, 1 + count)])
    first = (await view_at(book, UNIT, 0))[0].at_risk
    last = (await view_at(book, UNIT, 0))[0].at_risk
    held = [sys.getrefcount(each[count // 2]) for each in (first, last)]
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await book.let_go()
    turning.cancel()
    assert turns >= 3
    after = [sys.getrefcount(each[count // 2]) for each in (first, last)]
    assert after == [held[0] - 1, held[1]]
    assert len(first) == len(last) == count


async def test_a_position_of_exactly_one_is_healthy() -> None:
    book, _ = standing()
    book.fold(head(1), [log(head(1), 7, 80 * WAD), log(head(1), 8, 80 * WAD + 10**11)])
    view, _ = await view_at(book, UNIT, 0)
    assert [risk.position.borrower[-1] for risk in view.at_risk] == [8]


async def test_an_unread_price_is_a_skip_and_never_zero() -> None:
    book, _ = standing()
    book.fold(head(1), [log(head(1), 7, 10 * WAD), log(head(1), 8, 0)])
    view, skips = await view_at(book, None, 0)
    assert view.at_risk == ()
    assert [(skip.borrower[-1], skip.reason) for skip in skips] == [(7, Reason.NO_PRICE)]
    assert view.price("m", TOKEN.address) is None


async def test_undo_reaches_the_screen() -> None:
    book, _ = standing()
    book.fold(head(1), [log(head(1), 7, 70 * WAD)])
    assert (await view_at(book, UNIT, 0))[0].at_risk == ()
    book.fold(head(2), [log(head(2), 7, 99 * WAD)])
    assert len((await view_at(book, UNIT, 0))[0].at_risk) == 1
    book.undo()
    assert (await view_at(book, UNIT, 0))[0].at_risk == ()


async def test_positions_are_worst_first_and_limited() -> None:
    book, _ = standing()
    book.fold(head(1), [log(head(1), number, number * WAD) for number in range(1, 80)])
    book.observe(book.reads(), answers(UNIT), head(1))
    found = await book.positions(at(0), below=1.1, limit=3)
    assert [position.borrower[-1] for position in found] == [79, 78, 77]


async def test_a_book_that_goes_on_meanwhile_gives_no_view() -> None:
    book, ledger = standing()
    book.fold(head(1), [log(head(1), number, 90 * WAD) for number in range(1, 200)])
    book.observe(book.reads(), answers(UNIT), head(1))
    await book.load()
    looking = asyncio.create_task(book.view(at(0), 100))
    await asyncio.sleep(0)
    assert not looking.done()
    book.fold(head(2), [log(head(2), number, 1) for number in range(1, 100)])
    assert await looking is None
    book.observe(book.reads(), answers(UNIT), head(2))
    seen = await book.view(at(0), 100)
    assert seen is not None
    assert len(seen[0].at_risk) == 100
    assert {risk.cause for risk in seen[0].at_risk} == {Cause.POSITION}
    assert ledger.borrowers() == 199


async def test_an_overtaken_head_does_not_change_the_next_ones_causes() -> None:
    book, _ = standing()
    book.fold(head(1), [log(head(1), number, 75 * WAD) for number in range(1, 200)])
    assert (await view_at(book, UNIT, 0))[0].at_risk == ()
    book.observe(book.reads(), answers(UNIT * 9 // 10), head(1))
    looking = asyncio.create_task(book.view(at(0), 100))
    await asyncio.sleep(0)
    book.fold(head(2), [log(head(2), 201, 79 * WAD)])
    assert await looking is None
    view, _ = await view_at(book, UNIT * 9 // 10, 0)
    causes = {risk.position.borrower[-1]: risk.cause for risk in view.at_risk}
    assert causes.pop(201) == Cause.POSITION
    assert set(causes.values()) == {Cause.PRICE}
    assert len(causes) == 199


async def test_too_many_for_a_head_are_judged_in_part_the_weightiest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Void judgings would otherwise follow one another for ever, and dust would be first."""
    monkeypatch.setattr("keeper.book.pace.LEAST", 8)
    book, ledger = standing()
    ledger.weight = lambda who: 1 + who[-1] % 50  # health is the same for all
    book.fold(head(1), [log(head(1), number, 90 * WAD) for number in range(1, 65)])
    weightiest = {number for number in range(1, 65) if number % 50 >= 45}
    for number in (2, 3):
        book.observe(book.reads(), answers(UNIT), head(number - 1))
        await book.load()
        looking = asyncio.create_task(book.view(at(0), 100))
        await asyncio.sleep(0)
        assert not looking.done()
        book.fold(head(number), [])
        assert await looking is None
    seen: set[int] = set()
    with capture_logs() as told:
        view, _ = await view_at(book, UNIT, 0)
        now = {risk.position.borrower[-1] for risk in view.at_risk}
        assert len(now) == 32
        assert weightiest <= now
        assert [risk.cause for risk in view.at_risk] == [Cause.POSITION] * 32
        some = Address((100).to_bytes(20))
        for turn in range(5):
            # somebody who comes and goes puts nobody's turn off
            ledger.debts[some] = turn % 2 * 90 * WAD
            ledger.dirty.add(some)
            book._pace._most = 32
            view, _ = await view_at(book, UNIT, 0)
            seen |= {risk.position.borrower[-1] for risk in view.at_risk}
    assert seen >= set(range(1, 65))
    assert [(each["event"], each["not_judged"]) for each in told] == [("book.too_many", 32)]
    book._pace._most = None
    with capture_logs() as told:
        assert len((await view_at(book, UNIT, 0))[0].at_risk) == 64
    assert [(each["event"], each["not_judged"]) for each in told] == [("book.too_many", 0)]


async def test_those_not_judged_yet_keep_what_brought_them_under(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("keeper.book.pace.LEAST", 8)
    book, _ = standing()
    book.fold(head(1), [log(head(1), number, 75 * WAD) for number in range(1, 65)])
    assert (await view_at(book, UNIT, 0))[0].at_risk == ()
    causes: dict[int, Cause] = {}
    for _ in range(9):
        book._pace._most = 16
        view, _ = await view_at(book, UNIT * 9 // 10, 0)
        causes |= {risk.position.borrower[-1]: risk.cause for risk in view.at_risk}
    book._pace._most = None
    view, _ = await view_at(book, UNIT * 9 // 10, 0)
    causes |= {risk.position.borrower[-1]: risk.cause for risk in view.at_risk}
    assert causes == dict.fromkeys(range(1, 65), Cause.PRICE)


async def test_weights_are_in_one_currency(monkeypatch: pytest.MonkeyPatch) -> None:
    """A market may hold loans of many tokens, whose units are worth a million million times another's."""
    monkeypatch.setattr("keeper.book.pace.LEAST", 8)
    ledger = ValuedLedger()
    book = Book("test", [ledger], [], TOKEN)
    book.stand_at(head(0))
    many = {number: 10**12 if number > 8 else 1 for number in range(1, 41)}
    ledger.weight = lambda who: many[who[-1]]
    classes = {number: int(number > 8) for number in many}
    plain = ledger.factors

    def factors(prices: Prices, when: NextBlock) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        held, owed = plain(prices, when)
        return np.full(2, held[0]), np.full(2, owed[1])

    def all_legs() -> Callable[[], LegArrays]:
        rows = np.arange(len(many))
        kinds = np.array([classes[number] for number in many], np.intp)
        sizes = np.array(list(many.values()), np.float64) * WAD
        names = [Address(number.to_bytes(20)) for number in many]
        ledger.dirty = set()
        return lambda: LegArrays(names, rows, kinds, 100 * sizes, rows, kinds, 90 * sizes)

    monkeypatch.setattr(ledger, "factors", factors)
    monkeypatch.setattr(ledger, "all_legs", all_legs)
    book.fold(head(1), [log(head(1), number, 90 * WAD) for number in many])
    book._pace._most = 11
    view, _ = await view_at(book, UNIT, 0)
    assert {risk.position.borrower[-1] for risk in view.at_risk} >= set(range(1, 9))


async def test_a_price_that_is_lost_costs_no_more_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keeper.book.market.UNREAD", 3)
    book, ledger = standing()
    book.fold(head(1), [log(head(1), number, 90 * WAD) for number in range(1, 9)])
    asked: list[int] = []
    exact = ledger.position

    def position(borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        asked.append(borrower[-1])
        return exact(borrower, prices, at)

    monkeypatch.setattr(ledger, "position", position)
    with capture_logs() as told:
        for _ in range(2):
            view, skips = await view_at(book, None, 0)
            assert view.at_risk == ()
            assert [skip.reason for skip in skips] == [Reason.NO_PRICE] * 3
    assert len(asked) == 6
    assert [(each["event"], each["not_judged"]) for each in told] == [("book.unpriced", 8)]
    view, skips = await view_at(book, UNIT, 0)
    assert (len(view.at_risk), skips) == (8, [])


@pytest.mark.parametrize("classes", [1, 2, 5])
async def test_a_class_that_only_the_ledger_knows_is_judged_whoever_has_no_price(
    monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    """Of a debt beyond the factors the screen knows nothing, with every price read."""
    monkeypatch.setattr("keeper.book.market.UNREAD", 0)
    book, ledger = standing()
    collateral, _ = ledger.factors(Prices("m", UNIT, {TOKEN.address: UNIT}), at(0))
    held = np.concatenate([collateral[:1], np.full(classes - 1, np.nan)])
    monkeypatch.setattr(ledger, "factors", lambda *_: (held, np.zeros(0)))
    book.fold(head(1), [log(head(1), number, 90 * WAD) for number in range(1, 9)])
    assert len((await view_at(book, UNIT, 0))[0].at_risk) == 8


async def test_who_owes_is_asked_anew_of_columns_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keeper.book.market.BLOCK", 4)
    monkeypatch.setattr("keeper.book.columns.BLOCK", 4)
    book, ledger = standing()
    book.fold(head(1), [log(head(1), number, 90 * WAD) for number in range(1, 13)])
    await view_at(book, UNIT, 0)
    market = book.markets["m"]
    looking = asyncio.create_task(market.owing(0.0, at(0)))
    await asyncio.sleep(0)
    ledger.debts = dict(reversed(ledger.debts.items()))
    await market.load()
    found = await looking
    assert found is not None
    assert sorted(found) == sorted(ledger.debts)


async def test_a_distribution_is_finished_though_columns_are_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book, _ = standing()
    book.fold(head(1), [log(head(1), number, 70 * WAD) for number in range(1, 13)])
    await view_at(book, UNIT, 0)
    market = book.markets["m"]
    found = await market.spread(at(0))
    made: list[asyncio.Task[None]] = []
    real = spread_of.measured

    def measured(weighed: spread_of.Weighed) -> list[int]:
        made.append(asyncio.create_task(market.close()))
        return real(weighed)

    monkeypatch.setattr("keeper.book.market.measured", measured)
    assert await market.spread(at(0)) == found
    await made[0]
    assert found is not None
    assert sum(found.positions)


async def test_the_loop_goes_on_while_many_are_judged() -> None:
    book, _ = standing()
    book.fold(head(1), [log(head(1), number, 90 * WAD) for number in range(1, 1_000)])
    await book.load()
    book.observe(book.reads(), answers(UNIT), head(1))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    seen = await book.view(at(0), 100)
    counting.cancel()
    assert seen is not None
    assert len(seen[0].at_risk) == 999
    assert turns >= 999 // 32


async def test_a_large_watch_is_looked_at_in_pieces_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book, ledger = standing()
    book.fold(head(1), [log(head(1), number, number * WAD) for number in range(1, 12)])
    await book.load()
    book.observe(book.reads(), answers(UNIT), head(1))
    who = [*ledger.debts, Address(bytes(20))]
    whole = await book.markets["m"].standing(who, at(0), lambda: True)
    monkeypatch.setattr("keeper.book.market.ACCOUNTS", 5)
    monkeypatch.setattr("keeper.book.market.INLINE_ACCOUNTS", 2)
    took: list[tuple[int, bool]] = []
    one = Columns.standing

    def told(columns: Columns, borrowers: Sequence[Address], *rest: NDArray[np.float64]) -> object:
        took.append((len(borrowers), threading.current_thread() is threading.main_thread()))
        return one(columns, borrowers, *rest)

    monkeypatch.setattr(Columns, "standing", told)
    found = await book.markets["m"].standing(who, at(0), lambda: True)
    assert took == [(5, False), (5, False), (2, True)]
    assert whole is not None
    assert found is not None
    assert [each.tolist() for each in found] == [each.tolist() for each in whole]
    # the head is old after the first piece
    took.clear()
    assert await book.markets["m"].standing(who, at(0), lambda: not took) is None
    assert len(took) == 1


async def test_a_market_loaded_anew_is_screened_anew() -> None:
    book, ledger = standing()
    book.fold(head(1), [log(head(1), 7, 90 * WAD)])
    assert len((await view_at(book, UNIT, 0))[0].at_risk) == 1
    ledger.debts = {Address((8).to_bytes(20, "big")): 95 * WAD}
    ledger.dirty = set()
    await book.load_market("m")
    view, _ = await view_at(book, UNIT, 0)
    assert [risk.position.borrower[-1] for risk in view.at_risk] == [8]


async def test_what_was_known_of_who_is_followed_outlives_a_load() -> None:
    """Debts weigh as before, so that none seems to have fallen; who changed meanwhile is told."""
    book, ledger = standing()
    who, other = (Address(n.to_bytes(20, "big")) for n in (7, 8))
    book.fold(head(1), [log(head(1), 7, 90 * WAD)])
    first = book.markets["m"]
    book.observe(book.reads(), answers(UNIT), head(1))
    before = await first.standing([who], at(0), lambda: True)
    first.follow({who, other})
    first.arrived()
    ledger.debts[other] = WAD
    ledger.dirty.add(other)
    await book.load_market("m")
    market = book.markets["m"]
    assert market is not first
    assert market.arrived() == {other}
    market.observe(answers(UNIT)[:1], answers(UNIT)[1:], head(1))
    after = await market.standing([who], at(50), lambda: True)
    assert before is not None
    assert after is not None
    assert after[1] == pytest.approx(1.5 * before[1])
    assert after[2] == before[2]
    book.fold(head(2), [log(head(2), 7, 91 * WAD)])
    await market.standing([who], at(0), lambda: True)
    assert market.arrived() == {who}


async def test_a_market_loaded_twice_at_once_is_screened_as_loaded_last() -> None:
    book, ledger = standing()
    ledger.debts = {Address((7).to_bytes(20, "big")): 90 * WAD}
    go_on, gather = threading.Event(), ledger.all_legs()

    def late() -> LegArrays:
        go_on.wait(5)
        return gather()

    def slow() -> Callable[[], LegArrays]:
        del ledger.all_legs  # only the first one is slow
        return late

    ledger.all_legs = slow  # type: ignore[method-assign]
    early = asyncio.create_task(book.load_market("m"))
    await asyncio.sleep(0)
    ledger.debts = {Address((8).to_bytes(20, "big")): 95 * WAD}
    await book.load_market("m")
    go_on.set()
    await early
    view, _ = await view_at(book, UNIT, 0)
    assert [risk.position.borrower[-1] for risk in view.at_risk] == [8]


async def test_replaced_columns_are_freed_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book, ledger = standing()
    await view_at(book, UNIT, 0)
    release, freed = Columns.release, list[tuple[int, bool]]()

    def released(columns: Columns) -> None:
        freed.append((len(columns), threading.current_thread() is threading.main_thread()))
        release(columns)
        assert len(columns) == 0

    monkeypatch.setattr(Columns, "release", released)
    old = book.markets["m"]
    held = len(ledger.debts)
    await book.load_market("m")
    assert freed == [(held, False)]
    assert await old.at_risk(at(0), lambda: True) is None
    assert await old.positions(at(0), 2.0, 10, lambda: True) is None
    monkeypatch.setattr("keeper.book.market.BULK", -1)
    await view_at(book, UNIT, 0)
    assert freed == [(held, False)] * 2


async def test_what_fails_because_the_book_went_on_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book, ledger = standing()
    book.fold(head(1), [log(head(1), 7, 90 * WAD)])
    await view_at(book, UNIT, 0)
    monkeypatch.setattr("keeper.book.market.INLINE_ROWS", -1)
    looking = asyncio.create_task(book.view(at(0), 100))
    await asyncio.sleep(0)
    book.abandon()
    monkeypatch.setattr(ledger, "factors", lambda *_: ())
    assert await looking is None
    assert not book.parts.faults
