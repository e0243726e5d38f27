"""The caller on a market made up: faults, reorgs, restarts, reminders and the day's digest."""

import asyncio
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from structlog.testing import capture_logs

from keeper.app.desk import Desk
from keeper.errors import ConfigError, TransientError
from keeper.journal.sqlite import SqliteJournal
from keeper.margin.caller import REFRESH, MarginCaller
from keeper.margin.levels import Habits, Ladder
from keeper.margin.outlook import KNOWN, Chances
from keeper.margin.roster import Entry, Roster
from keeper.margin.watch import Watch
from keeper.notify.dispatcher import Dispatcher
from keeper.notify.note import Note
from keeper.types import (
    CollateralLeg,
    DebtLeg,
    Head,
    Log,
    NextBlock,
    Position,
    Prices,
    Token,
    View,
    Watch as LogWatch,
)
from keeper.units import WAD, Address, Bps, Hash, Wad, Wei
from tests.unopened import unopened

WETH = Token(Address(b"\x01" * 20), "WETH", 18)
USDC = Token(Address(b"\x02" * 20), "USDC", 6)
POOL = Address(b"\x0f" * 20)
LADDER = Ladder(Wad(125 * 10**16), Wad(11 * 10**17), Wad(103 * 10**16))
A, B = Address(b"\xaa" * 20), Address(b"\xbb" * 20)


