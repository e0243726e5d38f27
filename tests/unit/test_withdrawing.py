"""`keeper stop --cancel`: everything in flight is cancelled, or is told to be left."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from keeper.app.desk import Desk
from keeper.app.ending import Ending
from keeper.errors import TransientError
from keeper.execution.executor import Executor
from keeper.execution.pursuit import Policy
from keeper.execution.recheck import Gone
from keeper.types import (
    Cancelled,
    Dropped,
    Included,
    Reason,
    Receipt,
    Replaced,
    Reverted,
    Signed,
    Skip,
)
from keeper.units import Hash, Usd, Wei
from tests.fake_node import FakeClock, fields_of, no_answer
from tests.plans import GWEI, address
from tests.unit.test_execution_private import Bench as PrivateBench
from tests.unit.test_execution_replacing import Bench
from tests.unopened import unopened

ROOM = Policy(replace_after=3, final_depth=3, max_fee=Wei(200 * GWEI))


@pytest.fixture
def bench() -> Bench:
    """Return a node in memory with much room for fees."""
    return Bench(policy=ROOM)


async def withdraw(
    executor: Executor, seconds: float = 3, block: Callable[[], object] = lambda: None
) -> list[Receipt]:
    """Withdraw on a set clock; `block` is called between two looks at the chain."""
    clock = cast("FakeClock", executor._clock)

    async def sleep(seconds: float) -> None:
        clock.now += seconds
        block()

    executor._sleep = sleep
    return await executor.withdraw(seconds)


def body(raw: bytes) -> tuple[int, bytes, bool]:
    """Return nonce, data, and whether it goes to its own sender."""
    fields = fields_of(raw)
    return fields["nonce"], bytes(fields["data"]), fields["gas"] <= 150_000


async def test_each_nonce_is_used_by_a_transaction_that_does_nothing(bench: Bench) -> None:
    executor = await bench.start()
    for name in ("one", "two"):
        await executor.send([bench.late(address(name))])
    receipts = await withdraw(executor, block=bench.node.mine)
    assert [type(receipt) for receipt in receipts] == [Cancelled, Cancelled]
    first, second, *cancels = bench.node.sent
    assert [body(raw) for raw in cancels] == [(0, b"", True), (1, b"", True)]
    for before, after in zip((first, second), cancels, strict=True):
        for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
            assert fields_of(after)[fee] * 100 >= fields_of(before)[fee] * 110
    assert executor.undecided == []
    assert not bench.journal.open
    assert bench.lost == [], "no rival was there first"
    assert Ending.of(receipts, executor.undecided).text == "2 cancelled, 0 included, 0 left"


async def test_what_is_included_all_the_same_counts_as_included(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    bench.node.mine()
    receipts = await withdraw(executor)
    assert [type(receipt) for receipt in receipts] == [Included]
    assert len(bench.node.sent) == 1, "nothing is left to cancel"


async def test_a_cancel_never_passes_the_cap_and_what_is_left_is_told(bench: Bench) -> None:
    bench.policy = Policy(max_fee=Wei(1))
    executor = await bench.start()
    await executor.send([bench.late()])
    assert await withdraw(executor) == []
    assert len(bench.node.sent) == 1
    ending = Ending.of([], executor.undecided)
    (left,) = ending.left
    assert (left.nonce, left.reason) == (0, "a cancel would pass the maximum fee")
    assert ending.text.startswith("0 cancelled, 0 included, 1 left; 0x")
    assert len(bench.journal.open) == 1, "the next start takes it up"


async def test_a_cancel_that_waits_is_raised_once_a_head_and_no_further(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])

    def full_block() -> None:
        pool, bench.node.pool = bench.node.pool, {}
        bench.node.mine()
        bench.node.pool = pool

    assert await withdraw(executor, 1, full_block) == []
    assert [body(raw)[2] for raw in bench.node.sent] == [False, True, True, True]
    executor = await bench.start()
    receipts = await withdraw(executor, block=bench.node.mine)
    assert [type(receipt) for receipt in receipts] == [Cancelled]
    assert bench.node.mined == 1


async def test_a_cancel_is_not_made_dearer_where_paying_more_gains_no_place(bench: Bench) -> None:
    bench.policy = replace(ROOM, replacement=False)
    executor = await bench.start()
    await executor.send([bench.late()])

    def others_blocks() -> None:
        pool, bench.node.pool = bench.node.pool, {}
        bench.node.mine()
        bench.node.pool = pool

    assert await withdraw(executor, 10, others_blocks) == []
    assert len(set(bench.node.sent)) == 2, "one cancel, again and again"


async def test_a_thrown_switch_does_not_hold_cancels_back(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    bench.admission.refusal = lambda plan: Skip(
        "aave", "aave-v3", plan.quotes[0].opportunity.position.borrower, Reason.BREAKER, "paused"
    )
    (receipt,) = await withdraw(executor, block=bench.node.mine)
    assert isinstance(receipt, Cancelled)


async def test_a_send_without_an_answer_is_cancelled_too(bench: Bench) -> None:
    executor = await bench.start()
    bench.node.refuse = no_answer
    await executor.send([bench.late()])
    bench.node.refuse = None
    bench.node.pool.clear()
    (receipt,) = await withdraw(executor, block=bench.node.mine)
    assert isinstance(receipt, Cancelled)
    assert not bench.journal.open


async def test_an_end_that_was_being_written_down_is_told_of_all_the_same(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    head, writing, record = bench.node.mine(), asyncio.Event(), bench.journal.settled

    async def slow(*receipts: Receipt) -> None:
        writing.set()
        await asyncio.sleep(0.01)
        await record(*receipts)

    bench.journal.settled = slow  # type: ignore[method-assign]
    following = asyncio.create_task(executor.follow(head))
    await writing.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    receipts = await withdraw(executor)
    assert [type(receipt) for receipt in receipts] == [Included]
    assert [type(receipt) for receipt in bench.admission.settled] == [Included]
    assert not bench.journal.open


async def test_a_cancel_that_was_being_written_down_is_dropped_by_nobody(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 12)])
    pool, bench.node.pool = bench.node.pool, {}
    head = [bench.node.mine() for _ in range(3)][-1]
    bench.node.pool = pool
    written, record = asyncio.Event(), bench.journal.signed

    async def slow(signed: Signed) -> None:
        await record(signed)
        written.set()
        await asyncio.sleep(0.01)

    bench.journal.signed = slow  # type: ignore[method-assign]
    following = asyncio.create_task(executor.follow(head))
    await written.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    receipts = await withdraw(executor, block=bench.node.mine)
    assert [type(receipt) for receipt in receipts] == [Cancelled]


async def test_a_send_broken_off_before_its_hand_over_is_never_made(bench: Bench) -> None:
    executor = await bench.start()
    written, record = asyncio.Event(), bench.journal.signed

    async def slow(signed: Signed) -> None:
        await record(signed)
        written.set()
        await asyncio.Event().wait()

    bench.journal.signed = slow  # type: ignore[method-assign]
    sending = asyncio.ensure_future(executor.send([bench.late()]))
    await written.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert len(bench.journal.open) == 1
    (receipt,) = await withdraw(executor)
    assert isinstance(receipt, Dropped)
    assert receipt.reason == "never handed over"
    assert not bench.journal.open
    assert bench.node.sent == []


async def test_a_private_one_is_taken_back_from_its_relays_and_cancelled_in_public() -> None:
    bench = PrivateBench()
    executor = await bench.start()
    await executor.send([bench.tipped()])
    assert bench.node.sent == []
    (receipt,) = await withdraw(executor, block=bench.node.mine)
    assert isinstance(receipt, Cancelled)
    assert len(bench.relay.cancelled) == 1
    assert [body(raw) for raw in bench.node.sent] == [(0, b"", True)], "no path shows the plan"


async def test_a_nonce_that_was_given_up_is_taken_back_too(bench: Bench) -> None:
    executor = await bench.start()
    bench.node.refuse = no_answer
    for name in ("one", "two"):
        await executor.send([bench.late(address(name))])
    bench.node.refuse, given_up = None, 0
    for flight in executor.undecided:
        flight.abandoned = flight.signed.nonce == given_up
        executor._lanes.of(flight.signed.sender).nonces.give_back(given_up)  # type: ignore[union-attr]
    bench.node.pool.clear()
    receipts = await withdraw(executor, block=bench.node.mine)
    assert [type(receipt) for receipt in receipts] == [Cancelled, Cancelled]
    assert [body(raw)[::2] for raw in bench.node.sent[2:]] == [(0, True), (1, True)]
    assert executor.undecided == []


async def test_of_several_on_one_nonce_the_dearest_is_outbid() -> None:
    bench = PrivateBench(public_after=0)
    executor = await bench.start()
    bench.found = lambda _: Gone("repaid by another")
    for number in range(3):
        plan = bench.plans.make(head=bench.node.head, deadline=2_000_000_000)
        bid = replace(plan.bid, max_fee=Wei((5 - number) * GWEI))
        await executor.send([replace(plan, bid=bid)])
        await bench.wait(executor, 3)
    assert [flight.abandoned for flight in executor.undecided] == [True] * 3
    receipts = await withdraw(executor, block=bench.node.mine)
    assert sorted(type(each).__name__ for each in receipts) == ["Cancelled", "Replaced", "Replaced"]
    (cancel,) = {fields_of(raw)["maxFeePerGas"] for raw in bench.node.sent}
    assert cancel * 100 >= 5 * GWEI * 110
    assert executor.undecided == []


async def test_a_dry_keeper_signs_nothing(bench: Bench) -> None:
    await (await bench.start()).send([bench.late()])
    executor = await bench.start()
    executor._live, executor._tracker._pursuit = False, None
    assert await withdraw(executor) == []
    assert len(bench.node.sent) == 1
    assert len(executor.undecided) == 1


def ending(*left: str) -> Ending:
    """Return an end with this many left."""
    flights: list[Any] = [
        SimpleNamespace(signed=SimpleNamespace(hash=b"\1", sender=b"\2", nonce=7), stuck=why)
        for why in left
    ]
    plan_id, tx = "p", Hash(b"\3" * 32)
    price, usd = Wei(1), Usd(1)
    receipts: list[Receipt] = [
        Cancelled(plan_id, tx, tx),
        Reverted(plan_id, tx, 1, 21_000, price, "x", usd),
        Dropped(plan_id, tx, "x"),
        Replaced(plan_id, tx, tx),
    ]
    return Ending.of(receipts, flights)


async def test_the_desk_answers_once_it_is_known_what_became_of_everything() -> None:
    desk = Desk(["x", "y"], {"x": cast("Any", None)}, unopened())
    asking = asyncio.ensure_future(desk.command({"command": "stop", "cancel": True, "seconds": 9}))
    await desk.stopping.wait()
    assert desk.cancelling == 9
    assert not asking.done()
    refused = await desk.command({"command": "stop", "cancel": True, "seconds": 9})
    assert "is stopping already" in refused["error"]
    with capture_logs() as logs:
        desk.ended(ending("too dear"))
    answer = await asking
    assert answer["text"] == (
        "stopped: 1 cancelled, 0 included, 1 reverted, 2 dropped, 1 left; "
        "0x01 on nonce 7: too dear; y was not loaded: what is in flight there is as it was"
    )
    assert answer["left"] == [{"tx": "0x01", "sender": "0x02", "nonce": 7, "reason": "too dear"}]
    assert answer["not_loaded"] == ["y"]
    ((event, level),) = [(line["event"], line["log_level"]) for line in logs]
    assert (event, level) == ("keeper.cancelled", "warning")


@pytest.mark.parametrize("seconds", [None, 0, -1, 3_601, "9", float("nan")])
async def test_the_desk_refuses_a_time_that_is_none(seconds: object) -> None:
    desk = Desk(["x"], {}, unopened())
    answer = await desk.command({"command": "stop", "cancel": True, "seconds": seconds})
    assert "up to 3600 s" in answer["error"]
    assert not desk.stopping.is_set()


async def test_a_node_that_is_gone_leaves_everything_in_time(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])

    def gone(method: str, _: object) -> None:
        raise TransientError("no endpoint answers")

    bench.node.answering = gone
    assert await withdraw(executor) == []
    assert len(executor.undecided) == 1
