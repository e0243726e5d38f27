"""The executor on the real contracts: proven, sent, followed, explained, restarted."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from keeper.devnet import Devnet
from keeper.execution.simulate import Simulator, Way
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import SqliteJournal
from keeper.planning.decoding import decode_run
from keeper.types import Included, Reason, Reverted
from keeper.units import Address, to_hex
from tests.desk import Desk, desk_on

pytestmark = pytest.mark.chain


@pytest.fixture
async def desk(net: Devnet, tmp_path: Path) -> AsyncIterator[Desk]:
    """Two borrowers under water and an operator who may liquidate them."""
    async with desk_on(net, tmp_path) as made:
        yield made


async def test_two_borrowers_are_liquidated_for_what_was_simulated(desk: Desk) -> None:
    before = await asyncio.to_thread(desk.net.balance, desk.usdc.address, desk.operator.contract)
    executor = await desk.executor()
    plan = await desk.proven(desk.borrowers)
    sent, skips = await executor.send([plan])
    assert sent == [plan]
    assert not skips
    (receipt,) = await executor.follow(await desk.mine())
    assert isinstance(receipt, Included)
    after = await asyncio.to_thread(desk.net.balance, desk.usdc.address, desk.operator.contract)
    assert receipt.gains[desk.usdc.address] == after - before > 0
    assert [item.ok for item in receipt.items] == [True, True]
    assert sum(item.gain for item in receipt.items) == after - before
    assert receipt.gas_used == plan.gas, "the block is the one that was simulated"
    error = desk.events.seen[-1][1]["estimate_error_bps"]
    assert isinstance(error, int)
    assert abs(error) <= 1

    record = JournalReader(desk.path / "journal.db").explain(to_hex(receipt.tx_hash))
    assert record is not None
    assert record.verdict.startswith("liquidated 2 of 2 in block")
    one = JournalReader(desk.path / "journal.db").explain(to_hex(desk.borrowers[0]))
    assert one is not None
    assert one.verdict.startswith("liquidated in block")


async def test_every_way_to_simulate_agrees(desk: Desk) -> None:
    head = await desk.head()
    plan = desk.plan(head, desk.borrowers)
    results = []
    for way in Way:
        simulator = Simulator(desk.rpc, Address(desk.operator.wallet.address))
        simulator._way = way
        (result,) = await simulator.simulate([plan], head, head.next_block(12))
        assert simulator.way is way, "the node does all three"
        assert result.ok
        results.append(decode_run(result.returndata))
    assert results[0] == results[1]
    assert [item.ok for item in results[2].items] == [True, True]


async def test_plans_of_one_head_see_each_other(desk: Desk) -> None:
    head = await desk.head()
    plan = desk.plan(head, desk.borrowers)
    simulator = Simulator(desk.rpc, Address(desk.operator.wallet.address))
    first, second = await simulator.simulate([plan, plan], head, head.next_block(12))
    gains = [decode_run(result.returndata).gains[0] for result in (first, second)]
    assert gains[1] < gains[0], "the second sells into the pool the first left"


async def test_a_failing_simulation_names_its_reason(desk: Desk) -> None:
    head = await desk.head()
    view = await asyncio.to_thread(desk.view, head)
    late = desk.plan(head, desk.borrowers, late=-60)
    plans, skips = await desk.prover().prove([late], view)
    assert not plans
    assert {skip.reason for skip in skips} == {Reason.SIMULATION_FAILED}
    assert "Expired" in skips[0].detail


async def test_a_nonce_used_elsewhere_is_refused_and_the_line_healed(desk: Desk) -> None:
    executor = await desk.executor()
    wallet = desk.operator.wallet.address
    await asyncio.to_thread(desk.net.send, wallet, wallet, "nothing()")
    plan = await desk.proven(desk.borrowers)
    sent, skips = await executor.send([plan])
    assert not sent
    assert {skip.reason for skip in skips} == {Reason.IN_FLIGHT}
    assert "nonce" in skips[0].detail
    sent, _ = await executor.send([replace(plan, id="again")])
    assert len(sent) == 1
    (receipt,) = await executor.follow(await desk.mine())
    assert isinstance(receipt, Included)


async def test_a_revert_on_the_chain_is_explained(desk: Desk) -> None:
    executor = await desk.executor()
    plan = await desk.proven(desk.borrowers, late=20)
    await executor.send([plan])
    (receipt,) = await executor.follow(await desk.mine(seconds=60))
    assert isinstance(receipt, Reverted)
    assert "Expired" in receipt.reason
    assert receipt.gas_cost_usd > 0
    assert executor.pending == 0


async def test_a_stuck_transaction_survives_a_restart(desk: Desk) -> None:
    executor = await desk.executor()
    plan = await desk.proven(desk.borrowers[:1])
    await executor.send([plan])
    assert await executor.follow(await desk.head()) == []
    desk.journal.close()

    reopened = SqliteJournal(desk.path / "journal.db", desk.clock, 30, lambda _: None)
    reopened.open()
    desk.journal = reopened
    restarted = await desk.executor()
    assert restarted.in_flight() == {("aave", desk.borrowers[0])}
    other = await desk.proven(desk.borrowers[1:], "other")
    sent, _ = await restarted.send([other])
    assert len(sent) == 1
    receipts = await restarted.follow(await desk.mine())
    assert [type(receipt) for receipt in receipts] == [Included, Included]
    assert not await reopened.pending()


async def test_an_evicted_transaction_is_handed_over_again(desk: Desk) -> None:
    executor = await desk.executor()
    await executor.send([await desk.proven(desk.borrowers)])
    await desk.rpc.request("anvil_dropAllTransactions", [])
    for _ in range(3):
        assert await executor.follow(await desk.mine()) == []
    assert "plan.rebroadcast" in desk.events.names
    (receipt,) = await executor.follow(await desk.mine())
    assert isinstance(receipt, Included)
