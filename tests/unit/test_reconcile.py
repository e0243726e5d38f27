"""Whose liquidations they were and why not ours, after downtime, in a hurry and over reorgs."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.chain.jsonrpc import LimitedError
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.journal.liquidations import LiquidationRow
from keeper.metrics import CATCHING_UP, LATE, NOT_RUNNING, STOPPED, UNSEEN
from keeper.reconcile import READS, VERIFIED_BLOCKS, Reconciler
from keeper.types import Head, Log, Reason, Skip, Watch
from keeper.units import Address, Hash, to_hex
from tests.fake_node import FakeClock
from tests.plans import USDC, WETH, Plans, address, block_hash, make_head, make_view

RIVAL, WHO, POOL = address("rival"), address("one"), address("pool")


class Market:
    """Tells of a liquidation in each log; its topic is the borrower."""

    protocol = "aave-v3"

    def liquidation(self, log: Log) -> tuple[Address, Address, Address, int, int, Address]:
        return Address(log.topics[0]), USDC.address, WETH.address, 10**6, 10**15, RIVAL

    def liquidation_logs(self) -> Watch:
        return Watch(frozenset({POOL}), frozenset({bytes(32)}))

    def tokens(self) -> dict[Address, Any]:
        return {USDC.address: USDC, WETH.address: WETH}


class Node:
    """Answers for receipts, each a turn of the loop later; `most` were asked for at once."""

    def __init__(self) -> None:
        self.blocks: dict[str, Hash] = {}
        self.chain: dict[int, Hash] = {}
        self.open = self.most = 0
        self.faults: list[TransientError | None] = []
        self.left_out: dict[str, str] = {}

    async def request(self, method: str, params: Sequence[object]) -> Any:
        if method == "eth_getBlockByNumber":
            found = self.chain.get(int(str(params[0]), 16))
            return None if found is None else {"hash": to_hex(found)}
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        if self.faults:
            fault = self.faults.pop(0)
            if fault is not None:
                raise fault
            return None
        whole = {
            "from": to_hex(RIVAL),
            "to": to_hex(RIVAL),
            "gasUsed": "0x1",
            "effectiveGasPrice": "0x1",
            "transactionIndex": "0x0",
            "blockHash": to_hex(self.blocks[str(params[0])]),
        }
        left_out = self.left_out.get(str(params[0]))
        return {name: each for name, each in whole.items() if name != left_out}


class Kept:
    """Holds rows as the journal does."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], LiquidationRow] = {}

    async def add(self, rows: Sequence[LiquidationRow]) -> list[LiquidationRow]:
        new = [row for row in rows if (row.block_hash, row.log_index) not in self.rows]
        for row in rows:
            key = row.block_hash, row.log_index
            self.rows[key] = replace(self.rows.get(key, row), state=row.state)
        return new

    async def orphan(self, chain: str, block: Hash) -> None:
        for key, row in self.rows.items():
            if row.block_hash == to_hex(block):
                self.rows[key] = replace(row, state="orphaned")

    async def recent(self, chain: str, blocks: int) -> list[tuple[int, Hash]]:
        found = [row for row in self.rows.values() if row.state == "included"]
        return [(row.block_number, Hash(bytes.fromhex(row.block_hash[2:]))) for row in found][
            -blocks:
        ]


