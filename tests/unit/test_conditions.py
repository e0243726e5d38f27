"""What bids rest on: data fees read with the prices, fee history beside them, own bids so far."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from keeper.chain.data_fee import data_fee_calls, read_data_fee
from keeper.chain.fee_history import EVERY, OLDEST, PERCENTILES, FeeHistories
from keeper.conditions import Conditions
from keeper.config.inclusion import default_inclusion
from keeper.errors import RpcError, TransientError
from keeper.fees import ArbitrumFee, BidOutcome, Inclusion, OpStackFee
from keeper.planning.contest import KEPT, Contest, bid_shares
from keeper.types import Bid, CallResult, Cancelled, Dropped, Plan, Replaced, Reverted
from keeper.units import ZERO_ADDRESS, Bps, Wei
from tests.plans import GWEI, Plans, address, included, make_head, make_quote, make_view, tx_of

FEE = OpStackFee(Wei(20 * GWEI), 5_227, Wei(3 * GWEI), 1_014_213, Wei(7), Wei(5 * GWEI))


def word(value: int) -> CallResult:
    return CallResult(True, value.to_bytes(32, "big"))


def told(fee: OpStackFee, probe: int | None = None) -> list[CallResult]:
    """Return what the oracle answers to `data_fee_calls`."""
    return [
        word(fee.l1_base_fee),
        word(fee.base_fee_scalar),
        word(fee.blob_base_fee),
        word(fee.blob_base_fee_scalar),
        word(fee.upper_bound(1_000) if probe is None else probe),
        word(fee.operator_constant),
        word(fee.operator_constant + fee.operator_slope),
    ]


MISSING = CallResult(False, b"")


def test_the_oracles_answers_are_the_fee() -> None:
    assert len(data_fee_calls(Inclusion.OP_STACK)) == len(told(FEE))
    assert read_data_fee(Inclusion.OP_STACK, told(FEE)) == FEE


def test_before_isthmus_there_is_no_operator_fee() -> None:
    plain = replace(FEE, operator_constant=Wei(0), operator_slope=Wei(0))
    assert read_data_fee(Inclusion.OP_STACK, [*told(FEE)[:5], MISSING, MISSING]) == plain


@pytest.mark.parametrize("at", range(7))
def test_an_unread_parameter_is_an_error_and_never_nothing(at: int) -> None:
    answers = told(FEE)
    answers[at] = MISSING
    with pytest.raises(TransientError, match="cannot be read"):
        read_data_fee(Inclusion.OP_STACK, answers)


def test_a_changed_formula_is_noticed() -> None:
    with pytest.raises(TransientError, match="formula"):
        read_data_fee(Inclusion.OP_STACK, told(FEE, probe=FEE.upper_bound(1_000) + 1))


def test_arbitrums_prices_are_read_in_their_order() -> None:
    answer = CallResult(True, b"".join(n.to_bytes(32, "big") for n in (1, 2, 3, 4, 5, 6)))
    assert read_data_fee(Inclusion.ARBITRUM, [answer]) == ArbitrumFee(Wei(2), Wei(4))
    for wrong in (MISSING, CallResult(True, b""), CallResult(False, answer.data)):
        with pytest.raises(TransientError, match="ArbGasInfo"):
            read_data_fee(Inclusion.ARBITRUM, [wrong])


@pytest.mark.parametrize("inclusion", [Inclusion.AUCTION, Inclusion.FIRST_COME])
def test_elsewhere_nothing_is_asked(inclusion: Inclusion) -> None:
    assert data_fee_calls(inclusion) == ()
    assert read_data_fee(inclusion, []) is None


@pytest.mark.parametrize(
    ("chain_id", "expected"),
    [
        (1, Inclusion.AUCTION),
        (56, Inclusion.AUCTION),
        (10, Inclusion.OP_STACK),
        (8453, Inclusion.OP_STACK),
        (42161, Inclusion.ARBITRUM),
        (31337, Inclusion.AUCTION),
    ],
)
def test_known_chains_have_their_model(chain_id: int, expected: Inclusion) -> None:
    assert default_inclusion(chain_id) is expected


class Node:
    """A node that answers `eth_feeHistory`, counts, and fails on demand."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.fault: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.answer: Any = {
            "reward": [[hex(n * GWEI) for n in range(1, 6)], ["0x0"] * 5],
            "gasUsedRatio": [0.5, 0],
        }

    async def request(self, method: str, params: Sequence[object]) -> Any:
        """Answer one request."""
        assert method == "eth_feeHistory"
        assert params[2] == list(PERCENTILES)
        self.asked.append(int(str(params[1]), 16))
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return self.answer


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_history_is_read_every_few_heads_and_each_while_something_is_bid_on() -> None:
    node = Node()
    histories = FeeHistories(node, lambda _: None)
    for number in range(100, 100 + 2 * EVERY):
        histories.begin(make_head(number), bidding=False)
        histories.begin(make_head(number), bidding=False)
        await settle()
    assert node.asked == [100, 100 + EVERY]
    for number in range(200, 203):
        histories.begin(make_head(number), bidding=True)
        histories.begin(make_head(number), bidding=True)
        await settle()
    assert node.asked[2:] == [200, 201, 202]
    held = histories.latest(make_head(202))
    assert held is not None
    assert held.newest == 202
    assert held.priority_fee(50) == 3 * GWEI  # the empty block says nothing


