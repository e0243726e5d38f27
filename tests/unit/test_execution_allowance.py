"""A node that gives a simulation less gas than a plan may take: batches fit it, nobody is blamed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from keeper.errors import RpcError
from keeper.execution.allowance import GAS_LEFT, LOOK_HEADS, Allowance
from keeper.execution.flight import Key
from keeper.execution.prove import Prover
from keeper.execution.simulate import Simulator
from keeper.types import Plan, Reason, View
from keeper.units import Address
from tests.plans import Plans, address, make_head, make_view
from tests.unit.test_execution_prove import keep

ITEM = 600_000
GIVEN = 2_000_000
CREATION = 53_124

Failure = RpcError | Mapping[str, Any]
"""An error of the whole request, or how one call of it ended."""


def refused(text: str, code: int = -32000) -> RpcError:
    """Return a node's refusal of the request."""
    return RpcError("eth_simulateV1", code, text)


def died(text: str, code: int, used: int = GIVEN) -> Mapping[str, Any]:
    """Return a call that failed, as `eth_simulateV1` tells."""
    error = {"code": code, "message": text}
    return {"status": "0x0", "gasUsed": hex(used), "returnData": "0x", "error": error}


CAPPED: Mapping[str, Failure] = {
    "geth gives less and says nothing": died("out of gas", -32015),
    "geth counts all calls of a request": refused(
        "RPC gas cap exhausted: need 4800000, remaining 2000000"
    ),
    "geth, of the block": refused("block gas limit reached: 4800000 >= 2000000", -38015),
    "the contract stops before it starves": {
        **died("execution reverted", 3, 90_000),
        "returnData": "0x6a8f6d8f",
    },
    "reth": refused("intrinsic gas too high"),
    "Nethermind": refused("Block gas limit exceeded"),
}
CALLS: Mapping[str, RpcError] = {
    "geth and Erigon": RpcError("eth_call", -32000, "out of gas"),
    "Nethermind": RpcError("eth_call", -32015, "VM execution error.", b"OutOfGas"),
    "reth": RpcError("eth_call", -32000, "intrinsic gas too high"),
}


@dataclass
class Node:
    """Simulates calls, and gives those of one request no more than `given` together."""

    failure: Failure
    given: int = GIVEN
    missing: bool = False
    failing: bool = False
    used: int = ITEM // 2
    asked: list[str] = field(default_factory=list)

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """Answer a simulation, or the question how much gas there is."""
        if method == "eth_simulateV1":
            self.asked.append("simulation")
            if self.missing:
                raise RpcError(method, -32601, "the method does not exist")
            calls = params[0]["blockStateCalls"][0]["calls"]
            return [
                {
                    "calls": [
                        self.simulated(call, self.given - self.used * before)
                        for before, call in enumerate(calls)
                    ]
                }
            ]
        (call, *_) = params
        if call == {"input": GAS_LEFT}:
            self.asked.append("gas")
            return f"0x{self.given - CREATION:064x}"
        self.asked.append("simulation")
        if int(call["gas"], 16) > self.given:
            assert isinstance(self.failure, RpcError)
            raise self.failure
        return call["input"]

    def simulated(self, call: Mapping[str, str], left: int) -> Mapping[str, Any]:
        """Return how a call ends for which so much gas is left."""
        if int(call["gas"], 16) > left:
            if isinstance(self.failure, RpcError):
                raise self.failure
            return self.failure
        if self.failing:
            return died("execution reverted", 3)
        return {"status": "0x1", "gasUsed": hex(self.used), "returnData": call["input"]}


def repack(plan: Plan, failed: Mapping[Key, str], view: View) -> Plan | None:
    """Return a plan of those who did not fail, with their gas."""
    del view
    quotes = tuple(quote for quote in plan.quotes if quote.opportunity.key not in failed)
    if not quotes:
        return None
    calldata = bytes([len(quotes)])
    return replace(plan, quotes=quotes, calldata=calldata, gas_limit=ITEM * len(quotes))


