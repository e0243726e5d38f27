"""Simulating and proving: what is sent is what passed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from keeper.errors import RpcError, TransientError
from keeper.execution.flight import Key
from keeper.execution.gas import GAS_LIMIT_CAP, gas_limit_up
from keeper.execution.prove import TRIES, Prover
from keeper.execution.simulate import LOOK_HEADS, NOTES, Simulator, Way
from keeper.types import Plan, Reason, Skip, View
from keeper.units import USD, ZERO_ADDRESS, Address, to_hex
from tests.plans import MARKET, OPERATOR_KEY, USDC, WETH, Plans, address, make_head, make_view

assert OPERATOR_KEY
OPERATOR = address("operator")
HEAD = make_head()
VIEW = make_view(HEAD)


@dataclass
class Node:
    """Simulate: each call succeeds, using `gas`, unless its borrower count or calldata says no."""

    gas: int = 300_000
    missing: frozenset[str] = frozenset()
    refuse_overrides: bool = False
    failing: set[str] = field(default_factory=set)
    dying: set[str] = field(default_factory=set)
    requests: list[tuple[str, Sequence[Any]]] = field(default_factory=list)

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """Answer a simulation."""
        self.requests.append((method, params))
        if method in self.missing:
            raise RpcError(method, -32601, "the method does not exist")
        if method == "eth_simulateV1":
            return [
                {
                    "calls": [
                        self.simulated(call) for call in params[0]["blockStateCalls"][0]["calls"]
                    ]
                }
            ]
        if self.refuse_overrides and len(params) > 2:
            raise RpcError(method, -32602, "too many arguments, want at most 3")
        if params[0]["input"] in self.failing:
            raise RpcError(method, 3, "execution reverted", b"\1\2\3\4")
        if params[0]["input"] in self.dying:
            raise RpcError(method, -32000, "out of gas")
        return params[0]["input"]

    def simulated(self, call: Mapping[str, str]) -> dict[str, Any]:
        """Return one call's result; its return data is its input."""
        if call["input"] in self.failing:
            error = {"code": 3, "message": "execution reverted", "data": "0x01020304"}
            return {"status": "0x0", "gasUsed": "0x5208", "returnData": "0x", "error": error}
        return {"status": "0x1", "gasUsed": hex(self.gas), "returnData": call["input"]}


@dataclass(frozen=True)
class Verdict:
    """What settling says."""

    plan: Plan | None
    failed: Mapping[Key, str] = field(default_factory=dict)
    skips: Sequence[Skip] = ()
    undone: frozenset[Key] = frozenset()
    part: Plan | None = None


def position(borrower: Address) -> Key:
    """Return the key of a borrower's position."""
    return MARKET, borrower


def keep(plan: Plan, gas_used: int, result: bytes) -> Verdict:
    """Accept whatever came back for these very bytes."""
    assert result == plan.calldata
    return Verdict(replace(plan, gas=gas_used))


def never(plan: Plan, failed: Mapping[Key, str], view: View) -> Plan | None:
    """Find nothing worth packing again."""
    return None


def prover(
    node: Node,
    settle: Callable[[Plan, int, bytes], Verdict] = keep,
    repack: Callable[[Plan, Mapping[Key, str], View], Plan | None] = never,
) -> Prover[bytes]:
    """Return a prover whose decoding is the identity."""
    return Prover(Simulator(node, OPERATOR), bytes, settle, repack, lambda data: data.hex())


async def test_the_next_block_is_simulated_with_the_transactions_own_fields() -> None:
    node, plan = Node(), Plans().make()
    (result,) = await Simulator(node, OPERATOR).simulate([plan], HEAD, VIEW.next_block)
    assert (result.ok, result.gas_used, result.measured) == (True, 300_000, True)
    ((method, (request, block)),) = node.requests
    assert (method, block) == ("eth_simulateV1", hex(HEAD.number))
    (state,) = request["blockStateCalls"]
    assert state["blockOverrides"] == {
        "number": hex(HEAD.number + 1),
        "time": hex(HEAD.timestamp + 12),
        "baseFeePerGas": hex(VIEW.next_block.base_fee),
    }
    assert state["calls"] == [
        {
            "from": to_hex(OPERATOR),
            "to": to_hex(plan.contract),
            "input": to_hex(plan.calldata),
            "gas": hex(plan.gas_limit),
            "maxFeePerGas": hex(plan.fees.max_fee),
            "maxPriorityFeePerGas": hex(plan.fees.priority_fee),
            "value": "0x0",
        }
    ]


