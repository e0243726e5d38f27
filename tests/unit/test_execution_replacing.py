"""Transactions that do not get in: replaced, cancelled, reorged, restarted, all on one nonce."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from eth_hash.auto import keccak

from keeper.errors import ConfigError, RpcError, TransientError
from keeper.execution.executor import Executor
from keeper.execution.pursuit import Policy
from keeper.execution.recheck import Gone
from keeper.execution.signer import KeySigner
from keeper.fees import Inclusion
from keeper.risk import Limits, Risk
from keeper.types import Cancelled, Dropped, Head, Included, Plan, Reason, Replaced, Signed, Skip
from keeper.units import USD, Address, Usd, Wei
from tests.fake_node import (
    Events,
    FakeAdmission,
    FakeClock,
    FakeJournal,
    FakeNode,
    decode_runs,
    fields_of,
    nonce_of,
)
from tests.plans import GWEI, OPERATOR_KEY, Plans, address, make_head

POLICY = Policy(replace_after=3, final_depth=3, max_fee=Wei(200 * GWEI))


@dataclass
class Bench:
    """An executor that may look again at what it sent."""

    node: FakeNode = field(default_factory=FakeNode)
    journal: FakeJournal = field(default_factory=FakeJournal)
    admission: FakeAdmission = field(default_factory=FakeAdmission)
    risk: Risk | None = None
    events: Events = field(default_factory=Events)
    plans: Plans = field(default_factory=Plans)
    found: Callable[[Plan], Plan | Gone | None] = lambda plan: plan
    policy: Policy = POLICY
    key: bytes = OPERATOR_KEY
    lost: list[tuple[str, str]] = field(default_factory=list)

    async def start(self) -> Executor:
        """Return a started executor; a second call is a restart over the same journal."""
        executor = Executor(
            "test",
            31337,
            self.node,
            [KeySigner(self.key)],
            self.journal,
            self.admission if self.risk is None else self.risk,
            decode_runs,
            lambda data: data.hex(),
            lambda _: True,
            FakeClock(),
            self.events,
            live=True,
            policy=self.policy,
            look=self.look,
            lost=lambda plan, relay: self.lost.append((plan, relay)),
        )
        await executor.start()
        return executor

    async def look(self, plan: Plan, head: Head) -> Plan | Gone | None:
        """Say what a plan would bring now."""
        return self.found(plan)

    def late(self, *borrowers: Address) -> Plan:
        """Return a plan with much time."""
        return self.plans.make(*borrowers, deadline=2_000_000_000)

    async def wait(self, executor: Executor, heads: int) -> list[object]:
        """Let heads pass on which nothing of the pool is mined."""
        ended: list[object] = []
        for _ in range(heads):
            pool, self.node.pool = self.node.pool, {}
            head = self.node.mine()
            self.node.pool = pool
            ended.extend(await executor.follow(head))
        return ended


@pytest.fixture
def bench() -> Bench:
    """Return a fresh bench."""
    return Bench()


async def test_what_a_pool_holds_too_long_is_replaced_on_its_nonce(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.late()
    await executor.send([plan])
    await bench.wait(executor, 3)
    first, again, second = bench.node.sent
    assert first == again, "the same bytes first: the node tells that it has them"
    before, after = fields_of(first), fields_of(second)
    assert after["nonce"] == before["nonce"]
    assert after["data"] == before["data"]
    for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
        assert after[fee] * 100 >= before[fee] * 110
    assert executor.pending == 1
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Included]
    kinds = [type(row) for name, row in bench.journal.rows if name == "settled"]
    assert kinds == [Replaced, Included], "both versions have an end on record"
    assert [type(receipt) for receipt in bench.admission.settled] == [Included]


@pytest.mark.parametrize("gone", [False, True])
async def test_a_switch_thrown_while_it_is_journalled_holds_a_new_version_back(
    bench: Bench, gone: bool
) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    if gone:
        bench.found = lambda _: Gone("repaid by somebody else")
    signed = bench.journal.signed

    async def throw(made: Signed) -> None:
        await signed(made)
        bench.admission.refusal = breaker

    bench.journal.signed = throw  # type: ignore[assignment,method-assign]
    await bench.wait(executor, 5)
    assert len(set(bench.node.sent)) == 1, "on record, and not handed over"
    assert len(bench.journal.open) == 2
    bench.admission.refusal, bench.journal.signed = None, signed  # type: ignore[method-assign]
    await bench.wait(executor, 1)
    assert len(set(bench.node.sent)) == 2
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Cancelled if gone else Included]


@pytest.mark.parametrize("restart", [False, True])
async def test_what_a_switch_held_back_is_looked_at_before_it_leaves(
    bench: Bench, restart: bool
) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    signed = bench.journal.signed

    async def throw(made: Signed) -> None:
        await signed(made)
        bench.admission.refusal = breaker

    bench.journal.signed = throw  # type: ignore[assignment,method-assign]
    await bench.wait(executor, 5)
    assert len(bench.journal.open) == 2, "a replacement is on record"
    bench.admission.refusal, bench.journal.signed = None, signed  # type: ignore[method-assign]
    if restart:
        executor = await bench.start()
    bench.found = lambda _: Gone("repaid by another")
    await bench.wait(executor, 1)
    first, *_, last = bench.node.sent
    assert set(bench.node.sent) == {first, last}
    assert bytes(fields_of(last)["data"]) == b"", "only a cancel leaves"
    (receipt,) = await executor.follow(bench.node.mine(gas_used=21_000))
    assert isinstance(receipt, Cancelled)


async def test_what_was_held_back_waits_until_it_can_be_looked_at(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    await bench.wait(executor, 3)
    executor = await bench.start()
    bench.node.sent.clear()

    def unable(plan: Plan) -> Plan:
        raise TransientError("no simulation")

    bench.found = unable
    await bench.wait(executor, 2)
    assert not bench.node.sent
    bench.found = lambda _: None
    await bench.wait(executor, 1)
    assert len(bench.node.sent) == 1, "it may go through as it is"


async def test_a_switch_thrown_while_it_is_looked_at_holds_it_back(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    await bench.wait(executor, 3)
    executor = await bench.start()
    bench.node.sent.clear()

    def throw(_: Plan) -> None:
        bench.admission.refusal = breaker

    bench.found = throw
    await bench.wait(executor, 2)
    assert not bench.node.sent
    bench.admission.refusal = None
    bench.found = lambda _: None
    await bench.wait(executor, 1)
    assert len(bench.node.sent) == 1


def breaker(_: Plan) -> Skip:
    return Skip("", "", address("one"), Reason.BREAKER, "operator_pause: by keeper pause")


def refuse_all(_: bytes) -> None:
    raise RpcError("eth_sendRawTransaction", -32000, "exceeds block gas limit")


async def test_the_older_version_may_be_the_one_that_is_mined(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    await bench.wait(executor, 3)
    bench.node.pool[0] = bench.node.sent[0]
    (receipt,) = await executor.follow(bench.node.mine())
    assert isinstance(receipt, Included)
    assert not bench.journal.open
    assert [type(receipt) for receipt in bench.admission.settled] == [Included]


async def test_a_replacement_never_passes_what_the_plan_brings(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.late()
    bench.found = lambda plan: replace(plan, net_usd=Usd(plan.net_usd // 5))
    await executor.send([plan])
    await bench.wait(executor, 60)
    for raw in bench.node.sent:
        cost = fields_of(raw)["maxFeePerGas"] * plan.gas_limit * 2_000 / 10**18
        assert cost <= 8 + 1.6 - 4.95, "all its gas at the highest fee"
    assert len(set(bench.node.sent)) > 1, "it did rise"
    assert bench.events.names.count("plan.stuck") == 1, "told once"


async def test_a_replacement_stays_within_the_maximum_fee(bench: Bench) -> None:
    bench.policy = replace(POLICY, max_fee=Wei(4 * GWEI))
    executor = await bench.start()
    await executor.send([bench.late()])
    await bench.wait(executor, 40)
    offered = [fields_of(raw)["maxFeePerGas"] for raw in bench.node.sent]
    assert 36 * GWEI // 10 < max(offered) <= 4 * GWEI


async def test_what_was_replaced_near_the_maximum_fee_can_still_be_cancelled(bench: Bench) -> None:
    bench.policy = replace(POLICY, max_fee=Wei(4 * GWEI))
    executor = await bench.start()
    await executor.send([bench.late()])
    await bench.wait(executor, 40)
    bench.found = lambda _: Gone("debt repaid by another")
    await bench.wait(executor, 3)
    (receipt,) = await executor.follow(bench.node.mine(gas_used=21_000))
    assert isinstance(receipt, Cancelled)
    assert fields_of(bench.node.sent[-1])["maxFeePerGas"] <= 4 * GWEI


async def test_what_limits_refuse_is_not_offered_more_for(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])

    def refuse(plan: Plan) -> Skip | None:
        if plan.fees.max_fee <= 3 * GWEI:
            return None
        return Skip("aave-v3", "aave-v3", address("one"), Reason.UNPROFITABLE, "too little")

    bench.admission.refusal = refuse
    await bench.wait(executor, 9)
    assert len(set(bench.node.sent)) == 1
    assert "plan.stuck" in bench.events.names


async def test_an_opportunity_that_is_gone_is_cancelled(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.late()
    await executor.send([plan])
    bench.found = lambda _: Gone("debt repaid by another")
    await bench.wait(executor, 3)
    empty = fields_of(bench.node.sent[-1])
    assert empty["nonce"] == 0
    assert empty["value"] == 0
    assert bytes(empty["data"]) == b""
    assert bytes(empty["to"]) == KeySigner(OPERATOR_KEY).address
    (receipt,) = await executor.follow(bench.node.mine(gas_used=21_000))
    assert isinstance(receipt, Cancelled)
    assert receipt.gas_used == 21_000
    assert receipt.gas_cost_usd == 8400000
    assert bench.lost == [(plan.id, "")]
    assert bench.journal.rows.count(("lost", (plan.id, ""))) == 1
    assert not bench.journal.open
    assert executor.in_flight() == frozenset()
    assert executor.pending == 0


async def test_a_deadline_that_passed_cancels_what_the_pool_still_holds(bench: Bench) -> None:
    executor = await bench.start()
    head = bench.node.head
    await executor.send([bench.plans.make(deadline=head.timestamp + 12)])
    await bench.wait(executor, 2)
    assert bench.events.names[-1] == "plan.cancelling"
    (receipt,) = await executor.follow(bench.node.mine(gas_used=21_000))
    assert isinstance(receipt, Cancelled)
    assert bench.lost == [], "it was late, and nobody's"


async def test_what_is_mined_before_its_cancel_was_not_lost(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    bench.found = lambda _: Gone("debt repaid by another")
    await bench.wait(executor, 3)
    bench.node.pool[0] = bench.node.sent[0]
    (receipt,) = await executor.follow(bench.node.mine())
    assert isinstance(receipt, Included)
    assert bench.lost == []


async def test_a_balance_that_came_in_meanwhile_pays_for_a_replacement(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    (wallet,) = executor._lanes
    wallet.pay(Wei(wallet.balance - 1))  # as it was read before a transfer came in
    await bench.wait(executor, 3)
    assert bench.events.names.count("plan.repriced") == 1
    bench.node.balance = 1
    wallet.pay(Wei(wallet.balance - 1))
    await bench.wait(executor, 3)
    assert "plan.stuck" in bench.events.names
    assert len(set(bench.node.sent)) == 2, "what cannot be paid is not offered"


async def test_a_cancel_that_waits_is_raised_too(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 12)])
    await bench.wait(executor, 6)
    cancels = [fields_of(raw)["maxFeePerGas"] for raw in bench.node.sent[1:]]
    assert len(set(cancels)) == 2
    assert max(cancels) * 100 >= min(cancels) * 110


async def test_no_gap_is_left_before_what_waits_on_a_later_nonce(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 12), bench.late()])
    del bench.node.pool[0]
    await bench.wait(executor, 2)
    assert nonce_of(bench.node.pool[0]) == 0, "a cancel fills it"
    receipts = await executor.follow(bench.node.mine())
    assert {type(receipt) for receipt in receipts} == {Cancelled, Included}


async def test_without_replacement_it_waits_and_only_cancels(bench: Bench) -> None:
    bench.policy = replace(POLICY, replacement=False)
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 100)])
    await bench.wait(executor, 8)
    assert len(set(bench.node.sent)) == 1
    await bench.wait(executor, 1)
    assert bench.events.names[-1] == "plan.cancelling"


async def test_only_the_first_of_a_line_is_replaced_while_the_others_can_pay(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late(), bench.late()])
    await bench.wait(executor, 3)
    assert [nonce_of(raw) for raw in bench.node.sent] == [0, 1, 0, 0, 1]


async def test_every_version_is_on_record_before_it_leaves(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    known: list[int] = []
    bench.node.refuse = lambda _: known.append(len(bench.journal.open))
    await bench.wait(executor, 3)
    assert known == [1, 2]


async def test_a_restart_takes_all_versions_up(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.late()
    await executor.send([plan])
    await bench.wait(executor, 3)
    old = bench.node.sent[0]
    restarted = await bench.start()
    assert restarted.pending == 1
    bench.node.pool[0] = old
    (receipt,) = await restarted.follow(bench.node.mine())
    assert isinstance(receipt, Included)
    assert not bench.journal.open


class Crash(BaseException):
    """Ends what runs, and nothing may hold it back.

    An event loop lets a KeyboardInterrupt out of a task past all who wait, into pytest itself.
    """


async def test_a_crash_between_record_and_replacement_loses_nothing(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])

    def die(raw: bytes) -> None:
        if raw != bench.node.sent[0]:
            raise Crash

    bench.node.refuse = die
    with pytest.raises(Crash):
        await bench.wait(executor, 3)
    bench.node.refuse = None
    assert len(bench.journal.open) == 2
    bench.node.pool = {0: bench.node.sent[0]}
    restarted = await bench.start()
    await restarted.follow(make_head(bench.node.head.number))
    assert bench.node.pool[0] != bench.node.sent[0], "the version on record is handed over"
    (receipt,) = await restarted.follow(bench.node.mine())
    assert isinstance(receipt, Included)
    assert not bench.journal.open


async def test_included_is_not_final_before_its_depth(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    await executor.follow(bench.node.mine())
    for _ in range(2):
        assert "finished" not in [name for name, _ in bench.journal.rows]
        assert await executor.follow(bench.node.mine()) == []
    await executor.follow(bench.node.mine())
    assert ("finished", 0) in bench.journal.rows
    bench.node.requests.clear()
    await executor.follow(bench.node.mine())
    assert not bench.node.requests, "what is final is not asked for"


@pytest.mark.parametrize("restart", [False, True])
async def test_a_reorg_brings_an_included_one_back_to_life(bench: Bench, restart: bool) -> None:
    executor = await bench.start()
    plan = bench.late()
    await executor.send([plan])
    (first,) = await executor.follow(bench.node.mine())
    assert isinstance(first, Included)
    bench.node.undo()
    if restart:
        executor = await bench.start()
    receipts: list[object] = []
    for _ in range(8):
        receipts.extend(await executor.follow(bench.node.mine()))
        if receipts:
            break
    (second,) = receipts
    assert isinstance(second, Included)
    assert second.block_number > first.block_number
    assert len(set(bench.node.sent)) == 1, "the same bytes"
    assert bench.events.names.count("plan.included") == 1, "counted once"
    assert bench.events.names[-1] == "plan.settled_again"
    kinds = [type(each) for each in bench.admission.settled]
    assert kinds == [Included, Dropped, Included], "undone and done once each"
    assert not bench.journal.open


async def test_another_block_at_its_height_needs_no_patience(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    await executor.follow(bench.node.mine())
    bench.node.undo()
    await executor.follow(make_head(bench.node.head.number, "fork"))
    assert "plan.reorged" in bench.events.names
    assert list(bench.node.pool) == [0]
    assert executor.pending == 1
    _, skips = await executor.send([bench.late(address("borrower 1"))])
    assert [skip.reason for skip in skips] == [Reason.IN_FLIGHT]


async def test_a_node_that_lags_is_no_reorg(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    await executor.follow(bench.node.mine())
    receipts, bench.node.receipts = bench.node.receipts, {}
    await executor.follow(bench.node.mine())
    bench.node.receipts = receipts
    await executor.follow(bench.node.mine())
    assert "plan.reorged" not in bench.events.names
    assert len(bench.node.sent) == 1


async def test_heads_on_top_of_its_block_are_enough(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    await executor.follow(bench.node.mine())
    bench.node.requests.clear()
    await executor.follow(bench.node.mine())
    assert bench.node.requests["eth_getTransactionReceipt"] == 0
    bench.node.mine()
    await executor.follow(bench.node.mine())
    assert bench.node.requests["eth_getTransactionReceipt"] == 1, "a head was left out"


async def test_included_again_in_another_block_is_booked_anew(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    await executor.follow(bench.node.mine())
    bench.node.undo()
    bench.node.pool = {0: bench.node.sent[0]}
    (receipt,) = await executor.follow(bench.node.mine(gas_used=500_000))
    assert isinstance(receipt, Included)
    assert receipt.gas_used == 500_000
    kinds = [type(each) for each in bench.admission.settled]
    assert kinds == [Included, Dropped, Included]


async def test_a_delegated_account_is_refused_at_the_start(bench: Bench) -> None:
    bench.node.code = bytes.fromhex("ef0100") + bytes(20)
    with pytest.raises(ConfigError, match="has code"):
        await bench.start()


@pytest.mark.parametrize(
    "text",
    ["in-flight transaction limit reached for delegated accounts", "txpool is full"],
)
async def test_a_full_pool_is_no_reason_to_start_the_line_over(bench: Bench, text: str) -> None:
    executor = await bench.start()

    def full(_: bytes) -> None:
        raise RpcError("eth_sendRawTransaction", -32000, text)

    bench.node.refuse = full
    bench.node.requests.clear()
    sent, skips = await executor.send([bench.late()])
    assert not sent
    assert [skip.reason for skip in skips] == [Reason.IN_FLIGHT]
    assert bench.node.requests == {"eth_sendRawTransaction": 1}


async def test_a_node_that_cannot_simulate_leaves_it_waiting(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])

    def fail(_: Plan) -> Plan:
        raise TransientError("not simulated")

    bench.found = fail
    await bench.wait(executor, 6)
    assert len(set(bench.node.sent)) == 1
    bench.found = lambda plan: plan
    await bench.wait(executor, 3)
    assert len(set(bench.node.sent)) == 2


def quick(number: int) -> Head:
    """Return a head a quarter of a second after the one before."""
    return replace(make_head(number), timestamp=1_800_000_000 + number // 4)


async def test_where_heads_follow_fast_a_lagging_node_still_gets_its_seconds(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late()])
    bench.node.mine()
    (tx,) = bench.node.receipts
    receipts, bench.node.receipts = bench.node.receipts, {}
    for number in range(400, 412):
        assert await executor.follow(quick(number)) == [], "its receipt is not indexed yet"
    bench.node.receipts = receipts
    (receipt,) = await executor.follow(quick(412))
    assert isinstance(receipt, Included)
    bench.node.receipts = {}
    bench.node.mined = 0
    for number in range(413, 425):
        await executor.follow(quick(number))
    assert "plan.reorged" not in bench.events.names
    for number in range(425, 432):
        await executor.follow(quick(number))
    assert "plan.reorged" in bench.events.names, f"{tx} is gone for long enough"


async def test_a_count_that_falls_for_an_instant_gives_no_nonce_twice(bench: Bench) -> None:
    bench.node.mined = 5
    executor = await bench.start()
    await executor.send([bench.late()])
    bench.node.mined = 4
    for number in range(400, 412):
        await executor.follow(quick(number))
    await executor.send([bench.late()])
    assert nonce_of(bench.node.sent[-1]) == 6


async def test_a_cancel_nobody_can_pay_is_offered_again_and_not_made_dearer(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.late(), bench.late()])
    del bench.node.pool[0]
    before = len(bench.node.sent)

    def refuse(raw: bytes) -> None:
        if nonce_of(raw) == 0:
            raise RpcError("eth_sendRawTransaction", -32000, "insufficient funds for gas * price")

    bench.node.refuse = refuse
    await bench.wait(executor, 24)
    cancels = [raw for raw in bench.node.sent[before:] if nonce_of(raw) == 0][1:]
    assert len(cancels) > 3
    assert len(set(cancels)) == 1, "one cancel, whose fees did not rise"
    assert bench.events.names.count("plan.cancelling") == 1
    assert "plan.stuck" in bench.events.names
    bench.node.refuse = None
    await bench.wait(executor, 3)
    receipts = await executor.follow(bench.node.mine())
    assert {type(receipt) for receipt in receipts} == {Cancelled, Included}


async def test_a_strangers_transaction_that_vanishes_leaves_its_nonce_to_the_next(
    bench: Bench,
) -> None:
    bench.node.pool[0] = b"stranger"
    executor = await bench.start()
    await executor.send([bench.late()])
    del bench.node.pool[0]
    await bench.wait(executor, 9)
    assert len(set(bench.node.sent)) == 1, "paying more does not fill the nonce before"
    (lane,) = executor.lanes
    assert (lane.has_gap, lane.is_blocked) == (True, False)
    reasons = [fields["reason"] for name, fields in bench.events.seen if name == "plan.stuck"]
    assert reasons == ["nobody uses nonce 0 before it: the next plan does"]
    await executor.send([bench.late()])
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Included, Included]


async def test_a_stranger_that_is_not_mined_blocks_its_lane_and_is_told_of(bench: Bench) -> None:
    bench.node.pool[0] = b"stranger"
    executor = await bench.start()
    (lane,) = executor.lanes
    assert not lane.is_blocked, "it may be mined in the next block"
    await bench.wait(executor, 3)
    (lane,) = executor.lanes
    assert lane.is_blocked, "nothing of ours waits yet"
    await executor.send([bench.late()])
    await bench.wait(executor, 9)
    reasons = [fields["reason"] for name, fields in bench.events.seen if name == "plan.stuck"]
    assert reasons == ["a transaction that is not ours waits on nonce 0 before it"], "told once"
    bench.node.mined, bench.node.pool = 1, {1: bench.node.pool[1]}
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Included]
    (lane,) = executor.lanes
    assert not lane.is_blocked


@pytest.mark.parametrize("expired", [False, True])
async def test_what_was_given_up_and_turns_up_in_a_pool_is_ours_again(
    bench: Bench, expired: bool
) -> None:
    executor = await bench.start()
    until = bench.node.head.timestamp + 12 if expired else 2_000_000_000
    await executor.send([bench.plans.make(deadline=until)])
    given_up = dict(bench.node.pool)
    bench.node.pool.clear()
    bench.node.refuse = refuse_all
    await bench.wait(executor, 4)
    assert bench.events.names[-1] == "plan.abandoned"
    # another backend of the same URL had it all the time
    bench.node.refuse, bench.node.pool = None, given_up
    bench.found = lambda _: Gone("repaid by another")
    sent, _ = await executor.send([bench.late()])
    assert sent == [], "its nonce is taken"
    if expired:
        # the backend asked now knows nothing of it
        bench.node.eth_getTransactionByHash = lambda _: None  # type: ignore[assignment,method-assign]
    else:
        await executor.send([bench.late()])
        assert nonce_of(bench.node.sent[-1]) == 1
    await bench.wait(executor, 6)
    assert bytes(fields_of(bench.node.pool[0])["data"]) == b""
    receipts = await executor.follow(bench.node.mine())
    ends: list[type] = [Cancelled] if expired else [Cancelled, Included]
    assert [type(receipt) for receipt in receipts] == ends


async def test_a_stranger_that_vanishes_while_nothing_is_sent_is_noticed(bench: Bench) -> None:
    bench.node.pool[0] = b"stranger"
    executor = await bench.start()
    bench.node.pool.clear()
    await executor.follow(bench.node.mine())
    await executor.send([bench.late()])
    assert nonce_of(bench.node.sent[-1]) == 0
    bench.node.requests.clear()
    await executor.follow(bench.node.mine())
    await executor.follow(bench.node.mine())
    counted = bench.node.requests["eth_getTransactionCount"]
    assert counted <= 1, "asked for no longer than there is a stranger"


@pytest.mark.parametrize("pooled", [True, False])
async def test_what_a_former_wallet_left_reserves_nothing_past_its_deadline(
    bench: Bench, pooled: bool
) -> None:
    executor = await bench.start()
    plan = bench.plans.make(deadline=bench.node.head.timestamp + 24)
    await executor.send([plan])
    bench.key = keccak(b"another operator")
    pool = bench.node.pool if pooled else {}
    bench.node.pool = pool
    executor = await bench.start()
    assert executor.pending == 1
    await bench.wait(executor, 2)
    assert executor.pending == 1, "until its deadline it may be mined"
    ended = await bench.wait(executor, 3)
    assert executor.pending == 0
    assert executor.in_flight() == frozenset()
    assert [each.plan_id for each in bench.admission.settled] == [plan.id]
    assert len(bench.node.sent) == 1, "nobody here can take it back"
    if pooled:
        assert bench.events.names[-1] == "plan.abandoned"
        (receipt,) = await executor.follow(bench.node.mine(status=0))
        assert receipt.plan_id == plan.id, "booked when it is mined all the same"
    else:
        (dropped,) = ended
        assert isinstance(dropped, Dropped)
        assert "no wallet here" in dropped.reason
    assert not bench.journal.open


async def test_what_a_former_wallet_left_ends_once_no_pool_has_it(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 12)])
    bench.key = keccak(b"another operator")
    executor = await bench.start()
    assert await bench.wait(executor, 4) == []
    assert executor.pending == 0
    bench.node.pool.clear()
    bench.node.requests.clear()
    (dropped,) = await bench.wait(executor, 64)
    assert isinstance(dropped, Dropped)
    assert not bench.journal.open
    assert bench.node.requests["eth_getTransactionByHash"] <= 8, "looked at now and then"


async def test_the_next_base_fee_is_the_chains_own(bench: Bench) -> None:
    bench.policy = replace(POLICY, inclusion=Inclusion.OP_STACK, max_fee=Wei(10**15))
    executor = await bench.start()
    await executor.send([bench.late()])
    full = bench.node.head
    for number in range(1, 4):
        full = replace(
            make_head(100 + number), base_fee=Wei(100 * GWEI), gas_used=30_000_000, extra=b""
        )
        await executor.follow(full)
    raised = fields_of(bench.node.sent[-1])
    assert raised["nonce"] == 0
    mainnet, own = full.next_base_fee(), full.next_base_fee(Inclusion.OP_STACK)
    assert own < mainnet
    highest = own
    for _ in range(6):
        highest = Wei(highest + highest // 8)
    assert raised["maxFeePerGas"] - raised["maxPriorityFeePerGas"] <= highest


async def test_what_our_own_final_transaction_took_the_nonce_of_is_no_strangers_doing(
    bench: Bench,
) -> None:
    bench.policy = replace(POLICY, final_depth=1)
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 12)])
    bench.node.pool.clear()
    await bench.wait(executor, 2)
    assert "plan.abandoned" in bench.events.names
    await executor.send([bench.late()])
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Included, Replaced]
    assert "nonce.foreign" not in bench.events.names
    assert not executor.undecided
    assert not bench.journal.open


async def test_a_cancel_is_not_made_dearer_where_paying_more_gains_no_place(bench: Bench) -> None:
    bench.policy = replace(POLICY, replacement=False)
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 12)])
    await bench.wait(executor, 30)
    cancels = set(bench.node.sent[1:])
    assert len(cancels) == 1, "its fees pay for the next block"
    assert bench.events.names.count("plan.cancelling") == 1


async def test_without_a_cap_the_plans_first_fees_bound_all_that_follow(bench: Bench) -> None:
    bench.policy = replace(POLICY, max_fee=None)
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 12)])
    await bench.wait(executor, 120)
    first, *others = [fields_of(raw)["maxFeePerGas"] for raw in bench.node.sent]
    assert first < max(others) <= 2 * first


async def test_an_expired_plan_on_a_doubted_feed_gives_its_nonce_back(bench: Bench) -> None:
    executor = await bench.start()
    doubted = bench.plans.make(deadline=bench.node.head.timestamp + 12)
    await executor.send([doubted])

    def doubt(plan: Plan) -> Skip | None:
        if not plan.quotes:
            return None
        borrower = plan.quotes[0].opportunity.position.borrower
        return Skip("aave", "aave-v3", borrower, Reason.BREAKER, "deviation: USDC by 900 bps")

    bench.admission.refusal = doubt
    await bench.wait(executor, 2)
    assert bench.events.names[-1] == "plan.cancelling"
    first = bench.node.sent[-1]
    bench.node.pool.clear()
    await bench.wait(executor, 6)
    assert bench.node.sent.count(first) > 1, "its cancel is not held back either"
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Cancelled]


async def test_what_a_reorg_brings_back_is_reserved_whatever_is_refused_now(
    bench: Bench,
) -> None:
    executor = await bench.start()
    plan = bench.late()
    await executor.send([plan])
    await executor.follow(bench.node.mine())
    bench.admission.admitted.clear()
    bench.admission.refusal = lambda plan: Skip(
        "aave", "aave-v3", plan.quotes[0].opportunity.position.borrower, Reason.BREAKER, "paused"
    )
    bench.node.undo()
    await executor.follow(make_head(bench.node.head.number, "fork"))
    assert "plan.reorged" in bench.events.names
    assert plan.id in bench.admission.admitted


async def test_limits_on_cost_never_hold_back_what_was_sent_before(
    bench: Bench, tmp_path: Path
) -> None:
    executor = await bench.start()
    until = bench.node.head.timestamp + 60
    sent, _ = await executor.send([bench.plans.make(deadline=until) for _ in range(2)])
    cost = sent[0].worst_cost
    # room for one of the two: each finds it taken by the other
    lowered = Limits(Wei(cost - 1), cost, Usd(1), Usd(10_000 * USD), tmp_path / "KILL")
    bench.risk = Risk("test", lowered, FakeClock())
    bench.risk.restore([], await bench.journal.pending())
    executor = await bench.start()
    bench.node.pool.clear()
    await bench.wait(executor, 1)
    assert bench.events.names.count("plan.rebroadcast") == 2
    await bench.wait(executor, 6)
    assert [name for name in bench.events.names if "cancel" in name] == ["plan.cancelling"] * 2
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Cancelled] * 2
    lowered.kill_file.touch()
    assert bench.risk.halted(bench.plans.make())
