"""The executor against a node in memory: nonces, refusals, lost answers, restarts."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from eth_hash.auto import keccak

from keeper.errors import InvariantError, RpcError, TransientError
from keeper.execution.bump import bumped_up
from keeper.execution.executor import Executor
from keeper.execution.settlement import DecodeRuns
from keeper.execution.signer import KeySigner
from keeper.execution.wallet import CANCEL_GAS, SILENT_SECONDS
from keeper.ports import Signer
from keeper.types import (
    OUTRUN,
    Dropped,
    Head,
    Holding,
    Hop,
    Included,
    Plan,
    Portion,
    Reason,
    Replaced,
    Reverted,
    Skip,
)
from keeper.units import USD, Address, Hash, Wei, to_hex
from tests.fake_node import (
    Events,
    FakeAdmission,
    FakeClock,
    FakeJournal,
    FakeNode,
    FakeRun,
    decode_runs,
    no_answer,
    nonce_of,
)
from tests.plans import OPERATOR_KEY, USDC, Plans, address, make_head

OTHER_KEY = keccak(b"another lane")


@dataclass
class Bench:
    """An executor with everything it stands on."""

    node: FakeNode = field(default_factory=FakeNode)
    journal: FakeJournal = field(default_factory=FakeJournal)
    admission: FakeAdmission = field(default_factory=FakeAdmission)
    events: Events = field(default_factory=Events)
    clock: FakeClock = field(default_factory=FakeClock)
    plans: Plans = field(default_factory=Plans)
    canonical: Callable[[Head], bool] = lambda _: True
    keys: tuple[bytes, ...] = (OPERATOR_KEY,)
    decode: DecodeRuns = decode_runs

    async def start(
        self, *, live: bool = True, draft: Callable[[Plan], None] = lambda _: None
    ) -> Executor:
        """Return a started executor; a second call is a restart over the same journal."""
        executor = Executor(
            "test",
            31337,
            self.node,
            [KeySigner(key) for key in self.keys],
            self.journal,
            self.admission,
            self.decode,
            lambda data: f"explained {data.hex()}",
            self.is_canonical,
            self.clock,
            self.events,
            live=live,
            draft=draft,
            sleep=self.sleep,
        )
        await executor.start()
        return executor

    def is_canonical(self, head: Head) -> bool:
        """Ask what the test set last."""
        return self.canonical(head)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds


@pytest.fixture
def bench() -> Bench:
    """Return a fresh bench."""
    return Bench()


def refuse_once(text: str, code: int = -32000) -> Callable[[bytes], None]:
    """Refuse the first transaction."""
    left = [text]

    def refuse(_: bytes) -> None:
        if left:
            raise RpcError("eth_sendRawTransaction", code, left.pop())

    return refuse


async def test_plans_of_one_head_take_consecutive_nonces(bench: Bench) -> None:
    bench.node.mined = 7
    executor = await bench.start()
    sent, skips = await executor.send([bench.plans.make() for _ in range(3)])
    assert len(sent) == 3
    assert not skips
    assert [nonce_of(raw) for raw in bench.node.sent] == [7, 8, 9]


async def test_the_bytes_are_on_record_before_the_node_has_them(bench: Bench) -> None:
    executor = await bench.start()
    order: list[str] = []
    bench.node.refuse = lambda _: order.extend(name for name, _ in bench.journal.rows)
    await executor.send([bench.plans.make()])
    assert order == ["planned", "signed"]


async def test_an_included_plan_is_valued_by_its_own_prices(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.plans.make(address("one"), address("two"))
    bench.node.liquidations = 2
    await executor.send([plan])
    assert executor.in_flight() == {quote.opportunity.key for quote in plan.quotes}
    (receipt,) = await executor.follow(bench.node.mine(gas_used=400_000))
    assert isinstance(receipt, Included)
    # 400,000 gas at 2 gwei and 2,000 USD
    assert receipt.gas_cost_usd == 1_60000000
    assert receipt.revenue_usd == 80_80000000
    assert receipt.net_usd == 79_20000000
    name, fields = bench.events.seen[-1]
    assert name == "plan.included"
    assert fields["estimate_error_bps"] == -100
    assert executor.in_flight() == frozenset()
    assert bench.admission.settled == [receipt]


async def test_nothing_pending_asks_nothing(bench: Bench) -> None:
    executor = await bench.start()
    bench.node.requests.clear()
    assert await executor.follow(bench.node.mine()) == []
    assert not bench.node.requests


async def test_a_hot_send_asks_only_for_the_send(bench: Bench) -> None:
    executor = await bench.start()
    bench.node.requests.clear()
    await executor.send([bench.plans.make()])
    assert bench.node.requests == {"eth_sendRawTransaction": 1}


async def test_a_refused_nonce_goes_to_the_next_plan(bench: Bench) -> None:
    executor = await bench.start()
    bench.node.refuse = refuse_once("transaction underpriced")
    first, second = bench.plans.make(), bench.plans.make()
    sent, skips = await executor.send([first, second])
    assert not sent, "the second was proven behind the first"
    assert [(skip.reason, skip.borrower) for skip in skips] == [
        (Reason.GAS_CAP, first.quotes[0].opportunity.position.borrower),
        (Reason.TIMEOUT, second.quotes[0].opportunity.position.borrower),
    ]
    assert await executor.send([second]) == ([second], [])
    assert [nonce_of(raw) for raw in bench.node.sent] == [0, 0]
    assert list(bench.node.pool) == [0]
    assert bench.events.names == ["plan.refused", "plan.dropped", "plan.submitted"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonce too low", Reason.IN_FLIGHT),
        ("replacement transaction underpriced", Reason.IN_FLIGHT),
        ("transaction underpriced: tip needed 1", Reason.GAS_CAP),
        ("max fee per gas less than block base fee", Reason.GAS_CAP),
        ("insufficient funds for gas * price + value", Reason.CAPITAL),
        ("Insufficient funds for gas * price + value", Reason.CAPITAL),
        ("intrinsic gas too high", Reason.SIMULATION_FAILED),
        ("tx fee (1.20 ether) exceeds the configured cap (1.00 ether)", Reason.SIMULATION_FAILED),
        ("GasLimitExceeded, Gas limit: 30000000", Reason.SIMULATION_FAILED),
        ("unknown transaction type", Reason.SIMULATION_FAILED),
        ("transaction type not supported", Reason.SIMULATION_FAILED),
    ],
)
async def test_refusals_are_told_apart(bench: Bench, text: str, reason: Reason) -> None:
    executor = await bench.start()
    bench.node.refuse = refuse_once(text)
    sent, skips = await executor.send([bench.plans.make()])
    assert not sent
    assert [skip.reason for skip in skips] == [reason]
    assert executor.pending == 0
    assert isinstance(bench.journal.rows[-1][1], Dropped)
    assert bench.admission.settled


async def test_nonce_too_low_starts_the_line_over(bench: Bench) -> None:
    executor = await bench.start()
    bench.node.mined = 4
    first, second = bench.plans.make(), bench.plans.make()
    assert (await executor.send([first]))[0] == []
    assert (await executor.send([second]))[0] == [second]
    assert [nonce_of(raw) for raw in bench.node.sent] == [0, 4]


@pytest.mark.parametrize("text", ["transaction already imported", "known transaction: 0x12"])
async def test_already_known_is_success(bench: Bench, text: str) -> None:
    executor = await bench.start()
    bench.node.refuse = refuse_once(text)
    sent, skips = await executor.send([bench.plans.make()])
    assert len(sent) == 1
    assert not skips


async def test_a_lost_answer_counts_as_sent_and_holds_the_rest_back(bench: Bench) -> None:
    executor = await bench.start()
    bench.node.refuse = no_answer
    plans = [bench.plans.make() for _ in range(3)]
    sent, skips = await executor.send(plans)
    assert sent == plans[:1]
    assert [skip.reason for skip in skips] == [Reason.TIMEOUT, Reason.TIMEOUT]
    assert len(bench.node.sent) == 1
    assert executor.pending == 1
    bench.node.refuse = None
    assert await executor.follow(bench.node.head) == []
    assert bench.node.sent == [bench.node.sent[0]] * 2, "the same bytes, never others"
    (receipt,) = await executor.follow(bench.node.mine())
    assert isinstance(receipt, Included)


async def test_same_bytes_again_after_three_blocks_without_receipt(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make()])
    bench.node.pool.clear()
    for _ in range(3):
        assert len(bench.node.sent) == 1
        await executor.follow(bench.node.mine())
    assert bench.node.sent == [bench.node.sent[0]] * 2
    (receipt,) = await executor.follow(bench.node.mine())
    assert isinstance(receipt, Included)


async def test_a_gone_transaction_past_its_deadline_frees_nonce_and_position(bench: Bench) -> None:
    executor = await bench.start()
    borrower = address("one")
    head = bench.node.head
    await executor.send([bench.plans.make(borrower, deadline=head.timestamp + 12)])
    bench.node.pool.clear()
    for _ in range(2):
        await executor.follow(bench.node.mine())
    assert "plan.abandoned" in bench.events.names
    assert executor.in_flight() == frozenset()
    again = bench.plans.make(borrower, head=bench.node.head)
    sent, _ = await executor.send([again])
    assert sent == [again]
    assert [nonce_of(raw) for raw in bench.node.sent] == [0, 0]
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Included, Replaced]
    assert executor.pending == 0


async def test_an_answer_nobody_can_read_leaves_nothing_reserved(bench: Bench) -> None:
    first, second = bench.plans.make(), bench.plans.make()
    bench.node.balance = 2 * first.worst_cost
    executor = await bench.start()
    bench.node.answering = lambda method, _: "0xzz" if method == "eth_getBalance" else None
    with pytest.raises(ValueError, match="invalid literal"):
        await executor.send([first, second])
    assert bench.admission.admitted == [first.id]
    assert [receipt.plan_id for receipt in bench.admission.settled] == [first.id]
    assert bench.node.sent == []


async def test_a_receipt_the_node_cannot_tell_is_not_lost(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=2_000_000_000)])

    def indexing(method: str, params: Sequence[Any]) -> Any:
        if method == "eth_getTransactionReceipt":
            raise RpcError(method, -32000, "transaction indexing is in progress")
        return None

    bench.node.answering = indexing
    for _ in range(6):
        assert await executor.follow(bench.node.mine()) == []
    assert "nonce.foreign" not in bench.events.names
    bench.node.answering = None
    (receipt,) = await executor.follow(bench.node.head)
    assert isinstance(receipt, Included)


async def test_receipts_that_lagged_once_and_are_not_told_since_are_not_lost(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=2_000_000_000)])
    made = make_head(bench.node.mine().number)
    bench.node.receipts.clear()

    def indexing(method: str, params: Sequence[Any]) -> Any:
        if method == "eth_getTransactionReceipt":
            raise RpcError(method, -32000, "transaction indexing is in progress")
        return None

    for number in range(3):  # blocks of a quarter of a second
        head = replace(made, number=made.number + number)
        assert await executor.follow(head) == []
    bench.node.answering = indexing
    for seconds in range(1, 9):
        head = replace(made, number=made.number + 3 + seconds, timestamp=made.timestamp + seconds)
        assert await executor.follow(head) == [], "no answer says nothing"
    assert "nonce.foreign" not in bench.events.names


async def test_a_nonce_used_by_a_stranger_is_noticed(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make()])
    head = bench.node.foreign()
    receipts = []
    for _ in range(3):
        receipts = await executor.follow(head)
        head = bench.node.mine()
    (receipt,) = receipts
    assert isinstance(receipt, Dropped)
    assert "not ours" in receipt.reason
    ((_, fields),) = [each for each in bench.events.seen if each[0] == "nonce.foreign"]
    (wallet,) = executor._lanes
    assert (fields["wallet"], fields["nonce"]) == (wallet.address, 0)
    await executor.send([bench.plans.make()])
    assert nonce_of(bench.node.sent[-1]) == 1


async def test_ether_that_was_moved_out_is_noticed(bench: Bench) -> None:
    executor = await bench.start()
    (wallet,) = executor._lanes
    bench.node.balance = 10**15
    bench.node.refuse = refuse_once("insufficient funds for gas * price + value")
    assert (await executor.send([bench.plans.make()]))[0] == []
    assert wallet.balance == 10**15, "the node said so"
    bench.node.balance = 10 * 10**18
    assert len((await executor.send([bench.plans.make()]))[0]) == 1
    bench.node.balance = 10**15
    head = bench.node.foreign()
    for _ in range(3):
        await executor.follow(head)
        head = make_head(head.number + 1)
    assert "nonce.foreign" in bench.events.names
    assert wallet.balance == 10**15, "whoever used its nonce may have moved it"


async def test_a_refill_that_was_read_already_is_not_counted_again(bench: Bench) -> None:
    bench.decode = lambda logs, contract: [
        replace(run, refill=10**18) for run in decode_runs(logs, contract)
    ]
    executor = await bench.start()
    (wallet,) = executor._lanes
    await executor.send([bench.plans.make()])
    head = bench.node.mine()
    bench.node.balance = 11 * 10**18
    assert await wallet.covers(Wei(wallet.balance + 1)), "a look between the block and its receipt"
    (receipt,) = await executor.follow(head)
    assert isinstance(receipt, Included)
    assert receipt.refill == 10**18
    assert wallet.balance == 11 * 10**18
    await executor.send([bench.plans.make()])
    bench.node.answering = lambda method, _: no_answer(b"") if method == "eth_getBalance" else None
    await executor.follow(bench.node.mine())
    assert wallet.balance < 11 * 10**18, "it is not counted before it was read"


@pytest.mark.parametrize("is_read", [False, True])
async def test_a_refill_that_a_reorg_undoes_is_taken_off_only_if_it_was_read(
    bench: Bench, is_read: bool
) -> None:
    bench.decode = lambda logs, contract: [
        replace(run, refill=10**18) for run in decode_runs(logs, contract)
    ]
    executor = await bench.start()
    (wallet,) = executor._lanes
    held = wallet.balance
    await executor.send([bench.plans.make()])
    head = bench.node.mine()
    bench.node.balance = held + 10**18
    if not is_read:
        bench.node.answering = lambda method, _: (
            no_answer(b"") if method == "eth_getBalance" else None
        )
    await executor.follow(head)
    assert (wallet.balance > held) is is_read
    bench.node.undo()
    bench.node.balance = held
    await executor.follow(make_head(head.number, "fork"))
    assert "plan.reorged" in bench.events.names
    assert wallet.balance == held


async def test_a_stranger_in_the_pool_is_stepped_over(bench: Bench) -> None:
    bench.node.pool[0] = b"stranger"
    executor = await bench.start()
    await executor.send([bench.plans.make()])
    assert nonce_of(bench.node.sent[-1]) == 1


async def test_a_revert_is_explained_from_the_parent_state(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make()])
    bench.node.revert_data = keccak(b"Expired()")[:4]
    (receipt,) = await executor.follow(bench.node.mine(status=0))
    assert isinstance(receipt, Reverted)
    assert receipt.reason == f"explained {keccak(b'Expired()')[:4].hex()}"
    assert receipt.gas_cost_usd == 1_60000000


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (RpcError("eth_call", 3, "execution reverted", b"\1\2\3\4"), OUTRUN),
        (RpcError("eth_call", -32000, "header not found"), "not known: header not found"),
        ("0x", "it holds on the states before and after its block: it fails on the chain only"),
    ],
)
async def test_who_was_faster_is_told_from_what_fails_on_the_chain_only(
    bench: Bench, after: object, reason: str
) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make()])
    head = bench.node.mine(status=0)

    def answer(method: str, params: Sequence[object]) -> object:
        if method == "eth_call" and params[1] == hex(head.number):
            if isinstance(after, RpcError):
                raise after
            return after
        return None

    bench.node.answering = answer
    (receipt,) = await executor.follow(head)
    assert isinstance(receipt, Reverted)
    assert receipt.reason == reason


async def test_what_fails_again_and_again_is_held_back_for_longer_each_time(bench: Bench) -> None:
    executor = await bench.start()
    key = ("aave-v3", address("one"))
    pauses = []
    for _ in range(3):
        sent, _ = await executor.send([bench.plans.make(key[1], deadline=2_000_000_000)])
        assert len(sent) == 1
        head = bench.node.mine(status=0)
        (receipt,) = await executor.follow(head)
        assert isinstance(receipt, Reverted)
        pauses.append(0)
        while key in executor.cooling(head):
            head = bench.node.mine()
            assert await executor.follow(head) == []
            pauses[-1] += 1
    assert pauses == [0, 4, 16], "at once after the first: a simulation held at a newer head"
    await executor.send([bench.plans.make(key[1], deadline=2_000_000_000)])
    (receipt,) = await executor.follow(bench.node.mine())
    assert isinstance(receipt, Included)
    await executor.send([bench.plans.make(key[1], deadline=2_000_000_000)])
    await executor.follow(bench.node.mine(status=0))
    assert executor.cooling(bench.node.head) == frozenset(), "what went through begins anew"


async def test_what_fails_beside_others_that_hold_is_held_back_too(bench: Bench) -> None:
    executor = await bench.start()
    good, poisoned = ("aave-v3", address("good")), ("aave-v3", address("poisoned"))
    cooling = []
    for _ in range(2):
        plan = bench.plans.make(good[1], poisoned[1], deadline=2_000_000_000)
        assert len((await executor.send([plan]))[0]) == 1
        head = bench.node.mine()
        (receipt,) = await executor.follow(head)
        assert isinstance(receipt, Included)
        assert [item.ok for item in receipt.items] == [True, False]
        cooling.append(executor.cooling(head))
    assert cooling == [frozenset(), {poisoned}]
    bench.node.liquidations = 2
    assert len((await executor.send([bench.plans.make(good[1], poisoned[1])]))[0]) == 1
    await executor.follow(bench.node.mine())
    assert executor.cooling(bench.node.head) == frozenset(), "it held: it begins anew"


async def test_a_revert_for_want_of_gas_says_so(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.plans.make()
    await executor.send([plan])
    (receipt,) = await executor.follow(bench.node.mine(status=0, gas_used=plan.gas_limit))
    assert isinstance(receipt, Reverted)
    assert "out of gas" in receipt.reason


async def test_restart_follows_what_was_sent(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.plans.make()
    await executor.send([plan])
    restarted = await bench.start()
    assert restarted.in_flight() == {plan.quotes[0].opportunity.key}
    _, skips = await restarted.send(
        [bench.plans.make(plan.quotes[0].opportunity.position.borrower)]
    )
    assert [skip.reason for skip in skips] == [Reason.IN_FLIGHT]
    await restarted.send([bench.plans.make()])
    assert [nonce_of(raw) for raw in bench.node.sent] == [0, 1]
    receipts = await restarted.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Included, Included]


async def test_restart_hands_over_what_was_only_signed(bench: Bench) -> None:
    executor = await bench.start()

    def die(_: bytes) -> None:
        raise KeyboardInterrupt

    bench.node.refuse = die
    with pytest.raises(KeyboardInterrupt):
        await executor.send([bench.plans.make()])
    bench.node.refuse = None
    restarted = await bench.start()
    await restarted.follow(bench.node.head)
    assert bench.node.sent == [bench.node.sent[0]] * 2
    (receipt,) = await restarted.follow(bench.node.mine())
    assert isinstance(receipt, Included)


async def test_a_plan_on_a_reorged_head_is_not_sent(bench: Bench) -> None:
    executor = await bench.start()
    bench.canonical = lambda head: head.hash != make_head(100).hash
    kept = bench.plans.make(head=make_head(100, "fork"))
    sent, skips = await executor.send([bench.plans.make(), kept])
    assert sent == [kept]
    assert [skip.detail for skip in skips] == ["its head was reorged out"]


async def test_a_reorg_while_signing_stops_the_send(bench: Bench) -> None:
    executor = await bench.start()
    answers = iter([True, False])
    bench.canonical = lambda _: next(answers)
    sent, skips = await executor.send([bench.plans.make()])
    assert not sent
    assert not bench.node.sent
    assert [skip.reason for skip in skips] == [Reason.TIMEOUT]
    assert not bench.journal.open


async def test_gas_of_everything_in_flight_must_be_covered(bench: Bench) -> None:
    plan = bench.plans.make()
    bench.node.balance = 5 * plan.gas_limit * plan.fees.max_fee // 2
    executor = await bench.start()
    sent, skips = await executor.send([plan, bench.plans.make(), bench.plans.make()])
    assert len(sent) == 2
    assert [skip.reason for skip in skips] == [Reason.CAPITAL]
    bench.node.balance *= 2
    sent, skips = await executor.send([bench.plans.make()])
    assert len(sent) == 1, "a top-up is noticed"
    assert not skips


async def test_what_a_replacement_and_a_cancel_cost_is_held_back(bench: Bench) -> None:
    plan = bench.plans.make()
    raised = bumped_up(plan.fees.max_fee)
    needed = plan.gas_limit * raised + CANCEL_GAS * bumped_up(raised)
    assert plan.gas_limit > CANCEL_GAS
    bench.node.balance = needed - 1
    executor = await bench.start()
    sent, skips = await executor.send([plan])
    assert not sent
    assert "a replacement" in skips[0].detail
    assert not bench.node.sent, "before a nonce could stick"
    bench.node.balance = needed
    assert (await executor.send([plan]))[0] == [plan]


async def test_a_sweep_is_refused_as_loudly_as_a_plan(bench: Bench) -> None:
    """Without quotes there is no position to skip: the refusal must not get lost over that."""
    sweep = replace(bench.plans.make(), quotes=(), sweep=Holding(USDC, 10**6))
    executor = await bench.start()
    bench.node.balance = 0
    executor_poor = await bench.start()
    sent, skips = await executor_poor.send([sweep])
    assert (sent, [skip.reason for skip in skips]) == ([], [Reason.CAPITAL])
    bench.admission.refusal = breaker
    sent, skips = await executor.send([sweep])
    assert (sent, [skip.reason for skip in skips]) == ([], [Reason.BREAKER])
    assert not bench.node.sent


async def test_a_refused_admission_skips_every_position(bench: Bench) -> None:
    executor = await bench.start()
    bench.admission.refusal = breaker
    sent, skips = await executor.send([bench.plans.make(address("one"), address("two"))])
    assert not sent
    assert {skip.borrower for skip in skips} == {address("one"), address("two")}
    assert not bench.journal.rows


def breaker(plan: Plan) -> Skip:
    """Refuse a plan."""
    return Skip("aave-v3", "aave-v3", address("one"), Reason.BREAKER, "kill_file: exists")


async def test_dry_mode_neither_signs_nor_sends_nor_repeats_itself(bench: Bench) -> None:
    executor = await bench.start(live=False)
    borrower = address("one")
    assert await executor.send([bench.plans.make(borrower)]) == ([], [])
    assert executor.cooling(make_head(101)) == {("aave-v3", borrower)}
    _, skips = await executor.send([bench.plans.make(borrower, head=make_head(101))])
    assert [skip.reason for skip in skips] == [Reason.COOLDOWN]
    both = bench.plans.make(borrower, address("two"), head=make_head(102))
    _, skips = await executor.send([both])
    assert [skip.borrower for skip in skips] == [borrower]
    await executor.send([bench.plans.make(borrower, head=make_head(125))])
    told = [fields["net_usd"] for name, fields in bench.events.seen if name == "plan.dry"]
    assert told == [40 * USD] * 3
    assert not bench.node.sent
    assert "signed" not in [name for name, _ in bench.journal.rows]


async def test_dry_mode_follows_but_never_rebroadcasts(bench: Bench) -> None:
    await (await bench.start()).send([bench.plans.make()])
    bench.node.pool.clear()
    dry = await bench.start(live=False)
    for _ in range(10):
        await dry.follow(bench.node.mine())
    assert len(bench.node.sent) == 1


async def test_drain_takes_no_plan_and_ends_in_time(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make()])
    before = bench.clock.now
    assert await executor.drain(3) == []
    assert bench.clock.now - before == pytest.approx(3)
    assert len(bench.journal.open) == 1
    _, skips = await executor.send([bench.plans.make()])
    assert [skip.reason for skip in skips] == [Reason.BREAKER]
    bench.node.mine()
    (receipt,) = await executor.drain(3)
    assert isinstance(receipt, Included)
    assert not bench.journal.open


async def test_a_refused_nonce_of_bytes_the_node_has_is_no_refusal(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.plans.make()

    def repeated_by_the_provider(raw: bytes) -> None:
        bench.node.pool[0] = raw
        bench.node.mine()
        raise RpcError("eth_sendRawTransaction", -32000, "nonce too low")

    bench.node.refuse = repeated_by_the_provider
    assert await executor.send([plan]) == ([plan], [])
    bench.node.refuse = None
    (receipt,) = await executor.follow(bench.node.head)
    assert isinstance(receipt, Included)
    assert len(bench.node.sent) == 1


async def test_a_plan_refused_before_its_proof_leaves_those_behind_it(bench: Bench) -> None:
    executor = await bench.start()
    first, second = bench.plans.make(), bench.plans.make()
    bench.admission.refusal = lambda plan: breaker(plan) if plan == first else None
    passed, skips = await executor.screen([first, second])
    assert passed == [second]
    assert [skip.reason for skip in skips] == [Reason.BREAKER]
    assert [receipt.plan_id for receipt in bench.admission.settled] == [second.id], "given back"
    assert not bench.journal.rows
    assert not bench.node.sent


async def test_what_passed_is_drafted_once_it_is_being_proven(bench: Bench) -> None:
    drafted: asyncio.Queue[Plan] = asyncio.Queue()
    executor = await bench.start(draft=drafted.put_nowait)
    plans = [bench.plans.make() for _ in range(3)]
    bench.admission.refusal = lambda plan: breaker(plan) if plan == plans[1] else None
    await executor.screen(plans)
    assert drafted.empty(), "the node is asked first"
    async with asyncio.timeout(5):
        assert [await drafted.get() for _ in range(2)] == [plans[0], plans[2]]


async def test_a_plan_refused_after_its_proof_takes_those_behind_it_along(bench: Bench) -> None:
    executor = await bench.start()
    plans = [bench.plans.make() for _ in range(3)]
    bench.admission.refusal = lambda plan: breaker(plan) if plan == plans[1] else None
    sent, skips = await executor.send(plans)
    assert sent == plans[:1]
    assert [skip.reason for skip in skips] == [Reason.BREAKER, Reason.TIMEOUT]


async def test_a_switch_thrown_between_two_hand_overs_stops_the_second(bench: Bench) -> None:
    executor = await bench.start()
    plans = [bench.plans.make() for _ in range(3)]

    def throw(_: bytes) -> None:
        bench.admission.refusal = breaker

    bench.node.refuse = throw
    sent, skips = await executor.send(plans)
    assert sent == plans[:1]
    assert [skip.reason for skip in skips] == [Reason.BREAKER, Reason.TIMEOUT]
    assert len(bench.node.sent) == 1
    assert len(bench.journal.open) == 1


async def test_a_thrown_switch_stops_rebroadcasts_too(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=2_000_000_000)])
    bench.node.pool.clear()
    bench.admission.refusal = breaker
    for _ in range(4):
        await executor.follow(bench.node.mine())
    assert len(bench.node.sent) == 1
    bench.admission.refusal = None
    await executor.follow(bench.node.mine())
    assert bench.node.sent == [bench.node.sent[0]] * 2


async def test_what_may_still_be_mined_gets_no_second_nonce(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.plans.make(address("one"))
    await executor.send([plan])
    bench.node.pool.clear()
    bench.node.refuse = refuse_once("max fee per gas less than block base fee")
    for _ in range(3):
        await executor.follow(bench.node.mine())
    assert "plan.abandoned" in bench.events.names
    other = bench.plans.make()
    assert await executor.send([other]) == ([other], [])
    assert nonce_of(bench.node.sent[-1]) == 0, "its nonce is free"
    _, skips = await executor.send([bench.plans.make(address("one"))])
    assert [skip.reason for skip in skips] == [Reason.IN_FLIGHT], "its position is not"


async def test_a_reorg_that_undoes_a_transaction_leaves_no_gap(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make()])
    await executor.follow(bench.node.mine())
    bench.node.undo()
    second = bench.plans.make(deadline=2_000_000_000)
    await executor.send([second])
    assert nonce_of(bench.node.sent[-1]) == 1
    for _ in range(3):
        assert await executor.follow(bench.node.mine()) == []
    assert [nonce_of(raw) for raw in bench.node.sent] == [0, 1, 1, 0], "the same bytes"
    receipts = await executor.follow(bench.node.mine())
    assert [type(receipt) for receipt in receipts] == [Included, Included]


async def test_a_plan_whose_gas_has_no_price_is_not_sent(bench: Bench) -> None:
    executor = await bench.start()
    sent, skips = await executor.send([replace(bench.plans.make(), prices={})])
    assert not sent
    assert [skip.reason for skip in skips] == [Reason.NO_PRICE]
    assert not bench.node.sent
    assert not bench.admission.admitted


async def test_a_gain_without_a_price_is_told(bench: Bench) -> None:
    executor = await bench.start()
    plan = bench.plans.make()
    prices = {token: price for token, price in plan.prices.items() if token != USDC.address}
    await executor.send([replace(plan, prices=prices)])
    (receipt,) = await executor.follow(bench.node.mine())
    assert isinstance(receipt, Included)
    assert receipt.revenue_usd == 0
    assert bench.events.seen[-1][1]["unpriced"] == [to_hex(USDC.address)]


async def test_a_receipt_without_a_run_is_booked_and_stops_the_chain_once(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make()])

    def no_run(logs: object, contract: object) -> list[FakeRun]:
        raise ValueError("no runs in its logs")

    executor._tracker._decode = no_run
    with pytest.raises(InvariantError, match="no readable result"):
        await executor.follow(bench.node.mine())
    booked = bench.admission.settled[-1]
    assert isinstance(booked, Included)
    assert booked.net_usd == -1_60000000
    assert not bench.journal.open
    assert (await bench.start()).pending == 0


async def test_what_ended_before_another_one_s_fault_is_told_of(bench: Bench) -> None:
    read: list[object] = []

    def decode(*asked: Any) -> list[FakeRun]:
        read.append(asked)
        if len(read) == 2:
            raise ValueError("nonsense")
        return decode_runs(*asked)

    bench.decode = decode
    executor = await bench.start()
    plans = [bench.plans.make() for _ in range(2)]
    await executor.send(plans)
    with pytest.raises(InvariantError, match="no readable result"):
        await executor.follow(bench.node.mine())
    told = await executor.drain(0)
    assert [receipt.plan_id for receipt in told] == [plans[0].id]


@pytest.mark.parametrize("silent", ["eth_getTransactionReceipt", "eth_getTransactionCount"])
async def test_a_silent_node_does_not_hold_a_head_up(bench: Bench, silent: str) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make()])
    executor._tracker._rpc._seconds = 0.05
    asked = bench.node.request

    async def hang(method: str, params: Sequence[Any]) -> Any:
        if method == silent:
            await asyncio.Event().wait()
        return await asked(method, params)

    bench.node.request = hang  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        assert await executor.follow(make_head(101)) == []
    bench.node.request = asked  # type: ignore[method-assign]
    (receipt,) = await executor.follow(bench.node.mine())
    assert isinstance(receipt, Included)


async def test_a_failing_journal_stops_the_send(bench: Bench) -> None:
    executor = await bench.start()

    async def fail(_: object) -> None:
        raise OSError("disk full")

    bench.journal.signed = fail  # type: ignore[assignment,method-assign]
    with pytest.raises(OSError, match="disk full"):
        await executor.send([bench.plans.make()])
    assert not bench.node.sent
    assert executor.pending == 0


@dataclass
class SecondFails:
    """A signer that fails at its second transaction."""

    signer: Signer
    address: Address
    calls: int = 0

    async def sign(self, transaction: Mapping[str, int | bytes]) -> tuple[bytes, Hash]:
        """Sign, or fail."""
        self.calls += 1
        if self.calls == 2:
            raise InvariantError("signer", "it signs something else")
        return await self.signer.sign(transaction)


async def test_a_signer_that_fails_gives_back_what_was_reserved(bench: Bench) -> None:
    executor = await bench.start()
    plans = [bench.plans.make() for _ in range(3)]
    (wallet,) = executor._lanes
    wallet._signer = SecondFails(wallet._signer, wallet.address)
    with pytest.raises(InvariantError):
        await executor.send(plans)
    given_back = {receipt.plan_id for receipt in bench.admission.settled}
    assert given_back == {plans[1].id, plans[2].id}, "the first is on its way"
    assert executor.pending == 1
    sent, _ = await executor.send([bench.plans.make()])
    assert [nonce_of(raw) for raw in bench.node.sent] == [0, 1]
    assert len(sent) == 1


@dataclass
class Silent:
    """A signer that does not answer until it is told to."""

    signer: Signer
    address: Address
    is_up: bool = False
    calls: int = 0

    async def sign(self, transaction: Mapping[str, int | bytes]) -> tuple[bytes, Hash]:
        """Sign, or give no answer."""
        self.calls += 1
        if not self.is_up:
            raise TransientError("signer x does not answer in 2 s")
        return await self.signer.sign(transaction)


async def test_one_lane_s_silent_signer_does_not_keep_plans_from_the_others(bench: Bench) -> None:
    bench.keys = (OPERATOR_KEY, OTHER_KEY)
    executor = await bench.start()
    silent, other = executor._lanes
    signer = silent._signer = Silent(silent._signer, silent.address)
    first, second = apart(bench.plans.make()), apart(bench.plans.make())
    sent, skips = await executor.send([first, second])
    assert [plan.id for plan in sent] == [second.id], "it is told of what the other lane sent"
    assert [(skip.reason, skip.detail) for skip in skips] == [
        (Reason.TIMEOUT, "not signed: signer x does not answer in 2 s")
    ]
    assert [receipt.plan_id for receipt in bench.admission.settled] == [first.id]
    for _ in range(2):
        sent, skips = await executor.send([bench.plans.make()])
        assert [plan.sender for plan in sent] == [other.address]
    assert signer.calls == 1, "as long as another can"
    assert bench.events.names.count("plan.unsigned") == 1
    assert [lane.is_blocked for lane in executor.lanes] == [True, False]
    signer.is_up = True
    bench.node.pool.clear()  # it knows one sender only
    later = make_head(100 + SILENT_SECONDS // 12)
    sent, _ = await executor.send([replace(bench.plans.make(), head=later)])
    assert [plan.sender for plan in sent] == [silent.address], "it is asked again after a while"
    assert not any(lane.is_blocked for lane in executor.lanes)


def apart(plan: Plan) -> Plan:
    """Return a plan that shares no pool, debt or collateral with another."""
    routes = (Portion((Hop("v3", address(plan.id), USDC.address, address(f"{plan.id}-out")),)),)
    debt = replace(USDC, address=address(f"{plan.id}-debt"))
    quotes = tuple(replace(quote, routes=routes, debt=debt) for quote in plan.quotes)
    return replace(plan, quotes=quotes)


@pytest.mark.parametrize(
    ("told", "fee"),
    [
        ({}, 0),
        ({"l1Fee": hex(5 * 10**15)}, 5 * 10**15),
        ({"gasUsedForL1": hex(90_000)}, 0),
        (
            {"l1Fee": "0x7", "operatorFeeScalar": hex(2_500_000), "operatorFeeConstant": "0x3"},
            10**6,
        ),
        ({"l1Fee": None, "operatorFeeScalar": "0x2", "daFootprintGasScalar": "0x190"}, 8 * 10**7),
        ({"l1Fee": "0x7", "operatorFeeScalar": hex(5), "daFootprintGasScalar": None}, 9),
    ],
    ids=["gas alone", "data fee", "Arbitrum: in the gas", "Isthmus", "Jovian", "told as null"],
)
@pytest.mark.parametrize("status", [0, 1])
async def test_what_a_rollup_charges_beside_gas_is_a_cost_of_its_own(
    bench: Bench, told: dict[str, str | None], fee: int, status: int
) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make()])
    head = bench.node.mine(status=status)
    (answer,) = bench.node.receipts.values()
    answer |= told
    (receipt,) = await executor.follow(head)
    assert isinstance(receipt, Included | Reverted)
    assert receipt.data_fee == fee + (10 if fee == 10**6 else 0)
    assert receipt.gas_paid == 400_000 * 2 * 10**9 + receipt.data_fee
    assert receipt.gas_cost_usd == -(-receipt.gas_paid * 2_000 * USD // 10**18)


async def test_all_versions_of_a_nonce_end_in_one_write(bench: Bench) -> None:
    executor = await bench.start()
    await executor.send([bench.plans.make(deadline=bench.node.head.timestamp + 12)])
    pool, bench.node.pool = bench.node.pool, {}
    heads = [bench.node.mine() for _ in range(2)]
    bench.node.pool = pool
    for head in heads:
        await executor.follow(head)
    assert "plan.cancelling" in bench.events.names
    writes: list[int] = []
    settled = bench.journal.settled

    async def write(*receipts: Any) -> None:
        writes.append(len(receipts))
        await settled(*receipts)

    bench.journal.settled = write  # type: ignore[method-assign]
    await executor.follow(bench.node.mine())
    assert writes == [2]
