"""Transactions that go to relays: kept there, published at the deadline, given up, restarted."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from keeper.errors import RpcError, TransientError
from keeper.execution.bump import first_down
from keeper.execution.executor import Executor
from keeper.execution.pursuit import LAPSED, Policy
from keeper.execution.recheck import Gone
from keeper.execution.relays.flow import PrivateFlow, Route
from keeper.execution.relays.scores import Scores
from keeper.execution.signer import KeySigner
from keeper.types import (
    Cancelled,
    Dropped,
    Head,
    Included,
    Plan,
    Reason,
    Replaced,
    Reverted,
    Signed,
    Skip,
)
from keeper.units import Hash, Wei
from tests.fake_node import (
    Events,
    FakeAdmission,
    FakeClock,
    FakeJournal,
    FakeNode,
    decode_runs,
    fields_of,
)
from tests.plans import GWEI, OPERATOR_KEY, Plans

POLICY = Policy(replace_after=3, final_depth=3, max_fee=Wei(200 * GWEI))
BLOCKS = 2


@dataclass
class FakeRelay:
    """Keep what it is asked for."""

    name: str = "relay"
    fault: TransientError | None = None
    sent: list[tuple[Signed, tuple[Signed, ...], int, int]] = field(default_factory=list)
    cancelled: list[Signed] = field(default_factory=list)
    warmed: asyncio.Event = field(default_factory=asyncio.Event)

    async def warm(self) -> None:
        """Keep that a connection was to be opened."""
        self.warmed.set()

    async def send(self, signed: Signed, before: Sequence[Signed], first: int, last: int) -> None:
        """Keep it, or fail."""
        self.sent.append((signed, tuple(before), first, last))
        if self.fault is not None:
            raise self.fault

    async def cancel(self, signed: Signed, first: int, last: int) -> None:
        """Keep that it was cancelled."""
        self.cancelled.append(signed)

    async def close(self) -> None:
        """Do nothing."""


@dataclass
class Bench:
    """An executor with relays before a node in memory."""

    node: FakeNode = field(default_factory=FakeNode)
    journal: FakeJournal = field(default_factory=FakeJournal)
    admission: FakeAdmission = field(default_factory=FakeAdmission)
    events: Events = field(default_factory=Events)
    plans: Plans = field(default_factory=Plans)
    relay: FakeRelay = field(default_factory=FakeRelay)
    found: Callable[[Plan], Plan | Gone | None] = lambda plan: plan
    public_after: int = 3
    flow: PrivateFlow | None = None
    others: tuple[FakeRelay, ...] = ()
    bundled: bool = False
    lost: list[tuple[str, str]] = field(default_factory=list)
    policy: Policy = POLICY

    async def start(self, *, relays: bool = True) -> Executor:
        """Return a started executor; a second call is a restart over the same journal."""
        routes = [
            Route(relay, BLOCKS, bundled=self.bundled, warm=relay.warm)
            for relay in (self.relay, *self.others)
        ]
        scores = Scores([route.relay.name for route in routes])
        self.flow = PrivateFlow(routes, scores, self.public_after) if relays else None
        executor = Executor(
            "test",
            31337,
            self.node,
            [KeySigner(OPERATOR_KEY)],
            self.journal,
            self.admission,
            decode_runs,
            lambda data: data.hex(),
            lambda _: True,
            FakeClock(),
            self.events,
            live=True,
            policy=self.policy,
            look=self.look,
            flow=self.flow,
            untipped=untipped,
            lost=lambda plan, relay: self.lost.append((plan, relay)),
        )
        await executor.start()
        return executor

    async def look(self, plan: Plan, head: Head) -> Plan | Gone | None:
        """Say what a plan would bring now."""
        return self.found(plan)

    def tipped(self, tip: int = 0) -> Plan:
        """Return a plan with much time and a tip."""
        plan = self.plans.make(deadline=2_000_000_000)
        return replace(plan, bid=replace(plan.bid, tip=Wei(tip)))

    async def wait(self, executor: Executor, heads: int = 1) -> list[object]:
        """Let heads pass on which nothing is mined."""
        ended: list[object] = []
        for _ in range(heads):
            pool, self.node.pool = self.node.pool, {}
            head = self.node.mine()
            self.node.pool = pool
            ended.extend(await executor.follow(head))
            await asyncio.sleep(0)
        return ended

    async def build(self, executor: Executor) -> list[object]:
        """Let the relay's builder make a block of what was last sent to it."""
        signed, before, first, last = self.relay.sent[-1]
        assert first <= self.node.head.number + 1 <= last
        self.node.pool |= {each.nonce: each.raw for each in (*before, signed)}
        return list(await executor.follow(self.node.mine()))