class Lender:
    """A market whose healths and debts a test sets; who is in `poison` cannot be computed."""

    market, protocol = "aave", "aave-v3"

    def __init__(self) -> None:
        self.names = {"a": A, "b": B}
        self.health: dict[Address, float] = {}
        self.debt: dict[Address, int] = {}
        self.poison: set[Address] = set()

    def position(self, who: Address, prices: Prices, at: NextBlock) -> Position:
        if who in self.poison:
            raise ZeroDivisionError
        debt = self.debt[who] * 10**8
        weighted = round(self.health[who] * debt)
        value = weighted * 10_000 // 8_000
        return Position(
            *("aave", "aave-v3", who),
            (CollateralLeg(WETH, value * 10**18 // prices.values[WETH.address], value, *TERMS),),
            (DebtLeg(USDC, self.debt[who] * 10**6, debt),) if debt else (),
            *(value, debt),
            Wad(round(self.health[who] * WAD)) if debt else Wad(2**256 - 1),
        )

    def tokens(self) -> dict[Address, Token]:
        return {WETH.address: WETH, USDC.address: USDC}

    def watch(self) -> LogWatch:
        return LogWatch(frozenset({POOL}), frozenset({b"t"}))

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        return POOL, debt

    def liquidation_logs(self) -> LogWatch:
        return LogWatch(frozenset({POOL}), frozenset({b"t"}))

    def liquidation(self, log: Log) -> Any:
        return Address(log.data), USDC.address, WETH.address, 10**9, 10**17, B


TERMS = Bps(8_000), Bps(10_500)


class World:
    """A book at a head, the chain's logs, and a webhook that keeps what it is given."""

    most = 100
    name = "desk"

    def __init__(
        self, home: Path, lender: Lender | None = None, sample: float = 300.0, **watch: Any
    ) -> None:
        self.now = 1_000.0
        self.lender = lender or Lender()
        self.is_busy = False
        self.stopped: set[str] = set()
        self.logs: list[Log] = []
        self.refuse_logs = False
        self.fault: Exception | None = None
        self.held_from = 0
        self.blocks_within = 0
        self.ranges: list[tuple[int, int]] = []
        self.notes: list[Note] = []
        self.prices = Prices("aave", 10**8, {WETH.address: 2_500 * 10**8, USDC.address: 10**8})
        clock: Any = SimpleNamespace(time=lambda: self.now)
        self.journal = SqliteJournal(home / "journal.sqlite", clock, 90, lambda _: None)
        self.journal.open()
        self.book: Any
        self.book = SimpleNamespace(head=None, markets={"aave": self.market()})
        self.dispatcher = Dispatcher([self], self.journal.outbox, clock, lambda *_: None)
        reader: Any = SimpleNamespace(logs=self._logs, head=self._header)
        fund = Watch("fund", ("desk",), LADDER, **({"addresses": frozenset({A, B})} | watch))
        self.shown: dict[tuple[str, str], int] = {}
        self.owed: dict[tuple[str, str], float] = {}
        self.caller = MarginCaller(
            "x",
            [fund],
            self.book,
            reader,
            self.journal.outbox,
            self.dispatcher,
            clock,
            self._gauge,
            sample_seconds=sample,
            digest=time(0, 30),
        )
        self.tasks: list[asyncio.Task[None]] = []

    def _gauge(self, watch: str, level: str, positions: int, debt_usd: float) -> None:
        self.shown[watch, level], self.owed[watch, level] = positions, debt_usd

    def market(self) -> Any:
        async def owing(least: float, _: Any, among: Any = None) -> list[Address]:
            debts = self.lender.debt
            accounts = [each for each in debts if debts[each] * 1e8 >= least]
            return [each for each in accounts if among is None or each[-20:] in among]

        async def standing(who: Sequence[Address], *_: Any) -> Any:
            if self.is_busy:
                return None
            health = [
                self.lender.health[each] if self.lender.debt[each] else np.inf for each in who
            ]
            debt = np.array([float(self.lender.debt[each]) for each in who])
            return np.array(health), debt * 1e8, debt

        return SimpleNamespace(
            protocol=self.lender,
            prices=self.prices,
            standing=standing,
            owing=owing,
            follow=lambda _: None,
            arrived=lambda: set(self.lender.debt),
        )

    async def _logs(self, watch: LogWatch, first: int, last: int) -> list[Log]:
        self.ranges.append((first, last))
        if self.blocks_within:
            # a block comes while the node answers
            self.blocks_within -= 1
            self.book.head = None
        if self.refuse_logs:
            raise TransientError("the node is away")
        if self.fault is not None:
            raise self.fault
        if first < self.held_from:
            raise ConfigError("the node does not hold the logs")
        return [log for log in self.logs if first <= log.block_number <= last]

    def fitting(self, notes: Sequence[Note]) -> int:
        return len(notes)

    async def send(self, notes: Sequence[Note]) -> None:
        self.notes += notes

    async def close(self) -> None:
        pass

    async def start(self) -> None:
        await self.dispatcher.open()
        await self.caller.open()
        works = (self.caller.run(), self.dispatcher.run())
        self.tasks = [asyncio.create_task(work) for work in works]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.dispatcher.close()
        self.journal.close()

    async def head(self, number: int, tail: int = 0, **of: tuple[float, int]) -> list[str]:
        """Let a head come with health and debt by borrower; return the levels told of it."""
        for name, (health, debt) in of.items():
            who = self.lender.names[name]
            self.lender.health[who], self.lender.debt[who] = health, debt
        before = len(self.notes)
        head = self.made(number, tail)
        self.book.head = head
        self.caller.done_at = -1
        prices = dict.fromkeys(self.book.markets.keys() - self.stopped, self.prices)
        view = View("x", head, head.next_block(12), (), prices, {}, WETH)
        self.caller.see(view)
        async with asyncio.timeout(10):
            while self.caller.done_at != number or self.dispatcher.waiting("desk"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        told = [note.data for note in self.notes[before:] if note.topic == "margin"]
        return [f"{data['borrower'][2:4].lower()} {data['level']}" for data in told]

    def made(self, number: int, tail: int = 0) -> Head:
        block = Hash(number.to_bytes(4, "big") + bytes([tail]) + bytes(27))
        return Head(number, block, Hash(bytes(32)), 12 * number, Wei(1), 1, 2)

    async def _header(self, number: int) -> Head:
        return self.made(number)

    def liquidate(self, who: Address, number: int, index: int = 0, tail: int = 0) -> None:
        tx = Hash(bytes([number, index, tail]) + bytes(29))
        self.logs.append(Log(POOL, (b"t",), who, number, Hash(bytes(32)), index, tx))


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    made = World(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_one_position_that_cannot_be_computed_harms_no_other(world: World) -> None:
    world.lender.poison = {A}
    assert await world.head(1, a=(1.05, 10), b=(1.05, 10)) == ["bb call"]
    world.lender.poison = set()
    assert await world.head(2) == ["aa call"]
    assert world.shown["fund", "call"] == 2


async def test_levels_do_not_wait_for_logs_that_cannot_be_read(world: World) -> None:
    assert await world.head(1, a=(0.99, 10), b=(1.5, 10)) == ["aa liquidatable"]
    world.refuse_logs = True
    world.liquidate(A, 2)
    assert await world.head(2, a=(1.2, 5), b=(1.05, 10)) == ["bb call"]
    world.refuse_logs = False
    assert await world.head(3) == ["aa liquidated"]
    assert await world.head(4) == []


@pytest.mark.parametrize("fault", [ConfigError("the node holds no logs"), KeyError("token")])
async def test_who_repays_gets_calls_though_logs_can_never_be_read(
    tmp_path: Path, fault: Exception
) -> None:
    world = World(tmp_path, habits=Habits(cooldown=0.0))
    await world.start()
    try:
        with capture_logs() as logs:
            told = await world.head(1, a=(1.19, 10), b=(1.2, 10))
            assert told == ["aa warning", "bb warning"]
            world.fault = fault
            world.liquidate(B, 2)
            assert await world.head(2, a=(1.05, 9), b=(1.9, 5)) == ["aa call"]
            assert await world.head(3, a=(1.02, 9)) == ["aa critical"]
            # what became of the other is looked for on and on
            world.fault = None
            assert await world.head(4) == ["bb liquidated"]
            world.fault = fault
            assert await world.head(5, a=(0.99, 8)) == ["aa liquidatable"]
        assert [each["event"] for each in logs] == ["margin.logs_unread"] * 2
    finally:
        await world.stop()


async def test_a_liquidation_waits_for_a_position_that_cannot_be_computed(world: World) -> None:
    await world.head(1, a=(0.99, 10), b=(1.5, 10))
    world.lender.poison = {A}
    world.liquidate(A, 2)
    assert await world.head(2, a=(1.2, 5), b=(1.05, 10)) == ["bb call"]
    world.lender.poison = set()
    assert await world.head(3) == ["aa liquidated"]


async def test_what_happened_while_nobody_ran_waits_for_the_first_logs_that_can_be_read(
    tmp_path: Path,
) -> None:
    before = World(tmp_path)
    await before.start()
    assert sorted(await before.head(1, a=(1.05, 10), b=(1.05, 10))) == ["aa call", "bb call"]
    await before.stop()
    after = World(tmp_path, habits=Habits(cooldown=0.0))
    after.liquidate(B, 3)
    after.refuse_logs = True
    await after.start()
    try:
        # "better" may be the liquidation itself; nobody's call waits for it
        assert await after.head(5, a=(1.02, 10), b=(9.0, 0)) == ["aa critical"]
        after.refuse_logs = False
        assert await after.head(6) == ["bb liquidated"]
        assert after.ranges[-1] == (2, 6)
        assert await after.head(7) == []
    finally:
        await after.stop()


async def test_what_is_found_and_cannot_be_told_yet_is_held_and_not_asked_for_again(
    tmp_path: Path,
) -> None:
    before = World(tmp_path)
    await before.start()
    await before.head(1, a=(0.99, 10), b=(1.5, 10))
    before.lender.poison = {A}
    before.liquidate(A, 2)
    await before.head(2, a=(1.2, 5))
    # while a reorg may still move it, the few blocks it may be in are asked for
    await before.head(17)
    assert before.ranges[-1] == (0, 17)
    asked = len(before.ranges)
    await before.head(18)
    await before.head(19)
    assert len(before.ranges) == asked
    # another's debt falls: few blocks are asked for
    assert await before.head(60, b=(1.4, 5)) == []
    assert before.ranges[-1] == (4, 60)
    await before.stop()
    after = World(tmp_path)
    after.logs = before.logs
    await after.start()
    try:
        assert await after.head(61, a=(1.2, 5), b=(1.4, 5)) == ["aa liquidated"]
        assert after.ranges == [(2, 61)]
        assert await after.head(62) == []
    finally:
        await after.stop()


async def test_a_held_liquidation_that_a_reorg_undoes_is_told_nobody(world: World) -> None:
    await world.head(1, a=(0.99, 10), b=(1.5, 10))
    world.lender.poison = {A}
    world.liquidate(A, 2)
    await world.head(2, a=(1.2, 5))
    world.logs.clear()
    world.lender.poison = set()
    assert await world.head(2, tail=1, a=(0.99, 10)) == []


async def test_after_a_long_time_off_a_day_is_looked_back_at(tmp_path: Path) -> None:
    before = World(tmp_path)
    await before.start()
    await before.head(1, a=(1.05, 10), b=(1.5, 10))
    await before.stop()
    after = World(tmp_path)
    await after.start()
    try:
        await after.head(20_000, a=(1.05, 10), b=(1.5, 0))
        assert after.ranges == [(20_000 - 86_400 // 12, 20_000)]
    finally:
        await after.stop()


async def test_logs_the_node_dropped_are_looked_at_as_far_as_it_holds_them(tmp_path: Path) -> None:
    before = World(tmp_path)
    await before.start()
    await before.head(1, a=(1.05, 10), b=(1.5, 10))
    await before.stop()
    after = World(tmp_path)
    after.liquidate(B, 90)
    after.held_from = 80
    await after.start()
    try:
        with capture_logs() as logs:
            told = await after.head(100, a=(1.02, 10), b=(1.5, 0))
        assert told == ["bb liquidated", "aa critical"]
        (said,) = [each for each in logs if each["event"] == "margin.logs_dropped"]
        assert 80 <= said["looked_from"] <= 90
        asked = len(after.ranges)
        assert await after.head(101) == []
        assert len(after.ranges) == asked
    finally:
        await after.stop()


async def test_a_look_back_that_outlasts_a_block_is_not_begun_again(tmp_path: Path) -> None:
    before = World(tmp_path)
    await before.start()
    await before.head(1, a=(1.05, 10), b=(1.5, 10))
    await before.stop()
    after = World(tmp_path)
    after.liquidate(B, 3)
    after.blocks_within = 5
    await after.start()
    try:
        assert await after.head(1_000, a=(1.02, 10), b=(1.5, 0)) == []
        assert await after.head(1_001) == ["bb liquidated", "aa critical"]
        assert after.ranges == [(2, 1_000)]
    finally:
        await after.stop()


async def test_one_market_that_fails_harms_no_other(world: World) -> None:
    broken: Any = SimpleNamespace(protocol=SimpleNamespace(protocol="aave-v3"))
    world.book.markets = {"broken": broken, **world.book.markets}
    with capture_logs() as logs:
        assert await world.head(1, a=(1.05, 10), b=(1.5, 10)) == ["aa call"]
        assert await world.head(2, a=(1.02, 10)) == ["aa critical"]
    assert [(e["event"], e["market"]) for e in logs] == [("margin.failed", "broken")] * 2


async def test_the_next_head_begins_with_the_markets_that_were_passed_over(world: World) -> None:
    market = world.book.markets["aave"]
    order: list[str] = []

    def beside(name: str) -> Any:
        async def standing(who: Sequence[Address], *at: Any) -> Any:
            order.append(name)
            if len(order) % 2:
                # a block comes while the first market is looked at
                world.book.head = None
            return await market.standing(who, *at)

        return SimpleNamespace(**{**vars(market), "standing": standing})

    world.book.markets = {name: beside(name) for name in ("one", "two", "three")}
    for number in range(1, 5):
        await world.head(number, a=(1.5, 10), b=(1.5, 10))
    assert set(order) == {"one", "two", "three"}


async def test_a_repay_is_no_liquidation(world: World) -> None:
    await world.head(1, a=(1.05, 10), b=(1.5, 10))
    assert world.ranges == []
    assert await world.head(2, a=(1.07, 9)) == []
    assert len(world.ranges) == 1


async def test_a_liquidation_is_told_once_though_a_reorg_moves_it(world: World) -> None:
    await world.head(1, a=(0.99, 10), b=(1.5, 10))
    world.liquidate(A, 2, tail=1)
    assert await world.head(2, a=(1.2, 5)) == ["aa liquidated"]
    # the block is undone, and so is what was told of it; another block takes it in again
    world.logs.clear()
    assert await world.head(2, tail=2, a=(0.99, 10)) == ["aa liquidatable"]
    world.liquidate(A, 2, tail=3)
    assert await world.head(3, a=(1.2, 5)) == ["aa liquidated"]
    assert await world.head(4, a=(1.2, 4)) == []
    assert len({note.key for note in world.notes}) == len(world.notes)


async def test_a_reorg_that_moves_logs_within_a_block_tells_nothing_again(world: World) -> None:
    await world.head(1, a=(0.99, 10), b=(1.5, 10))
    world.liquidate(A, 2, index=3)
    world.logs.append(world.logs[0]._replace(index=5))
    assert await world.head(2, a=(1.2, 5)) == ["aa liquidated"] * 2
    world.logs = [log._replace(index=log.index + 1) for log in world.logs]
    await world.head(2, tail=1)
    # another fall has the last blocks looked at once more
    assert await world.head(3, a=(1.2, 4)) == []


async def test_what_happened_while_nobody_ran_is_told_after_the_start(tmp_path: Path) -> None:
    before = World(tmp_path)
    await before.start()
    assert await before.head(1, a=(1.05, 10), b=(1.5, 10)) == ["aa call"]
    await before.stop()
    after = World(tmp_path)
    after.liquidate(B, 3)
    await after.start()
    try:
        assert await after.head(5, a=(1.05, 10), b=(1.5, 0)) == ["bb liquidated"]
        assert after.ranges == [(2, 5)]
        assert await after.head(6, a=(1.02, 10)) == ["aa critical"]
    finally:
        await after.stop()


async def test_what_nobody_acknowledged_is_told_once_more_to_the_pager_too(tmp_path: Path) -> None:
    world = World(tmp_path, habits=Habits(escalate=600.0), pagers=("desk",))
    await world.start()
    try:
        assert sorted(await world.head(1, a=(1.05, 10), b=(1.05, 10))) == ["aa call", "bb call"]
        assert await world.caller.acknowledge(A) == 1
        assert await world.caller.acknowledge(Address(b"\x09" * 20)) == 0
        world.now += 600
        assert await world.head(2) == ["bb call"]
        assert world.notes[-1].data["kind"] == "reminder"
        assert await world.head(3) == []
        listed, _ = await world.caller.listing(whole=False)
        assert {each["borrower"][2:4].lower(): each["acknowledged"] for each in listed} == {
            "aa": True,
            "bb": False,
        }
    finally:
        await world.stop()


async def test_a_list_is_bounded_and_its_worst_come_first(world: World) -> None:
    await world.head(1, a=(1.09, 10), b=(1.05, 10))
    listed, total = await world.caller.listing(whole=False, limit=1)
    assert [(each["borrower"][2:4].lower(), each["health"]) for each in listed] == [("bb", 1.05)]
    assert total == 2
    lines: Any = {"x": SimpleNamespace(margin=world.caller)}
    desk = Desk(["x"], lines, unopened())
    answer = orjson.loads(orjson.dumps(await desk.command({"command": "margin"})))
    assert [each["health"] for each in answer["positions"]] == [1.05, 1.09]
    assert "error" in await desk.command({"command": "margin", "limit": 0})


async def test_who_comes_back_to_a_list_is_told_of_everything_again(tmp_path: Path) -> None:
    habits = Habits(cooldown=0.0)
    world = World(tmp_path, addresses=None, above=5 * 10**8, habits=habits)
    await world.start()
    try:
        assert await world.head(1, a=(1.05, 10), b=(1.5, 10)) == ["aa call"]
        assert await world.head(2, a=(1.5, 10)) == ["aa safe"]
        world.now += REFRESH
        await world.head(3, a=(1.5, 1))
        world.now += REFRESH
        await world.head(4)
        assert (await world.caller.listing(whole=True))[1] == 1
        world.now += REFRESH
        assert await world.head(5, a=(1.05, 10)) == ["aa call"]
        keys = [note.key for note in world.notes if note.topic == "margin"]
        assert len(set(keys)) == len(keys) == 3
    finally:
        await world.stop()


@pytest.mark.parametrize("away", [0, 2])
async def test_who_is_liquidated_at_the_head_that_fills_the_list_anew_is_told(
    tmp_path: Path, away: int
) -> None:
    world = World(tmp_path, addresses=None, above=5 * 10**8)
    await world.start()
    try:
        assert await world.head(1, a=(1.3, 10), b=(1.5, 10)) == []
        world.liquidate(A, 2)
        world.refuse_logs = True
        for number in range(2, 2 + away):
            world.now += REFRESH
            assert await world.head(number, a=(1.6, 4)) == []
        world.refuse_logs = False
        world.now += REFRESH
        # what is left of the debt is too little to be watched
        assert await world.head(8, a=(1.6, 4)) == ["aa liquidated"]
        world.now += REFRESH
        assert await world.head(9) == []
        assert (await world.caller.listing(whole=True))[1] == 1
    finally:
        await world.stop()


async def test_what_was_known_is_listed_after_a_restart_as_of_then(tmp_path: Path) -> None:
    before = World(tmp_path)
    await before.start()
    assert await before.head(7, a=(1.05, 10), b=(1.5, 10)) == ["aa call"]
    await before.stop()
    after = World(tmp_path)
    await after.start()
    try:

        async def listed() -> list[tuple[Any, ...]]:
            found, _ = await after.caller.listing(whole=False)
            return [(e["level"], e["health"], e["debt_usd"], e["head"]) for e in found]

        assert await listed() == [("call", 1.05, 10.0, 7)]
        # the head is never looked at, the list is filled all the same, and the digest waits
        after.is_busy = True
        after.now = 86_400.0 + 1_900
        after.lender.health, after.lender.debt = {A: 1.04, B: 1.5}, {A: 20, B: 10}
        await after.head(9)
        assert await listed() == [("call", 1.05, 10.0, 7)]
        assert after.notes == []
        after.is_busy = False
        await after.head(10)
        assert await listed() == [("call", 1.04, 20.0, 10)]
        (daily,) = after.notes
        assert "20 USD" in daily.text
    finally:
        await after.stop()


class Blue(Lender):
    """Two markets under one name: an account is the number of one of them and the borrower."""

    protocol = "morpho-blue"

    def __init__(self) -> None:
        super().__init__()
        self.names = {
            f"{who}{number}": Address(bytes([number]) + address)
            for who, address in self.names.items()
            for number in (1, 2)
        }

    def position(self, who: Address, prices: Prices, at: NextBlock) -> Position:
        found = super().position(who, prices, at)
        return replace(found, market=self.place(who), borrower=Address(who[-20:]))

    def place(self, account: Address) -> str:
        return f"aave/{account[0]}"

    def account(self, position: Position) -> Address:
        return Address(bytes([int(position.market[5:])]) + position.borrower)

    def place_told(self, log: Log) -> str:
        return f"aave/{log.index}"

    def account_in(self, place: str, borrower: Address) -> Address | None:
        return Address(bytes([int(place[5:])]) + borrower)


async def test_positions_in_several_markets_under_one_name_are_told_apart(tmp_path: Path) -> None:
    world = World(tmp_path, Blue(), addresses=frozenset({A}))
    await world.start()
    try:
        told = await world.head(1, a1=(1.05, 10), a2=(1.5, 10), b1=(0.99, 10))
        assert told == ["aa call"]
        assert world.notes[-1].data["market"] == "aave/1"
        assert world.shown["fund", "safe"] == 1
        # a position that is new is watched at once
        world.lender.names["a3"] = Address(b"\x03" + A)
        assert await world.head(1, tail=1, a3=(1.05, 10)) == ["aa call"]
        assert world.notes[-1].data["market"] == "aave/3"
        # liquidated in the second market; the same borrower's other position is not
        world.liquidate(A, 2, index=2)
        assert await world.head(2, a2=(1.4, 5), a1=(1.02, 9)) == ["aa liquidated", "aa critical"]
        assert [note.data["market"] for note in world.notes[-2:]] == ["aave/2", "aave/1"]
    finally:
        await world.stop()
    after = World(tmp_path, Blue(), addresses=frozenset({A}))
    after.liquidate(A, 3, index=1)
    await after.start()
    try:
        # what ended while nobody ran is told, though nothing is owed in that market any more
        after.lender.names["a3"] = Address(b"\x03" + A)
        told = await after.head(5, a1=(9.0, 0), a2=(1.4, 5), a3=(1.05, 10))
        assert told == ["aa liquidated"]
        assert after.notes[-1].data["market"] == "aave/1"
        # nor is it forgotten when the list is filled anew at the head that ends it
        after.liquidate(A, 6, index=2)
        after.now += REFRESH
        assert await after.head(6, a2=(9.0, 0)) == ["aa liquidated"]
        assert after.notes[-1].data["market"] == "aave/2"
    finally:
        await after.stop()


class Quoted(Blue):
    """The same, where each market has an oracle of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.quotes = {"aave/1": 2_500 * 10**8, "aave/2": 10**8}

    def plain(self, position: Position, prices: Prices) -> tuple[Position, Prices]:
        quoted = {WETH.address: self.quotes[position.market], USDC.address: 10**8}
        return position, replace(prices, values=quoted)


async def test_each_market_under_a_name_has_chances_of_its_own(tmp_path: Path) -> None:
    lender, chances = Quoted(), Chances(0.05, 0.2, 0.5, 3_600.0)
    world = World(tmp_path, lender, 12.0, addresses=frozenset({A}), chances=chances)
    await world.start()
    try:
        await world.head(1, a1=(1.5, 10), a2=(1.5, 10))
        for number in range(2, KNOWN + 4):
            lender.quotes["aave/1"] = 2_500 * 10**8 + (-1) ** number * 5 * 10**8
            assert await world.head(number) == []
        assert await world.head(40, a1=(1.2, 10), a2=(1.2, 10)) == ["aa warning"] * 2
        chance = {note.data["market"]: note.data["chances"]["3600"] for note in world.notes}
        assert chance["aave/1"] > 0.0 == chance["aave/2"]
        levels = {note.data["market"]: int(note.data["levels"]["call"]) for note in world.notes}
        assert levels["aave/2"] == LADDER.call
    finally:
        await world.stop()


async def test_a_position_that_cannot_be_computed_leaves_others_their_chances(
    tmp_path: Path,
) -> None:
    lender, chances = Quoted(), Chances(0.05, 0.2, 0.5, 3_600.0)
    world = World(tmp_path, lender, 12.0, chances=chances)
    lender.poison = {lender.names["a1"]}
    await world.start()
    try:
        await world.head(1, a1=(1.5, 10), b1=(1.5, 10))
        for number in range(2, KNOWN + 4):
            lender.quotes["aave/1"] = 2_500 * 10**8 + (-1) ** number * 5 * 10**8
            assert await world.head(number) == []
        assert await world.head(40, b1=(1.2, 10)) == ["bb warning"]
        assert world.notes[-1].data["chances"]["3600"] > 0.0
    finally:
        await world.stop()


class Closed(Quoted):
    """The same, where a position without debt is none."""

    def position(self, who: Address, prices: Prices, at: NextBlock) -> Any:
        return super().position(who, prices, at) if self.debt[who] else None


async def test_a_position_that_is_closed_leaves_others_their_chances(tmp_path: Path) -> None:
    lender, chances = Closed(), Chances(0.05, 0.2, 0.5, 3_600.0)
    world = World(tmp_path, lender, 12.0, above=1.0, addresses=None, chances=chances)
    await world.start()
    try:
        # the first of the list is told of a level, and kept when nothing is owed any more
        await world.head(1, a1=(1.2, 10), b1=(1.5, 10))
        await world.head(2, a1=(9.0, 0))
        for number in range(3, KNOWN + 6):
            lender.quotes["aave/1"] = 2_500 * 10**8 + (-1) ** number * 5 * 10**8
            await world.head(number)
        assert await world.head(40, b1=(1.2, 10)) == ["bb warning"]
        assert world.notes[-1].data["chances"]["3600"] > 0.0
    finally:
        await world.stop()


async def test_history_is_restored_though_a_message_asked_for_chances_before(
    tmp_path: Path,
) -> None:
    lender, chances = Closed(), Chances(0.05, 0.2, 0.5, 3_600.0)
    before = World(tmp_path, lender, 12.0, addresses=frozenset({A}), chances=chances)
    await before.start()
    for number in range(1, KNOWN + 4):
        lender.quotes["aave/1"] = 2_500 * 10**8 + (-1) ** number * 5 * 10**8
        await before.head(number, a1=(1.2, 10))
    await before.stop()
    after = World(tmp_path, lender, 12.0, addresses=frozenset({A}), chances=chances)
    after.liquidate(A, KNOWN + 4, index=1)
    await after.start()
    try:
        # nothing shows the market's prices, and its only position is told of
        assert await after.head(KNOWN + 5, a1=(9.0, 0)) == ["aa liquidated"]
        assert await after.head(KNOWN + 6, a1=(1.05, 10)) == ["aa call"]
        assert after.notes[-1].data["chances"]["3600"] > 0.0
    finally:
        await after.stop()


async def test_levels_begin_where_the_chances_say_right_after_a_restart(tmp_path: Path) -> None:
    chances = Chances(0.05, 0.2, 0.5, 3_600.0)
    before = World(tmp_path, sample=12.0, chances=chances)
    await before.start()
    await before.head(1, a=(1.5, 10), b=(1.5, 10))
    for number in range(2, KNOWN + 4):
        # a sample without any price is none
        values = {WETH.address: (2_500 + (-1) ** number * 10) * 10**8, USDC.address: 10**8}
        before.prices = replace(before.prices, values=values if number != 20 else {})
        before.book.markets = {"aave": before.market()}
        await before.head(number)
    await before.stop()
    after = World(tmp_path, sample=12.0, chances=chances)
    await after.start()
    try:
        # no sample is due yet
        assert await after.head(KNOWN + 3, a=(1.28, 10), b=(1.5, 10)) == ["aa warning"]
        assert int(after.notes[-1].data["levels"]["warning"]) > 128 * 10**16
    finally:
        await after.stop()


class Troves(Lender):
    """A market in which a position that is closed is none."""

    protocol = "liquity-v1"

    def position(self, who: Address, prices: Prices, at: NextBlock) -> Any:
        return super().position(who, prices, at) if self.debt[who] else None


async def test_a_trove_that_is_gone_is_told_once(tmp_path: Path) -> None:
    world = World(tmp_path, Troves(), habits=Habits(cooldown=0.0))
    await world.start()
    try:
        assert len(await world.head(1, a=(1.05, 10), b=(1.05, 10))) == 2
        world.liquidate(A, 2)
        assert await world.head(2, a=(9.0, 0), b=(9.0, 0)) == ["aa liquidated", "bb safe"]
        assert "It owes nothing any more." in world.notes[-1].text
        assert await world.head(3) == []
    finally:
        await world.stop()


async def test_the_loop_goes_on_while_a_list_is_filled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled: list[bool] = []
    one = Roster.filled

    def told(roster: Roster, entries: Iterable[Entry]) -> Roster:
        filled.append(threading.current_thread() is threading.main_thread())
        return one(roster, entries)

    monkeypatch.setattr(Roster, "filled", told)
    await world.head(1, a=(1.05, 10), b=(1.5, 10))
    assert filled == [False]


async def test_the_digest_comes_once_a_day(world: World) -> None:
    await world.head(1, a=(1.05, 10), b=(1.5, 10))
    world.now = 86_400.0 + 1_900
    assert await world.head(2) == []
    (daily,) = [note for note in world.notes if note.topic == "digest"]
    assert daily.title == "1970-01-02, watch fund on x: 1 of 2 positions not safe"
    assert await world.head(3) == []


async def test_the_digest_waits_for_no_market_that_fails_and_names_it(world: World) -> None:
    protocol = SimpleNamespace(protocol="aave-v3")
    broken: Any = SimpleNamespace(protocol=protocol, prices=world.prices)
    world.book.markets = {"broken": broken, **world.book.markets}
    world.now = 86_400.0 + 1_900
    with capture_logs():
        await world.head(1, a=(1.05, 10), b=(1.5, 10))
        await world.head(2)
    (daily,) = [note for note in world.notes if note.topic == "digest"]
    assert daily.text.splitlines()[1] == "Could not be looked at: broken."
    assert daily.data["failed"] == ["broken"]


async def test_who_owes_in_a_stopped_market_is_counted_as_last_seen(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.start()
    try:
        assert await world.head(1, a=(1.02, 10), b=(1.5, 30)) == ["aa critical"]
        counted = world.shown, world.owed
        assert (world.shown["fund", "critical"], world.owed["fund", "critical"]) == (1, 10.0)
        world.stopped, world.shown, world.owed = {"aave"}, {}, {}
        # what was read before it stopped is old, and its unit with it, when it goes on
        world.book.markets["aave"].prices = Prices("aave", 1, {})
        world.now = 86_400.0 + 1_900
        await world.head(2)
        assert (world.shown, world.owed) == counted
        (daily,) = [note for note in world.notes if note.topic == "digest"]
        assert daily.title == "1970-01-02, watch fund on x: 1 of 2 positions not safe"
        assert daily.text.splitlines()[1] == "Could not be looked at: aave."
        assert daily.data["debt_usd"] == 40.0
        assert daily.data["positions"][0]["debt_usd"] == 10.0
    finally:
        await world.stop()
    again = World(tmp_path)
    again.stopped, again.now = {"aave"}, 2 * 86_400.0 + 1_900
    await again.start()
    try:
        await again.head(3)
        assert (again.shown["fund", "critical"], again.owed["fund", "critical"]) == (1, 10.0)
        (daily,) = again.notes
        # of who was safe then, nobody wrote down what he owed
        assert daily.title == "1970-01-03, watch fund on x: 1 of 1 positions not safe"
        assert daily.data["failed"] == ["aave"]
    finally:
        await again.stop()


@pytest.mark.parametrize("gone", ["market", "cover"])
async def test_who_stands_in_a_market_that_no_watch_covers_any_more_is_forgotten(
    tmp_path: Path, gone: str
) -> None:
    before = World(tmp_path, Blue())
    await before.start()
    assert await before.head(1, a1=(1.02, 10), b2=(1.5, 10)) == ["aa critical"]
    await before.stop()
    after = World(tmp_path, Blue(), markets=None if gone == "market" else frozenset({"b"}))
    after.book.markets["b"] = after.book.markets.pop("aave")
    if gone == "cover":
        after.book.markets["aave"] = after.market()
    await after.start()
    try:
        assert await after.caller.listing(whole=True) == ([], 0)
        assert await after.journal.outbox.standings("x") == []
    finally:
        await after.stop()


async def test_the_digest_comes_though_no_head_lasts_for_all_markets(world: World) -> None:
    market = world.book.markets["aave"]

    async def standing(who: Sequence[Address], *at: Any) -> Any:
        found = await market.standing(who, *at)
        # a block comes while each market is looked at
        world.book.head = None
        return found

    slow = SimpleNamespace(**{**vars(market), "standing": standing})
    world.book.markets = {"one": slow, "two": slow, "three": slow}
    world.now = 86_400.0 + 1_900
    told = []
    for number in range(1, 6):
        await world.head(number, a=(1.5, 10), b=(1.5, 10))
        told.append(sum(note.topic == "digest" for note in world.notes))
    assert told == [0, 0, 1, 1, 1]
    # 2 positions in each of 3 markets, and none is missing
    assert world.notes[-1].data["watched"] == 6
    assert world.notes[-1].data["failed"] == []