class Bench:
    """A prover on such a node, and a plan of eight positions."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.notes: list[str] = []
        allowance = Allowance(node, repack, self.notes.append)
        self.prover = Prover(
            Simulator(node, Address(bytes(20))),
            bytes,
            keep,
            repack,
            lambda data: data.hex(),
            allowance=allowance,
        )
        self.plan = Plans().make(*(address(f"{number}") for number in range(8)))

    async def prove(self, number: int = 100) -> tuple[list[int], dict[Reason, int]]:
        """Return how many positions each proven plan has, and how many were refused and why."""
        view = make_view(make_head(number))
        proven, skips = await self.prover.prove([replace(self.plan, head=view.head)], view)
        reasons = [skip.reason for skip in skips]
        assert all("4800000" not in skip.detail for skip in skips)
        return [len(plan.quotes) for plan in proven], {why: reasons.count(why) for why in reasons}


@pytest.mark.parametrize("name", CAPPED)
async def test_a_batch_is_cut_to_the_gas_a_node_gives(name: str) -> None:
    bench = Bench(Node(CAPPED[name]))
    assert await bench.prove() == ([3], {Reason.TIMEOUT: 5})
    assert bench.node.asked == ["simulation", "gas", "simulation"]
    assert len(bench.notes) == 1
    assert f" {GIVEN} gas" in bench.notes[0]


@pytest.mark.parametrize("name", CALLS)
async def test_so_is_one_on_a_node_that_makes_plain_calls(name: str) -> None:
    bench = Bench(Node(CALLS[name], missing=True))
    assert await bench.prove() == ([3], {Reason.TIMEOUT: 5})
    assert bench.node.asked == ["simulation", "simulation", "gas", "simulation"]


async def test_the_next_heads_begin_with_what_fits_until_the_node_is_asked_again() -> None:
    bench = Bench(Node(CAPPED["reth"]))
    await bench.prove()
    bench.node.asked.clear()
    assert await bench.prove(101) == ([3], {Reason.TIMEOUT: 5})
    assert bench.node.asked == ["simulation"]
    bench.node.given = 30_000_000
    assert await bench.prove(100 + LOOK_HEADS) == ([8], {})


async def test_nothing_fits_a_node_that_gives_less_than_one_position_needs() -> None:
    bench = Bench(Node(CAPPED["geth gives less and says nothing"], given=500_000))
    assert await bench.prove() == ([], {Reason.TIMEOUT: 8})
    assert bench.node.asked == ["simulation", "gas"]


@pytest.mark.parametrize("name", CAPPED)
async def test_nobody_waits_for_a_position_that_never_fits(name: str) -> None:
    bench = Bench(Node(CAPPED[name]))
    plans, view = Plans(), make_view(make_head())
    great = replace(plans.make(address("great")), gas_limit=GIVEN + 1)
    small = plans.make(address("small"))
    proven, skips = await bench.prover.prove([great, small], view)
    assert [plan.id for plan in proven] == [small.id]
    assert [(skip.borrower, skip.reason) for skip in skips] == [(address("great"), Reason.TIMEOUT)]


async def test_who_fails_with_gas_enough_is_looked_for_as_ever_and_the_node_asked_once() -> None:
    bench = Bench(Node(CAPPED["reth"], given=30_000_000, failing=True))
    assert await bench.prove() == ([], {Reason.SIMULATION_FAILED: 8})
    assert await bench.prove(101) == ([], {Reason.SIMULATION_FAILED: 8})
    assert bench.node.asked.count("gas") == 1
    assert not bench.notes


@pytest.mark.parametrize("name", CAPPED)
async def test_what_a_node_gives_is_kept_though_it_was_enough_for_who_failed_first(
    name: str,
) -> None:
    bench = Bench(Node(CAPPED[name], failing=True))
    eight, bench.plan = bench.plan, Plans().make(address("0"), address("1"))
    assert await bench.prove() == ([], {Reason.SIMULATION_FAILED: 2})
    assert not bench.notes
    bench.node.failing, bench.plan = False, eight
    assert await bench.prove(101) == ([3], {Reason.TIMEOUT: 5})
    assert bench.node.asked.count("gas") == len(bench.notes) == 1


@pytest.mark.parametrize("name", CAPPED)
async def test_a_plan_waits_that_the_node_has_no_gas_left_for_behind_another(name: str) -> None:
    bench = Bench(Node(CAPPED[name], used=700_000))
    plans, view = Plans(), make_view(make_head())
    pair = [plans.make(address(who), address(f"{who}'s")) for who in ("a", "b")]
    pair = [replace(plan, gas_limit=1_400_000, gas=700_000) for plan in pair]
    proven, skips = await bench.prover.prove(pair, view)
    assert [plan.id for plan in proven] == [pair[0].id]
    assert [skip.reason for skip in skips] == [Reason.TIMEOUT] * 2
    assert bench.node.asked == ["simulation", "gas", "simulation"]
    bench.node.missing = True
    later = make_view(make_head(101))
    await bench.prover.prove(pair, later)
    proven, skips = await bench.prover.prove(pair, later)
    assert (len(proven), skips) == (2, []), "calls of their own are given as much each"


@pytest.mark.parametrize("short", [0, 1])
async def test_a_plan_of_all_the_gas_a_node_gives_is_left_whole(short: int) -> None:
    bench = Bench(Node(CAPPED["reth"], given=8 * ITEM - short, failing=True))
    await bench.prove()
    bench.node.failing = False
    assert await bench.prove(101) == (([8], {}) if not short else ([7], {Reason.TIMEOUT: 1}))