def untipped(plan: Plan) -> Plan:
    return replace(plan, calldata=b"untipped", bid=replace(plan.bid, tip=Wei(0)))


async def test_connections_are_opened_while_a_plan_is_proven() -> None:
    bench = Bench()
    executor = await bench.start()
    await executor.screen([])
    passed, _ = await executor.screen([bench.tipped()])
    assert not bench.relay.warmed.is_set(), "the node is asked first"
    async with asyncio.timeout(5):
        await bench.relay.warmed.wait()
    assert passed
    assert not bench.relay.sent


@pytest.mark.parametrize("bundled", [True, False])
async def test_a_bundle_is_made_anew_when_what_stood_before_it_is_mined(bundled: bool) -> None:
    bench = Bench(bundled=bundled)
    executor = await bench.start()
    first, second = bench.tipped(), bench.tipped()
    await executor.send([first])
    await executor.send([second])
    sent = bench.relay.sent
    assert [tuple(each.nonce for each in before) for _, before, _, _ in sent] == [(), (0,)]
    bench.node.pool = {0: sent[0][0].raw}
    (receipt,) = await executor.follow(bench.node.mine())
    assert isinstance(receipt, Included)
    await asyncio.sleep(0)
    # with a used nonce in front of it no block could have it
    again = [(signed.nonce, before, block, last) for signed, before, block, last in sent[2:]]
    assert again == ([(1, (), 102, 103)] if bundled else [])
    await bench.wait(executor)
    assert len(sent) == 3, "no more than once"


async def test_relays_have_it_and_the_node_never_sees_it() -> None:
    bench = Bench()
    executor = await bench.start()
    plan = bench.tipped()
    sent, skips = await executor.send([plan])
    assert (sent, skips) == ([plan], [])
    await bench.wait(executor)
    assert bench.node.sent == []
    assert [each[2:] for each in bench.relay.sent] == [(101, 102)]
    (receipt,) = await bench.build(executor)
    assert isinstance(receipt, Included)
    assert executor.relays["relay"].won == 1
    assert not bench.journal.open


async def test_it_is_given_again_when_its_blocks_are_over() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    await executor.send([bench.tipped()])
    await bench.wait(executor, 6)
    assert [each[2:] for each in bench.relay.sent] == [
        (101, 102),
        (103, 104),
        (105, 106),
        (107, 108),
    ]
    assert len({each[0].raw for each in bench.relay.sent}) == 1
    assert bench.node.sent == []
    (receipt,) = await bench.build(executor)
    assert isinstance(receipt, Included)


async def test_plans_behind_it_go_with_what_is_before_them() -> None:
    bench = Bench()
    executor = await bench.start()
    await executor.send([bench.tipped(), bench.tipped()])
    (first, before_first, *_), (_, before_second, *_) = bench.relay.sent
    assert before_first == ()
    assert before_second == (first,)
    receipts = await bench.build(executor)
    assert [type(receipt) for receipt in receipts] == [Included, Included]