@pytest.mark.parametrize("missing", [frozenset[str](), frozenset({"eth_simulateV1"})])
async def test_only_a_dry_run_gives_its_wallet_money(missing: frozenset[str]) -> None:
    plan = replace(Plans().make(), sender=Address(b"\x51" * 20))
    told: list[Any] = []
    for is_free in (False, True):
        node = Node(missing=missing)
        await Simulator(node, OPERATOR, is_free=is_free).simulate([plan], HEAD, VIEW.next_block)
        params = node.requests[-1][1]
        state = params[2] if missing else params[0]["blockStateCalls"][0].get("stateOverrides", {})
        told.append({who: int(given["balance"], 16) > 10**20 for who, given in state.items()})
    assert told == [{}, {to_hex(plan.sender): True}]


async def test_a_dry_run_on_a_node_without_overrides_names_no_price() -> None:
    node = Node(missing=frozenset({"eth_simulateV1"}), refuse_overrides=True)
    simulator = Simulator(node, OPERATOR, is_free=True)
    await simulator.simulate([Plans().make()], HEAD, VIEW.next_block)
    assert set(node.requests[-1][1][0]) == {"from", "to", "input", "gas", "value"}


async def test_all_plans_of_a_head_go_in_one_request() -> None:
    node, plans = Node(), Plans()
    many = [plans.make() for _ in range(4)]
    results = await Simulator(node, OPERATOR).simulate(many, HEAD, VIEW.next_block)
    assert [result.returndata for result in results] == [plan.calldata for plan in many]
    assert len(node.requests) == 1


async def test_a_node_without_the_method_is_asked_for_it_once() -> None:
    node, plan = Node(missing=frozenset({"eth_simulateV1"})), Plans().make()
    told: list[str] = []
    simulator = Simulator(node, OPERATOR, note=told.append)
    for _ in range(2):
        (result,) = await simulator.simulate([plan], HEAD, VIEW.next_block)
        assert (result.ok, result.gas_used, result.measured) == (True, plan.gas, False)
    assert [method for method, _ in node.requests] == ["eth_simulateV1", "eth_call", "eth_call"]
    assert node.requests[1][1][3]["baseFee"] == hex(VIEW.next_block.base_fee)
    assert simulator.way is Way.OVERRIDE
    assert told == [NOTES[Way.OVERRIDE]]


async def test_a_node_without_overrides_is_asked_plainly() -> None:
    node = Node(missing=frozenset({"eth_simulateV1"}), refuse_overrides=True)
    told: list[str] = []
    simulator = Simulator(node, OPERATOR, note=told.append)
    many = [Plans().make() for _ in range(3)]
    for plans in ([Plans().make()], many):
        results = await simulator.simulate(plans, HEAD, VIEW.next_block)
        assert all(result.ok for result in results)
    assert [len(params) for _, params in node.requests] == [2, 4, 2, 2, 2, 2]
    assert simulator.way is Way.PLAIN
    assert told == [NOTES[Way.OVERRIDE], NOTES[Way.PLAIN]]


@pytest.mark.parametrize("missing", [frozenset[str](), frozenset({"eth_simulateV1"})])
async def test_a_revert_is_a_result_with_its_data(missing: frozenset[str]) -> None:
    plan = Plans().make()
    node = Node(missing=missing, failing={to_hex(plan.calldata)})
    (result,) = await Simulator(node, OPERATOR).simulate([plan], HEAD, VIEW.next_block)
    assert not result.ok
    assert result.error == b"\1\2\3\4"