async def test_history_is_read_while_the_base_fee_rises() -> None:
    node = Node()
    histories = FeeHistories(node, lambda _: None)
    fees = [80, 90, 79, 91, 102, 103, 70, 71]
    for number, fee in enumerate(fees, 100):
        histories.begin(replace(make_head(number), base_fee=Wei(fee)), bidding=False)
        await settle()
    # 90 is an eighth over 80 and no more, 103 an eighth over 91: only more than that tells.
    assert node.asked == [100, 103, 105]


async def test_a_slow_read_is_never_waited_for_and_never_doubled() -> None:
    node = Node()
    node.open.clear()
    histories = FeeHistories(node, lambda _: None)
    for number in (100, 101, 102):
        histories.begin(make_head(number), bidding=True)
        await settle()
        assert histories.latest(make_head(number)) is None
    assert node.asked == [100]
    node.open.set()
    await settle()
    assert histories.latest(make_head(103)) is not None
    await histories.close()


@pytest.mark.parametrize(
    "answer",
    [None, {}, {"reward": None, "gasUsedRatio": []}, {"reward": [["0x1"]], "gasUsedRatio": [1]}],
)
async def test_a_failed_read_is_told_once_and_the_old_history_ends(answer: Any) -> None:
    node, faults = Node(), list[Exception]()
    histories = FeeHistories(node, faults.append)
    histories.begin(make_head(100), bidding=True)
    await settle()
    node.answer = answer
    for number in (101, 102):
        histories.begin(make_head(number), bidding=True)
        await settle()
    node.fault = RpcError("eth_feeHistory", -32601, "unknown")
    histories.begin(make_head(103), bidding=True)
    await settle()
    assert len(faults) == 1
    assert histories.latest(make_head(100 + OLDEST)) is not None
    assert histories.latest(make_head(101 + OLDEST)) is None
    assert histories.latest(make_head(99)) is None


def won(plan: Plan, *lost: bytes) -> tuple[bool, ...]:
    contest = Contest()
    contest.sent([plan])
    contest.settled(included(plan, *lost))
    return tuple(each.won for each in contest.record.outcomes)