async def test_at_the_deadline_another_transaction_on_its_nonce_is_public() -> None:
    bench = Bench()
    executor = await bench.start()
    plan = bench.tipped(tip=4_000_000 * GWEI)
    await executor.send([plan])
    await bench.wait(executor, 2)
    assert bench.node.sent == []
    await bench.wait(executor)
    private, (public,) = bench.relay.sent[0][0], bench.node.sent
    before, after = fields_of(private.raw), fields_of(public)
    assert before["nonce"] == after["nonce"]
    assert bytes(after["data"]) == b"untipped"
    assert bytes(before["data"]) == plan.calldata
    assert after["maxFeePerGas"] * 100 >= before["maxFeePerGas"] * 110
    tip_per_gas = 4_000_000 * GWEI // plan.gas
    assert after["maxPriorityFeePerGas"] >= before["maxPriorityFeePerGas"] + tip_per_gas
    assert bench.events.names.count("plan.published") == 1
    assert len(bench.journal.open) == 2, "both are on record"
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Included]
    kinds = [type(row) for name, row in bench.journal.rows if name == "settled"]
    assert kinds == [Replaced, Included]
    assert [type(receipt) for receipt in bench.admission.settled] == [Included]
    assert executor.relays["relay"].lost == 1


async def test_a_tip_that_took_most_of_the_profit_does_not_keep_it_from_the_public() -> None:
    bench = Bench(public_after=1)
    executor = await bench.start()
    plan = bench.tipped(18 * 10**15)
    await executor.send([plan])
    await bench.wait(executor)
    assert bench.events.names[-1] == "plan.published"
    (public,) = bench.node.sent
    fees = fields_of(public)
    outbid = plan.bid.priority_fee + plan.bid.tip // plan.gas
    assert fees["maxPriorityFeePerGas"] < outbid, "the builders' price is not the pool's"
    worst = fees["maxFeePerGas"] * plan.gas_limit * 2_000 / 10**18
    assert worst <= 40 + 1.6 - 4.95, "and it never costs more than it brings"


async def test_what_becomes_public_near_the_maximum_fee_can_be_raised_and_cancelled() -> None:
    bench = Bench(public_after=1, policy=replace(POLICY, max_fee=Wei(4 * GWEI)))
    executor = await bench.start()
    plan = bench.tipped()
    first = first_down(Wei(4 * GWEI))
    await executor.send([replace(plan, bid=replace(plan.bid, max_fee=first))])
    await bench.wait(executor, 7)
    public, *_, raised = [fields_of(raw)["maxFeePerGas"] for raw in bench.node.sent]
    assert public <= first < raised
    bench.found = lambda _: Gone("repaid by another")
    await bench.wait(executor, 3)
    (receipt,) = await executor.follow(bench.node.mine(gas_used=21_000))
    assert isinstance(receipt, Cancelled)


async def test_the_private_one_may_still_win_after_publication() -> None:
    bench = Bench()
    executor = await bench.start()
    await executor.send([bench.tipped()])
    await bench.wait(executor, 3)
    bench.node.pool[0] = bench.relay.sent[0][0].raw
    (receipt,) = await executor.follow(bench.node.mine())
    assert isinstance(receipt, Included)
    assert receipt.tx_hash == bench.relay.sent[0][0].hash
    assert not bench.journal.open


async def test_what_is_public_is_outbid_as_any_other() -> None:
    bench = Bench()
    executor = await bench.start()
    await executor.send([bench.tipped()])
    await bench.wait(executor, 6)
    assert bench.events.names.count("plan.repriced") == 1
    assert {bytes(fields_of(raw)["data"]) for raw in bench.node.sent} == {b"untipped"}


async def test_a_restart_does_not_publish_what_was_private() -> None:
    bench = Bench()
    executor = await bench.start()
    await executor.send([bench.tipped()])
    again = await bench.start()
    assert again.pending == 1
    await bench.wait(again)
    assert bench.node.sent == []
    assert [each[2:] for each in bench.relay.sent] == [(101, 102), (102, 103)]
    await bench.wait(again, 2)
    assert len(bench.node.sent) == 1, "due three blocks after it was made, not after the restart"