@pytest.mark.parametrize(
    "words",
    [
        "header not found",
        "missing trie node 1f (path ) state 0x1f is not available, not found",
        "archive requests are not supported on your plan",
    ],
)
async def test_another_error_is_not_taken_for_a_result(words: str) -> None:
    class Limited(Node):
        async def request(self, method: str, params: Sequence[Any]) -> Any:
            raise RpcError(method, -32000, words)

    simulator = Simulator(Limited(), OPERATOR)
    with pytest.raises(TransientError, match=words[:10]):
        await simulator.simulate([Plans().make()], HEAD, VIEW.next_block)
    assert simulator.way is Way.SIMULATE, "the next head is simulated as before"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-32601, "no"),
        (-32004, "no"),
        (-32000, "the method eth_simulateV1 does not exist/is not available"),
        (-32600, "Unsupported method: eth_simulateV1"),
        (0, "Method not found"),
    ],
)
async def test_a_missing_method_is_told_by_its_code_or_its_name(code: int, words: str) -> None:
    class Lesser(Node):
        async def request(self, method: str, params: Sequence[Any]) -> Any:
            if method == "eth_simulateV1":
                raise RpcError(method, code, words)
            return await super().request(method, params)

    simulator = Simulator(Lesser(), OPERATOR)
    (result,) = await simulator.simulate([Plans().make()], HEAD, VIEW.next_block)
    assert result.ok
    assert simulator.way is Way.OVERRIDE


async def test_a_node_that_can_do_more_by_now_is_found_out() -> None:
    node, told = Node(missing=frozenset({"eth_simulateV1"})), list[str]()
    simulator = Simulator(node, OPERATOR, note=told.append)
    heads = [make_head(HEAD.number + after) for after in (0, LOOK_HEADS - 1, LOOK_HEADS)]
    for head in heads:
        await simulator.simulate([Plans().make()], head, VIEW.next_block)
    asked = [method for method, _ in node.requests]
    assert asked == ["eth_simulateV1", "eth_call", "eth_call", "eth_simulateV1", "eth_call"]
    assert told == [NOTES[Way.OVERRIDE]]
    node.missing = frozenset()
    later = make_head(HEAD.number + 2 * LOOK_HEADS)
    (result,) = await simulator.simulate([Plans().make()], later, VIEW.next_block)
    assert result.measured
    assert simulator.way is Way.SIMULATE


async def test_what_runs_out_of_gas_alone_leaves_the_others_simulated() -> None:
    plans = Plans()
    good, bad = plans.make(address("good")), plans.make(address("bad"))
    node = Node(missing=frozenset({"eth_simulateV1"}), dying={to_hex(bad.calldata)})
    results = await Simulator(node, OPERATOR).simulate([good, bad], HEAD, VIEW.next_block)
    assert [result.ok for result in results] == [True, False]
    assert results[1].message == "out of gas"


async def test_a_plan_that_holds_is_proven_with_one_request() -> None:
    node, plan = Node(), Plans().make()
    proven, skips = await prover(node).prove([plan], VIEW)
    assert [one.calldata for one in proven] == [plan.calldata]
    assert proven[0].gas == 300_000
    assert not skips
    assert len(node.requests) == 1


async def test_a_proven_plan_carries_the_prices_of_its_head() -> None:
    (plan,), _ = await prover(Node()).prove([replace(Plans().make(), prices={})], VIEW)
    assert plan.prices == {
        ZERO_ADDRESS: 2_000 * USD,
        WETH.address: 2_000 * USD,
        USDC.address: USD,
    }


async def test_too_little_gas_is_raised_and_proven_again() -> None:
    node = Node(gas=590_000)
    (plan,), _ = await prover(node).prove([Plans().make()], VIEW)
    assert plan.gas_limit == gas_limit_up(590_000) > 600_000
    gas = [params[0]["blockStateCalls"][0]["calls"][0]["gas"] for _, params in node.requests]
    assert gas == [hex(600_000), hex(plan.gas_limit)]


