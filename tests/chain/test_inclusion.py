"""Chains that charge for more than gas, on the real contracts with stand-ins for their predeploys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode

from keeper.chain.data_fee import ARB_GAS_INFO, GAS_PRICE_ORACLE
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.fees import ArbitrumFee, Inclusion, OpStackFee
from keeper.types import Plan, Reason
from keeper.units import Address, Wei
from tests.line import Play

GWEI = 10**9
STAND_INS = Path(__file__).parent / "stand_ins"
OP_FEE = OpStackFee(Wei(20 * GWEI), 5_227, Wei(3 * GWEI), 1_014_213, Wei(70_000), Wei(5 * GWEI))
ARBITRUM = ArbitrumFee(Wei(16 * GWEI), Wei(GWEI // 100))


def stand_in(net: Devnet, name: str, at: Address, *slots: int) -> None:
    """Put a contract at an address, with values in its first slots."""
    vyper: Any = pytest.importorskip("vyper")
    source = (STAND_INS / f"{name}.vy").read_text(encoding="utf-8")
    code = vyper.compile_code(source, output_formats=["bytecode_runtime"])["bytecode_runtime"]
    net.rpc("anvil_setCode", "0x" + at.hex(), code)
    for number, value in enumerate(slots):
        net.rpc("anvil_setStorageAt", "0x" + at.hex(), hex(number), f"0x{value:064x}")


def put_oracle(net: Devnet, fee: OpStackFee) -> None:
    stand_in(
        net,
        "gas_price_oracle",
        GAS_PRICE_ORACLE,
        fee.l1_base_fee,
        fee.blob_base_fee,
        fee.base_fee_scalar,
        fee.blob_base_fee_scalar,
        fee.operator_constant,
        fee.operator_slope * 10**6 // fee.SLOPE_GAS,
    )


@asynccontextmanager
async def playing(net: Devnet, home: Path, inclusion: str) -> AsyncIterator[Play]:
    """Run a keeper on a chain of this model."""
    path = write_settings(net, deploy_operator(net), home)
    settings = load([path], [f"chains.devnet.inclusion={inclusion}"]).settings
    async with staged(net, settings, live=True) as stage:
        yield Play(stage)


def sent(play: Play) -> list[Plan]:
    """Return the plans handed over so far."""
    return [plan for report in play.stage.reports for plan in report.sent]


@pytest.mark.parametrize("size", [0, 40, 100, 187, 188, 1_000, 20_000])
def test_the_oracles_upper_bound_is_ours(net: Devnet, size: int) -> None:
    put_oracle(net, OP_FEE)
    data = "0xf1c7a58b" + encode(["uint256"], [size]).hex()
    asked = net.rpc("eth_call", {"to": "0x" + GAS_PRICE_ORACLE.hex(), "data": data}, "latest")
    assert int(asked, 16) == OP_FEE.upper_bound(size)


async def test_on_an_op_stack_chain_the_data_fee_is_paid_for(net: Devnet, tmp_path: Path) -> None:
    put_oracle(net, OP_FEE)
    who = net.borrowers(5, health=(1.01, 1.04), seed=31)
    async with playing(net, tmp_path, "op-stack") as play:
        await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
        (plan,) = sent(play)
        report = play.stage.reports[-1]
        assert report.view.data_fee == OP_FEE
        assert report.view.inclusion is Inclusion.OP_STACK
        planned = sum(quote.gas for _, quote in zip(who, report.quotes, strict=True))
        assert plan.data_fee == OP_FEE.wei_up(80 + len(plan.calldata), planned)
        assert plan.gas_cost > plan.data_fee > OP_FEE.upper_bound(len(plan.calldata))
        assert plan.data_gas == 0
        await play.stage.mine()
        play.assert_taken(who)
        assert play.tally.rejected_sends == play.tally.reverted == 0


async def test_a_data_fee_above_the_bonus_leaves_positions_alone(
    net: Devnet, tmp_path: Path
) -> None:
    put_oracle(net, OpStackFee(Wei(10**6 * GWEI), 5_000_000, Wei(0), 0))
    who = net.borrowers(2, health=(1.01, 1.04), seed=32)
    async with playing(net, tmp_path, "op-stack") as play:
        await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
        assert sent(play) == []
        assert play.reasons(who) == {Reason.UNPROFITABLE}


async def test_without_its_price_nothing_is_decided_and_with_it_again(
    net: Devnet, tmp_path: Path
) -> None:
    who = net.borrowers(2, health=(1.01, 1.04), seed=33)
    put_oracle(net, OP_FEE)
    async with playing(net, tmp_path, "op-stack") as play:
        oracle = "0x" + GAS_PRICE_ORACLE.hex()
        before = play.stage.line.status.undecided
        net.rpc("anvil_setCode", oracle, "0x")
        head = net.chain.block_number()
        net.set_price("WETH", 2_300_00000000)
        async with asyncio.timeout(20):
            while play.stage.line.status.undecided < before + net.chain.block_number() - head:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert sent(play) == []
        put_oracle(net, OP_FEE)
        await play.stage.mine(2)
        play.assert_taken(who)


async def test_on_arbitrum_the_component_is_held_as_gas(net: Devnet, tmp_path: Path) -> None:
    stand_in(net, "arb_gas_info", ARB_GAS_INFO, GWEI, GWEI // 100)
    who = net.borrowers(5, health=(1.01, 1.04), seed=34)
    # On a chain that stood idle the base fee is under the minimum the stand-in tells.
    net.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    async with playing(net, tmp_path, "arbitrum") as play:
        await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
        (plan,) = sent(play)
        size = 80 + len(plan.calldata)
        assert play.stage.reports[-1].view.data_fee == ARBITRUM
        assert plan.data_fee == ARBITRUM.wei_up(size, plan.gas)
        assert plan.data_gas == ARBITRUM.gas_up(size, plan.head.base_fee) > 0
        assert plan.gas_limit > plan.data_gas + plan.gas
        assert plan.bid.priority_fee == 0  # the first to come is served
        assert plan.next_block.base_fee == plan.head.base_fee
        await play.stage.mine()
        play.assert_taken(who)
        assert play.tally.rejected_sends == play.tally.reverted == 0


async def test_where_the_first_to_come_is_served_nothing_is_tipped(
    net: Devnet, tmp_path: Path
) -> None:
    who = net.borrowers(3, health=(1.01, 1.04), seed=35)
    async with playing(net, tmp_path, "first-come") as play:
        await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
        (plan,) = sent(play)
        assert (plan.bid.priority_fee, plan.bid.tip, plan.data_fee) == (0, 0, 0)
        assert play.stage.reports[-1].view.fee_history is None
        await play.stage.mine()
        play.assert_taken(who)


async def test_in_an_auction_the_history_sets_the_fee(net: Devnet, tmp_path: Path) -> None:
    who = net.borrowers(3, health=(1.01, 1.04), seed=36)
    async with playing(net, tmp_path, "auction") as play:
        await play.stage.mine(12)
        await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
        (plan,) = sent(play)
        history = play.stage.reports[-1].view.fee_history
        assert history is not None
        assert history.newest >= plan.head.number - 12
        assert plan.bid.max_fee > plan.next_block.base_fee_after(2)
        await play.stage.mine()
        play.assert_taken(who)
        record = play.stage.line.engine._conditions._contest.record
        assert (record.wins(), record.losses()) == (3, 0)