async def test_a_restart_without_relays_publishes_it() -> None:
    bench = Bench()
    executor = await bench.start()
    await executor.send([bench.tipped()])
    again = await bench.start(relays=False)
    await bench.wait(again)
    (public,) = bench.node.sent
    assert bytes(fields_of(public)["data"]) == b"untipped"


async def test_what_is_gone_gives_its_nonce_back_without_a_cancel() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    await executor.send([bench.tipped()])
    bench.found = lambda _: Gone("repaid by another")
    await bench.wait(executor)
    assert executor.pending == 1, "a relay has it for a block to come"
    assert "plan.abandoned" not in bench.events.names
    await bench.wait(executor)
    assert "plan.abandoned" in bench.events.names
    assert bench.node.sent == []
    assert executor.relays["relay"].lost == 1
    bench.found = lambda plan: plan
    await executor.send([bench.tipped()])
    assert bench.relay.sent[-1][0].nonce == 0


async def test_plans_lost_on_one_nonce_do_not_add_up() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    bench.found = lambda _: Gone("repaid by another")
    lost = []
    for _ in range(3):
        head = bench.node.head
        plan = bench.plans.make(head=head, deadline=head.timestamp + 24)
        assert (await executor.send([plan]))[0] == [plan]
        lost.append(plan.id)
        await bench.wait(executor, 4)
    assert bench.events.names.count("plan.abandoned") == 3
    assert {each[0].nonce for each in bench.relay.sent} == {0}
    assert [each.plan_id for each in bench.admission.settled] == lost, "nothing stays reserved"
    assert executor.pending == 0
    asked = bench.node.requests["eth_getTransactionReceipt"]
    await bench.wait(executor, 2)
    assert bench.node.requests["eth_getTransactionReceipt"] == asked, "its nonce is unused"
    bench.found = lambda plan: plan
    won = bench.plans.make(head=bench.node.head, deadline=2_000_000_000)
    await executor.send([won])
    receipts = await bench.build(executor)
    receipts += await bench.wait(executor)
    assert [type(each) for each in receipts] == [Included, Replaced, Replaced, Replaced]
    assert not bench.journal.open


async def test_what_lapsed_and_is_mined_all_the_same_is_booked() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    head = bench.node.head
    await executor.send([bench.plans.make(deadline=head.timestamp + 24)])
    bench.found = lambda _: Gone("repaid by another")
    await bench.wait(executor, 4)
    assert executor.pending == 0
    signed = bench.relay.sent[-1][0]
    bench.node.pool[0] = signed.raw
    receipts = list(await executor.follow(bench.node.mine(status=0)))
    assert [type(each) for each in receipts] == [Reverted]
    assert isinstance(bench.admission.settled[-1], Reverted)


async def test_what_was_given_up_mined_and_undone_leaves_no_gap() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    await executor.send([bench.tipped()])
    bench.found = lambda _: Gone("repaid by another")
    await bench.wait(executor, 2)
    assert "plan.abandoned" in bench.events.names
    bench.node.pool[0] = bench.relay.sent[-1][0].raw
    await executor.follow(bench.node.mine())
    bench.node.undo()
    await bench.wait(executor, 4)
    assert "plan.reorged" in bench.events.names
    bench.found = lambda plan: plan
    before = len(bench.relay.sent)
    await executor.send([bench.plans.make(head=bench.node.head, deadline=2_000_000_000)])
    await bench.wait(executor, 3)
    nonces = {each[0].nonce for each in bench.relay.sent[before:]}
    assert 0 in nonces, "somebody has the first nonce"