async def test_a_failed_item_is_packed_out_and_the_new_bytes_are_proven() -> None:
    plans = Plans()
    good, bad = address("good"), address("bad")
    plan, without = plans.make(good, bad), plans.make(good)

    def settle(one: Plan, gas_used: int, result: bytes) -> Verdict:
        return (
            Verdict(None, {position(bad): "paused"})
            if result == plan.calldata
            else keep(one, gas_used, result)
        )

    def repack(one: Plan, failed: Mapping[Key, str], view: View) -> Plan:
        assert set(failed) == {position(bad)}
        return without

    node = Node()
    proven, skips = await prover(node, settle, repack).prove([plan], VIEW)
    assert [one.calldata for one in proven] == [without.calldata]
    assert [(skip.borrower, skip.reason, skip.detail) for skip in skips] == [
        (bad, Reason.SIMULATION_FAILED, "paused")
    ]
    assert len(node.requests) == 2


async def test_a_change_in_one_plan_proves_those_behind_it_again() -> None:
    plans = Plans()
    first, second = plans.make(), plans.make()
    node = Node(failing={to_hex(first.calldata)})
    proven, skips = await prover(node).prove([first, second], VIEW)
    assert [one.id for one in proven] == [second.id]
    assert [skip.detail for skip in skips] == ["01020304"]
    calls = [params[0]["blockStateCalls"][0]["calls"] for _, params in node.requests]
    assert [len(one) for one in calls] == [2, 1]


async def test_nothing_worth_packing_again_skips_everyone() -> None:
    good, bad = address("good"), address("bad")
    verdict = Verdict(None, {position(bad): "paused"})
    proven, skips = await prover(Node(), lambda *_: verdict).prove([Plans().make(good, bad)], VIEW)
    assert not proven
    assert {(skip.borrower, skip.reason) for skip in skips} == {
        (good, Reason.UNPROFITABLE),
        (bad, Reason.SIMULATION_FAILED),
    }


async def test_a_plan_that_never_stops_changing_is_left_for_the_next_head() -> None:
    plans = Plans()
    steady, restless = plans.make(address("steady")), plans.make(address("restless"))

    def settle(one: Plan, gas_used: int, result: bytes) -> Verdict:
        if one.id == steady.id:
            return keep(one, gas_used, result)
        return Verdict(replace(one, calldata=one.calldata + b"!"))

    node = Node()
    proven, skips = await prover(node, settle).prove([steady, restless], VIEW)
    assert [one.id for one in proven] == [steady.id]
    assert [(skip.borrower, skip.reason) for skip in skips] == [
        (address("restless"), Reason.TIMEOUT)
    ]
    assert len(node.requests) == 4


async def test_return_data_of_something_else_is_a_skip() -> None:
    def garbage(_: bytes) -> bytes:
        raise ValueError("not an answer of the liquidator")

    shaky = Prover(Simulator(Node(), OPERATOR), garbage, keep, never, lambda data: data.hex())
    proven, skips = await shaky.prove([Plans().make()], VIEW)
    assert not proven
    assert [skip.detail for skip in skips] == ["not an answer of the liquidator"]


def test_no_gas_limit_exceeds_the_protocols() -> None:
    assert gas_limit_up(16_000_000) == GAS_LIMIT_CAP == 16_777_216


def batch(plans: Plans, count: int) -> Plan:
    return plans.make(*(address(f"borrower-{number}") for number in range(count)))


def without(plans: Plans) -> Callable[[Plan, Mapping[Key, str], View], Plan | None]:
    """Return what packs a plan again: its bytes name who is in it."""

    def repack(plan: Plan, failed: Mapping[Key, str], view: View) -> Plan | None:
        kept = [quote for quote in plan.quotes if quote.opportunity.key not in failed]
        if not kept:
            return None
        data = b"".join(quote.opportunity.position.borrower for quote in kept)
        return replace(plans.make(), quotes=tuple(kept), calldata=data)

    return repack


@dataclass
class Poisoned(Node):
    """Reverts whenever one of some borrowers is in a batch."""

    poison: frozenset[Address] = frozenset()

    def simulated(self, call: Mapping[str, str]) -> dict[str, Any]:
        """Fail a batch with poison in it as a whole."""
        data = bytes.fromhex(call["input"][2:])
        self.failing = {call["input"]} if any(data.find(who) >= 0 for who in self.poison) else set()
        return super().simulated(call)