class Desk:
    """A reconciler with everything around it."""

    def __init__(self) -> None:
        self.node, self.kept = Node(), Kept()
        self.missed: list[str] = []
        self.stopped: dict[str, str] = {}
        self.clock = FakeClock()
        self.slept: list[float] = []
        markets: Any = {"aave-v3": Market()}
        rest: Any = self.node, self.kept, self.clock, self.miss, lambda: self.stopped, self.sleep
        self.reconciler = Reconciler("test", markets, None, {}, *rest)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.now += seconds
        await asyncio.sleep(0)

    async def rest(self) -> None:
        """Let everything go on until it is done, as long as nobody asks for an end."""
        while work := self.reconciler._work:
            await asyncio.gather(*work)

    def miss(self, _protocol: str, reason: str, _winner: str) -> None:
        self.missed.append(reason)

    def fold(self, number: int, *borrowers: Address, fork: str = "") -> Head:
        head = make_head(number, fork)
        logs = []
        for index, who in enumerate(borrowers):
            tx = Hash(block_hash(number * 1_000 + index, fork))
            self.node.blocks[to_hex(tx)] = head.hash
            fields: Any = {"address": RIVAL, "topics": (bytes(who),), "index": index}
            logs.append(SimpleNamespace(**fields, tx_hash=tx))
        told: Any = logs
        self.node.chain[number] = head.hash
        self.reconciler.folded(head, told)
        return head

    def decide(self, number: int, *skips: Skip, sent: Sequence[Any] = ()) -> None:
        self.reconciler.observe(Report(make_view(make_head(number), ()), skips=skips, sent=sent))

    async def told(self) -> dict[int, tuple[str, str, str]]:
        """Return reason, detail and state by block."""
        await self.reconciler.close()
        return {r.block_number: (r.reason, r.detail, r.state) for r in self.kept.rows.values()}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def dust(who: Address = WHO) -> Skip:
    return Skip("aave-v3", "aave-v3", who, Reason.DUST, "too small")


async def test_what_happened_before_the_first_decision_is_no_oversight(desk: Desk) -> None:
    for number in (101, 104):
        desk.fold(number, WHO)
    desk.decide(104)
    assert await desk.told() == {
        101: (NOT_RUNNING, "3 heads before the first decision since the start", "included"),
        104: (NOT_RUNNING, "0 heads before the first decision since the start", "included"),
    }
    desk.fold(105, WHO)
    desk.decide(105)
    assert (await desk.told())[105] == (UNSEEN, "", "included")
    assert desk.missed == [NOT_RUNNING, NOT_RUNNING, UNSEEN]


async def test_heads_nobody_decided_on_are_counted(desk: Desk) -> None:
    desk.decide(100)
    for number in (101, 102, 140):
        desk.fold(number, WHO)
    desk.decide(140)
    assert await desk.told() == {
        101: (UNSEEN, "", "included"),
        102: (CATCHING_UP, "1 heads passed since the last decision", "included"),
        140: (CATCHING_UP, "39 heads passed since the last decision", "included"),
    }


async def test_a_refusal_holds_for_some_heads_and_is_history_after(desk: Desk) -> None:
    desk.decide(100, dust())
    for number in (101, 106, 107):
        desk.fold(number, WHO)
    desk.decide(107)
    assert await desk.told() == {
        101: ("dust", "too small", "included"),
        106: ("dust", "too small", "included"),
        107: (CATCHING_UP, "6 heads passed since the last decision, which was dust", "included"),
    }


async def test_a_block_that_comes_before_the_report_of_its_parent_waits_for_it(desk: Desk) -> None:
    desk.decide(100)
    desk.fold(101)
    desk.fold(102, WHO)
    plan = Plans().make(WHO)
    desk.decide(101, sent=[plan])
    assert await desk.told() == {}
    desk.decide(102)
    assert (await desk.told())[102][:2] == (LATE, plan.id)


async def test_a_long_gap_asks_for_few_receipts_at_once(desk: Desk) -> None:
    desk.decide(100)
    for number in range(101, 141):
        desk.fold(number, address("one"), address("two"))
        desk.decide(number)
    assert len(await desk.told()) == 40
    assert len(desk.kept.rows) == 80
    assert desk.node.most == READS


async def test_a_block_that_a_reorg_takes_and_gives_back_is_included_again(desk: Desk) -> None:
    desk.decide(100)
    first = desk.fold(101, WHO)
    desk.decide(101)
    assert (await desk.told())[101] == (UNSEEN, "", "included")
    desk.reconciler.undone(first)
    other = desk.fold(101, fork="b")
    assert (await desk.told())[101] == (UNSEEN, "", "orphaned")
    desk.reconciler.undone(other)
    desk.fold(101, WHO)
    desk.decide(101)
    assert (await desk.told())[101][2] == "included"