async def test_what_is_gone_at_the_deadline_is_cancelled_at_the_relays() -> None:
    bench = Bench(public_after=1)
    executor = await bench.start()
    await executor.send([bench.tipped()])
    bench.found = lambda _: Gone("repaid by another")
    await bench.wait(executor)
    await asyncio.sleep(0)
    assert [each.nonce for each in bench.relay.cancelled] == [0]
    assert bench.node.sent == []


async def test_a_gap_before_another_is_filled() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    await executor.send([bench.tipped(), bench.tipped()])
    first = bench.relay.sent[0][0].plan.calldata
    bench.found = lambda plan: Gone("repaid") if plan.calldata == first else plan
    await bench.wait(executor, 2)
    (cancel,) = bench.node.sent
    assert fields_of(cancel)["nonce"] == 0
    assert bytes(fields_of(cancel)["data"]) == b""


async def test_relays_that_do_not_answer_count_as_having_it() -> None:
    bench = Bench()
    bench.relay.fault = TransientError("no answer within 1 s")
    executor = await bench.start()
    plan = bench.tipped()
    sent, _ = await executor.send([plan])
    assert sent == [plan]
    assert executor.in_flight()
    await bench.wait(executor, 3)
    assert len(bench.node.sent) == 1


async def test_refused_by_all_it_waits_for_the_deadline_or_is_dropped() -> None:
    fault = RpcError("eth_sendBundle", 403, "HTTP 403")
    bench = Bench()
    bench.relay.fault = fault
    executor = await bench.start()
    await executor.send([bench.tipped()])
    await bench.wait(executor, 3)
    assert len(bench.node.sent) == 1, "nobody has it: it is tried at each head, then public"
    assert len(bench.relay.sent) == 3

    never = Bench(public_after=0)
    never.relay.fault = fault
    executor = await never.start()
    sent, skips = await executor.send([never.tipped()])
    assert not sent
    assert [(skip.reason, skip.detail) for skip in skips] == [(Reason.TIMEOUT, "relay: HTTP 403")]
    (receipt,) = never.admission.settled
    assert isinstance(receipt, Dropped)
    assert executor.pending == 0


async def test_a_thrown_switch_keeps_it_from_relays_and_node() -> None:
    bench = Bench()
    executor = await bench.start()
    await executor.send([bench.tipped()])
    bench.admission.refusal = lambda _: Skip(
        "m", "p", bench.plans.make().quotes[0].opportunity.key[1], Reason.BREAKER, "paused"
    )
    await bench.wait(executor, 6)
    assert len(bench.relay.sent) == 1
    assert bench.node.sent == []


@pytest.mark.parametrize("gone", [False, True])
async def test_what_a_switch_kept_from_the_public_is_looked_at_before_it_leaves(gone: bool) -> None:
    bench = Bench()
    executor = await bench.start()
    plan = bench.tipped()
    await executor.send([plan])
    signed = bench.journal.signed

    async def throw(made: Signed) -> None:
        await signed(made)
        bench.admission.refusal = lambda _: Skip("", "", plan.contract, Reason.BREAKER, "paused")

    bench.journal.signed = throw  # type: ignore[assignment,method-assign]
    await bench.wait(executor, 6)
    assert len(bench.journal.open) == 2, "the public one is on record"
    bench.admission.refusal, bench.journal.signed = None, signed  # type: ignore[method-assign]
    if gone:
        bench.found = lambda _: Gone("repaid by another")
    await bench.wait(executor)
    assert len(bench.node.sent) == (not gone)
    if gone:
        assert "plan.abandoned" in bench.events.names, "no pool has it: no cancel is paid for"
        assert bench.lost == [(plan.id, "")]
        assert bench.journal.rows.count(("lost", (plan.id, ""))) == 1
        assert executor.relays["relay"].lost == 1


async def test_a_reorg_gives_it_to_the_relays_again() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    await executor.send([bench.tipped()])
    (receipt,) = await bench.build(executor)
    assert isinstance(receipt, Included)
    bench.node.undo()
    await bench.wait(executor, 4)
    assert "plan.reorged" in bench.events.names
    assert bench.node.sent == []
    assert len(bench.relay.sent) > 1