@pytest.mark.parametrize("poison", [{0}, {7}, {19}, {3, 16}])
async def test_who_brings_a_batch_down_is_found_and_the_rest_is_proven(poison: set[int]) -> None:
    plans = Plans()
    whole = batch(plans, 20)
    repack = without(plans)
    whole = replace(whole, calldata=b"".join(q.opportunity.position.borrower for q in whole.quotes))
    bad = frozenset(address(f"borrower-{number}") for number in poison)
    node = Poisoned(poison=bad)
    proven, skips = await prover(node, keep, repack).prove([whole], VIEW)
    (plan,) = proven
    assert len(plan.quotes) == 20 - len(poison)
    assert {skip.borrower for skip in skips} == bad
    assert {skip.detail for skip in skips} == {"01020304"}
    assert {skip.reason for skip in skips} == {Reason.SIMULATION_FAILED}
    assert len(node.requests) <= 2 + (10 if len(poison) == 1 else TRIES)


async def test_a_batch_that_fails_whoever_is_in_it_costs_a_bounded_number_of_simulations() -> None:
    plans = Plans()
    everyone = [address(f"borrower-{number}") for number in range(20)]
    whole = replace(batch(plans, 20), calldata=b"".join(everyone))
    node = Poisoned(poison=frozenset(everyone))
    proven, skips = await prover(node, keep, without(plans)).prove([whole], VIEW)
    assert not proven
    assert {skip.borrower for skip in skips} == set(everyone)
    assert len(skips) == 20
    assert len(node.requests) <= 1 + TRIES


async def test_a_group_that_is_undone_gives_up_only_who_undid_it() -> None:
    plans = Plans()
    whole, bad = batch(plans, 8), address("borrower-5")
    whole = replace(whole, calldata=b"".join(q.opportunity.position.borrower for q in whole.quotes))

    def settle(plan: Plan, gas_used: int, result: bytes) -> Verdict:
        everyone = {quote.opportunity.key for quote in plan.quotes}
        if position(bad) not in everyone:
            return keep(plan, gas_used, result)
        return Verdict(None, dict.fromkeys(everyone, "loss"), (), frozenset(everyone))

    proven, skips = await prover(Node(), settle, without(plans)).prove([whole], VIEW)
    (plan,) = proven
    assert len(plan.quotes) == 7
    assert [(skip.borrower, skip.detail) for skip in skips] == [(bad, "loss")]


async def test_a_batch_whose_halves_are_not_worth_a_transaction_is_given_up_whole() -> None:
    plans = Plans()
    whole, bad = batch(plans, 4), address("borrower-3")
    whole = replace(whole, calldata=b"".join(q.opportunity.position.borrower for q in whole.quotes))
    pack = without(plans)

    def repack(plan: Plan, failed: Mapping[Key, str], view: View) -> Plan | None:
        made = pack(plan, failed, view)
        return made if made is not None and len(made.quotes) > 2 else None

    node = Poisoned(poison=frozenset({bad}))
    proven, skips = await prover(node, keep, repack).prove([whole], VIEW)
    assert not proven, "no half is worth trying: all is given up, and nothing is told wrong"
    assert {skip.detail for skip in skips} == {"01020304"}
    assert len(skips) == 4


@pytest.mark.parametrize(("block", "kept"), [(30_000_000, 3), (200_000_000, 5)])
async def test_plans_are_asked_about_as_far_as_a_block_and_a_request_hold_them(
    block: int, kept: int
) -> None:
    """Behind 24 million gas of others there is no room for 12 million in a block of 30 million."""
    plans, node = Plans(), Node(gas=8_000_000)
    many = [replace(plans.make(), gas=8_000_000, gas_limit=12_000_000) for _ in range(8)]
    view = replace(VIEW, head=replace(HEAD, gas_limit=block))
    proven, skips = await prover(node).prove(many, view)
    assert [plan.id for plan in proven] == [plan.id for plan in many[:kept]]
    assert [skip.reason for skip in skips] == [Reason.TIMEOUT] * (8 - kept)
    assert len(node.requests) == 1
    only, _ = await prover(node).prove([replace(many[0], gas_limit=10**9)], view)
    assert len(only) == 1, "what is first is the node's to judge"