async def test_a_receipt_is_asked_for_as_long_as_an_endpoint_wants_to_rest(desk: Desk) -> None:
    desk.decide(100)
    slow = LimitedError("slow down", 30.0)
    desk.node.faults += [slow, slow, slow, None, TransientError("away")]
    desk.fold(101, WHO)
    desk.decide(101)
    await desk.rest()
    assert await desk.told() == {101: (UNSEEN, "", "included")}
    assert desk.slept[:3] == [30.0] * 3


async def test_a_receipt_that_never_comes_is_given_up_and_holds_up_no_other(desk: Desk) -> None:
    desk.decide(100)
    desk.fold(101, WHO)
    desk.node.faults = [None] * 1_000
    desk.decide(101)
    await asyncio.sleep(0)
    with capture_logs() as logs:
        await desk.rest()
    assert [each["event"] for each in logs] == ["liquidation.no_receipt"]
    assert 180.0 < sum(desk.slept) < 240.0
    # whoever ends it does not wait so long
    desk.slept.clear()
    desk.fold(102, WHO)
    desk.decide(102)
    assert await desk.told() == {}
    assert len(desk.slept) <= 1
    desk.node.faults.clear()
    desk.fold(103, WHO)
    desk.decide(103)
    assert (await desk.told()).keys() == {103}


@pytest.mark.parametrize("left_out", ["effectiveGasPrice", "transactionIndex", "blockHash"])
async def test_a_receipt_with_something_left_out_costs_no_other_row(
    desk: Desk, left_out: str
) -> None:
    desk.decide(100)
    desk.fold(101, WHO, address("two"))
    desk.node.left_out = {min(desk.node.blocks): left_out}
    desk.decide(101)
    with capture_logs() as logs:
        await desk.told()
    assert [each["event"] for each in logs] == ["liquidation.not_recorded"]
    assert [row.hash for row in desk.kept.rows.values()] == [max(desk.node.blocks)]


async def test_a_stopped_market_is_still_heard_and_is_the_reason(desk: Desk) -> None:
    nothing = Watch(frozenset(), frozenset())
    assert desk.reconciler.widened(nothing) is nothing
    desk.decide(100, dust(address("two")))
    desk.stopped = {"market/aave-v3": "an unknown log", "venue/x": "gone"}
    assert desk.reconciler.widened(nothing) == Market().liquidation_logs()
    desk.fold(101, WHO, address("two"))
    desk.decide(101)
    desk.fold(110, WHO)
    desk.decide(110)
    await desk.told()
    assert [(row.block_number, row.reason, row.detail) for row in desk.kept.rows.values()] == [
        (101, STOPPED, "an unknown log"),
        (101, "dust", "too small"),
        (110, STOPPED, "an unknown log"),
    ]


async def test_a_block_folded_again_after_a_deep_reorg_is_missed_once(desk: Desk) -> None:
    desk.decide(100)
    for _ in range(2):
        desk.fold(101, WHO)
        desk.decide(101)
        await desk.told()
    assert desk.missed == [UNSEEN]


async def test_all_that_a_deep_reorg_undid_is_found(desk: Desk) -> None:
    desk.decide(100)
    count = VERIFIED_BLOCKS + 10
    for number in range(101, 101 + count):
        desk.fold(number, WHO)
    desk.decide(100 + count)
    await desk.told()
    for number in desk.node.chain:
        desk.node.chain[number] = block_hash(number, "other")
    desk.reconciler.verify()
    assert [each[2] for each in (await desk.told()).values()] == ["orphaned"] * count


async def test_blocks_reorganised_away_while_nobody_ran_are_found_at_the_start(desk: Desk) -> None:
    desk.decide(100)
    desk.fold(101, WHO)
    desk.fold(102, WHO)
    desk.decide(102)
    await desk.told()
    desk.node.chain[102] = block_hash(102, "other")
    desk.reconciler.verify()
    assert {number: each[2] for number, each in (await desk.told()).items()} == {
        101: "included",
        102: "orphaned",
    }