def test_a_share_is_what_is_paid_of_what_it_would_bring() -> None:
    # priority: 400,000 gas at a gwei and 2,000 dollars, 0.80 dollars of 40.80; tip 0.01 ether, 20
    plan = Plans().make(address("one"))
    assert bid_shares(plan) == {plan.quotes[0].key: Bps(8_000 * 10_000 // 408_000)}
    tipped = replace(plan, tips=(Wei(10**16),), bid=replace(plan.bid, tip=Wei(10**16)))
    assert bid_shares(tipped) == {plan.quotes[0].key: Bps(208_000 * 10_000 // 408_000)}
    assert bid_shares(replace(plan, prices={})) == {}
    assert ZERO_ADDRESS in plan.prices


def test_who_was_liquidated_was_won_and_who_was_gone_was_lost() -> None:
    plan = Plans().make(address("one"), address("two"))
    assert won(plan) == (True, True)
    assert won(plan, address("two")) == (True, False)


def test_failed_plans_are_lost_and_dropped_or_cancelled_ones_say_nothing() -> None:
    contest, made = Contest(), [Plans(n).make() for n in range(4)]
    contest.sent(made)
    contest.settled(Reverted(made[0].id, tx_of(made[0]), 1, 1, Wei(1), "gone"))
    contest.settled(Replaced(made[1].id, tx_of(made[1]), tx_of(made[2])))
    contest.settled(Cancelled(made[1].id, tx_of(made[1]), tx_of(made[1])))
    contest.settled(Cancelled(made[1].id, tx_of(made[1]), tx_of(made[1])))
    contest.settled(Dropped(made[2].id, None, "refused"))
    contest.settled(included(made[3]))
    contest.settled(included(Plans(9).make()))  # not one of ours
    assert [each.won for each in contest.record.outcomes] == [False, True]


def test_an_outcome_is_of_the_way_its_transaction_took() -> None:
    contest, made = Contest(["two", "one"]), [Plans(n).make() for n in range(3)]
    contest.sent(made)
    contest.settled(replace(included(made[0]), relay="one+two"))
    contest.settled(included(made[1]))
    contest.lost(made[2].id, "two")
    contest.settled(replace(included(made[2]), relay="one"))  # told once
    record = contest.record
    assert [(each.relay, each.won) for each in record.outcomes] == [
        ("one+two", True),
        ("", True),
        ("two", False),
    ]
    assert (record.of("two").losses(), record.of("one").wins()) == (1, 0)
    assert record.of(record.way).outcomes == record.outcomes[:1]


def test_a_record_is_bounded_and_restored() -> None:
    contest, plan = Contest(), Plans().make(address("one"), address("two"))
    contest.restore([(plan, [plan.quotes[1].key], "")] * KEPT)
    assert len(contest.record.outcomes) == KEPT
    assert [each.won for each in contest.record.outcomes[:2]] == [False, True]
    contest.sent(replace(plan, id=str(n)) for n in range(2 * KEPT))
    contest.settled(Dropped("0", None, ""))
    assert len(contest._waiting) == KEPT


async def test_a_view_is_completed_with_all_of_it() -> None:
    node, contest = Node(), Contest()
    plan = Plans().make(address("one"))
    contest.restore([(plan, [plan.quotes[0].key], "flashbots+titan")])
    conditions = Conditions(Inclusion.OP_STACK, FeeHistories(node, lambda _: None), contest)
    head = make_head(100)
    conditions.begin(head)
    await settle()
    seen = conditions.complete(make_view(head, (address("one"),)), told(FEE))
    assert seen.inclusion is Inclusion.OP_STACK
    assert seen.data_fee == FEE
    assert seen.fee_history is not None
    assert seen.bid_record.outcomes == (BidOutcome(Bps(196), True, "flashbots+titan"),)
    conditions.begin(make_head(101))  # at risk, and nobody bids
    await settle()
    assert node.asked == [100]
    conditions.bid([(make_quote(address("one")), Bid(Wei(1), Wei(2), deadline=102))])
    conditions.begin(make_head(102))
    await settle()
    assert node.asked == [100, 102]
    conditions.bid([])
    conditions.begin(make_head(103))
    await settle()
    assert node.asked == [100, 102]
    with pytest.raises(TransientError):
        conditions.complete(make_view(head), [MISSING] * 7)
