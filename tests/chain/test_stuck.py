"""Transactions that do not get in, on the real contracts: no nonce sticks, nothing happens twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from keeper.chain.parse import quantity
from keeper.devnet import Devnet
from keeper.execution.executor import Executor
from keeper.execution.pursuit import Policy
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import SqliteJournal
from keeper.types import Cancelled, Dropped, Included, Plan, Receipt, Replaced, Reverted
from keeper.units import Wei, to_hex
from tests.desk import GWEI, Desk, desk_on

pytestmark = pytest.mark.chain

POLICY = Policy(replace_after=2, final_depth=4, max_fee=Wei(500 * GWEI))
SPIKE = 8 * GWEI
"""Above the five that the plans here offer."""


@pytest.fixture
async def desk(net: Devnet, tmp_path: Path) -> AsyncIterator[Desk]:
    """Two borrowers under water and an operator who may liquidate them."""
    async with desk_on(net, tmp_path) as made:
        yield made


async def profitable(desk: Desk, late: int = 3_600) -> Plan:
    """Return a proven plan; what it brings here is a guess that pays for much gas."""
    return await desk.proven(desk.borrowers, late=late)


async def wait(
    desk: Desk, executor: Executor, heads: int, base_fee: int = SPIKE, seconds: int = 12
) -> list[Receipt]:
    """Let blocks pass at a base fee."""
    ended: list[Receipt] = []
    for _ in range(heads):
        ended.extend(await executor.follow(await desk.mine(seconds, base_fee)))
    return ended


async def nonces(desk: Desk) -> tuple[int, int]:
    """Return the wallet's mined count, and that with its pool."""
    account = to_hex(desk.operator.wallet.address)
    counts = [
        quantity(await desk.rpc.request("eth_getTransactionCount", [account, tag]))
        for tag in ("latest", "pending")
    ]
    return counts[0], counts[1]


def events(desk: Desk, name: str) -> Sequence[object]:
    """Return what was told under a name."""
    return [fields for event, fields in desk.events.seen if event == name]


async def test_a_base_fee_spike_is_outbid_on_the_same_nonce(desk: Desk) -> None:
    executor = await desk.executor(POLICY)
    start, _ = await nonces(desk)
    await executor.send([await profitable(desk)])
    receipts = await wait(desk, executor, 6)
    assert [type(receipt) for receipt in receipts] == [Included]
    assert len(events(desk, "plan.repriced")) == 1
    assert await nonces(desk) == (start + 1, start + 1)
    record = JournalReader(desk.path / "journal.db").explain(to_hex(desk.borrowers[0]))
    assert record is not None
    assert record.verdict.startswith("liquidated in block")
    states = sorted(sent.state for sent in record.plans[0].transactions)
    assert states == ["included", "replaced"]