async def test_of_many_plans_given_up_only_the_newest_are_watched() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    bench.found = lambda _: Gone("repaid by another")
    for _ in range(LAPSED + 6):
        head = bench.node.head
        await executor.send([bench.plans.make(head=head, deadline=head.timestamp + 12)])
        await bench.wait(executor, 3)
    assert len(list(executor._flights)) <= LAPSED + 1
    assert len(bench.journal.open) <= LAPSED + 1, "a restart takes up no more"
    assert executor.pending <= 1


async def test_past_its_deadline_nothing_is_published() -> None:
    bench = Bench(public_after=2)
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 12)])
    await bench.wait(executor, 4)
    assert "plan.published" not in bench.events.names
    assert bench.node.sent == []
    assert executor.pending == 0


async def test_a_receipt_says_which_relays_held_it() -> None:
    bench = Bench(relay=FakeRelay("titan"), others=(FakeRelay("flashbots"), FakeRelay("down")))
    bench.others[1].fault = RpcError("eth_sendBundle", -32000, "refused")
    executor = await bench.start()
    await executor.send([bench.tipped()])
    await asyncio.sleep(0)
    (receipt,) = await bench.build(executor)
    assert isinstance(receipt, Included)
    assert receipt.relay == "flashbots+titan", "who refused it did not hold it"
    assert ("settled", receipt) in bench.journal.rows


async def test_what_is_mined_in_public_was_held_by_no_relay() -> None:
    bench = Bench()
    executor = await bench.start()
    await executor.send([bench.tipped()])
    await bench.wait(executor, 3)
    assert "plan.published" in bench.events.names
    receipts = await executor.follow(bench.node.mine())
    assert [each.relay for each in receipts if isinstance(each, Included)] == [""]


async def test_of_a_restart_nobody_knows_who_held_it() -> None:
    bench = Bench()
    executor = await bench.start()
    await executor.send([bench.tipped()])
    executor = await bench.start()
    (receipt,) = await bench.build(executor)
    assert isinstance(receipt, Included)
    assert receipt.relay == "?"


async def test_a_reorg_does_not_forget_who_held_it() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    await executor.send([bench.tipped()])
    (first,) = await bench.build(executor)
    raw = bench.relay.sent[-1][0].raw
    bench.node.undo()
    bench.node.pool[0] = raw
    (again,) = await executor.follow(bench.node.mine())
    assert isinstance(first, Included)
    assert isinstance(again, Included)
    assert (first.relay, again.relay) == ("relay", "relay")
    assert executor.relays["relay"].won == 1, "counted once"


async def test_what_a_rival_took_while_relays_held_it_is_told_and_on_record() -> None:
    bench = Bench(public_after=0)
    executor = await bench.start()
    plan = bench.tipped()
    await executor.send([plan])
    bench.found = lambda _: Gone("repaid by another")
    await bench.wait(executor)
    assert bench.lost == []
    await bench.wait(executor, 2)
    assert bench.lost == [(plan.id, "relay")]
    assert ("lost", (plan.id, "relay")) in bench.journal.rows


async def test_what_stands_behind_a_pending_one_never_goes_elsewhere() -> None:
    for relays in (True, False):
        bench = Bench()
        executor = await bench.start(relays=relays)
        plan = replace(bench.tipped(), after=Hash(b"\x42" * 32))
        sent, skips = await executor.send([plan])
        assert sent == []
        assert [skip.reason for skip in skips] == [Reason.TIMEOUT]
        assert "behind" in skips[0].detail
        assert (bench.relay.sent, bench.node.sent, await bench.journal.pending()) == ([], [], [])
        sent, _ = await executor.send([bench.tipped()])
        assert len(sent) == 1