async def test_a_base_fee_that_rises_eightfold_in_four_blocks_is_kept_up_with(desk: Desk) -> None:
    """Each block is dearer than the one before allowed for, as far as a spike of full blocks goes."""
    executor = await desk.executor(POLICY)
    start, _ = await nonces(desk)
    await executor.send([await profitable(desk)])
    receipts: list[Receipt] = []
    for sixteenths in (84, 141, 238, 400, 672):
        receipts += await executor.follow(await desk.mine(base_fee=sixteenths * GWEI // 16))
    assert [type(receipt) for receipt in receipts] == [Included]
    (receipt,) = receipts
    assert isinstance(receipt, Included)
    assert await nonces(desk) == (start + 1, start + 1)
    assert events(desk, "plan.repriced")
    # A snapshot does not hold the next block's base fee.
    await desk.mine(base_fee=GWEI // 8)


async def test_a_spike_above_what_it_brings_ends_in_a_cancel(desk: Desk) -> None:
    executor = await desk.executor(POLICY)
    plan = await profitable(desk, late=100)
    dear = plan.net_usd * 10**18 // (plan.gas_limit * plan.prices[bytes(20)])  # type: ignore[index]
    await executor.send([plan])
    base_fee = max(3 * dear, SPIKE)
    assert await wait(desk, executor, 7, base_fee) == []
    assert not events(desk, "plan.repriced")
    assert events(desk, "plan.stuck")
    receipts = await wait(desk, executor, 4, base_fee=2 * GWEI)
    assert [type(receipt) for receipt in receipts] in ([Cancelled], [Reverted])
    assert executor.pending == 0


async def test_a_competitor_that_took_it_makes_it_a_cancel(desk: Desk) -> None:
    executor = await desk.executor(POLICY)
    start, _ = await nonces(desk)
    plan = await profitable(desk)
    await asyncio.to_thread(desk.net.set_price, "WETH", 2 * desk.net.price("WETH"))
    await executor.send([plan])
    receipts = await wait(desk, executor, 5)
    (receipt,) = receipts
    assert isinstance(receipt, Cancelled)
    assert receipt.gas_used == 21_000
    assert await nonces(desk) == (start + 1, start + 1)
    record = JournalReader(desk.path / "journal.db").explain(to_hex(desk.borrowers[0]))
    assert record is not None
    assert {sent.state for sent in record.plans[0].transactions} == {"cancelled", "included"}
    assert record.plans[0].receipts[-1].gas_used == 21_000


async def test_a_dropped_one_is_handed_over_again_and_then_outbid(desk: Desk) -> None:
    executor = await desk.executor(POLICY)
    await executor.send([await profitable(desk)])
    pending = desk.events.seen[-1][1]["tx"]
    assert isinstance(pending, bytes)
    await desk.rpc.request("anvil_dropTransaction", [to_hex(pending)])
    receipts = await wait(desk, executor, 8)
    assert [type(receipt) for receipt in receipts] == [Included]
    names = [name for name in desk.events.names if name.startswith("plan.re")]
    assert names[-1] == "plan.repriced"


async def test_a_stolen_nonce_is_settled_and_the_line_goes_on(desk: Desk) -> None:
    executor = await desk.executor(POLICY)
    plan = await profitable(desk)
    await executor.send([plan])
    await desk.rpc.request("anvil_dropAllTransactions", [])
    account = desk.operator.wallet.address
    await asyncio.to_thread(desk.net.send, account, account, "nothing()")
    receipts: list[Receipt] = []
    for _ in range(8):
        # A look that a busy node does not answer in time is made again at the next head.
        receipts = receipts or await wait(desk, executor, 1, base_fee=GWEI)
    (receipt,) = receipts
    assert isinstance(receipt, Dropped)
    assert "not ours" in receipt.reason
    mined, _ = await nonces(desk)
    again = await desk.proven(desk.borrowers, "again", 3_600)
    sent, _ = await executor.send([again])
    assert sent == [again]
    assert desk.events.seen[-1][1]["nonce"] == mined, "no gap"
    (receipt,) = await executor.follow(await desk.mine())
    assert isinstance(receipt, Included)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_reorg_brings_an_included_one_back(desk: Desk, restart: bool) -> None:
    executor = await desk.executor(POLICY)
    start, _ = await nonces(desk)
    await executor.send([await profitable(desk)])
    (first,) = await executor.follow(await desk.mine())
    assert isinstance(first, Included)
    await desk.rpc.request("anvil_reorg", [1, []])
    if restart:
        executor = await desk.executor(POLICY)
    receipts: list[Receipt] = list(await executor.follow(await desk.head()))
    receipts.extend(await wait(desk, executor, 5, base_fee=GWEI))
    (second,) = receipts
    assert isinstance(second, Included)
    assert second.tx_hash == first.tx_hash, "the same bytes"
    assert second.block_hash != first.block_hash
    assert await nonces(desk) == (start + 1, start + 1)
    record = JournalReader(desk.path / "journal.db").explain(to_hex(desk.borrowers[0]))
    assert record is not None
    assert [receipt.outcome for receipt in record.plans[0].receipts] == ["included"]
    await wait(desk, executor, 4, base_fee=GWEI)
    assert await desk.journal.unfinal() == []


@pytest.mark.parametrize("heads", [0, 1, 2, 3])
async def test_a_restart_at_any_time_ends_the_same(desk: Desk, heads: int) -> None:
    executor = await desk.executor(POLICY)
    start, _ = await nonces(desk)
    await executor.send([await profitable(desk)])
    receipts = await wait(desk, executor, heads)
    receipts.extend(await executor.drain(0))
    desk.journal.close()
    desk.journal = SqliteJournal(desk.path / "journal.db", desk.clock, 30, lambda _: None)
    desk.journal.open()
    restarted = await desk.executor(POLICY)
    receipts.extend(await wait(desk, restarted, 8))
    assert [type(receipt) for receipt in receipts] == [Included]
    assert await nonces(desk) == (start + 1, start + 1)
    assert not await desk.journal.pending()


async def test_a_first_come_chain_pays_no_more_and_frees_the_nonce(desk: Desk) -> None:
    executor = await desk.executor(replace(POLICY, replacement=False))
    start, _ = await nonces(desk)
    await executor.send([await profitable(desk, late=80)])
    # this node throws out what cannot pay the base fee
    assert await wait(desk, executor, 8) == []
    assert not events(desk, "plan.repriced")
    assert events(desk, "plan.abandoned")
    await desk.mine(base_fee=GWEI)
    again = await desk.proven(desk.borrowers, "again", 3_600)
    assert (await executor.send([again]))[0] == [again]
    assert desk.events.seen[-1][1]["nonce"] == start
    receipts = await executor.follow(await desk.mine(base_fee=GWEI))
    assert [type(receipt) for receipt in receipts] == [Included, Replaced]
