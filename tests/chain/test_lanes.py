"""Several wallets on the real contracts: side by side, in line where they must be, none in the way."""

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.doctor import State
from keeper.doctor.examination import examine
from keeper.errors import ConfigError
from keeper.execution.pursuit import Policy
from keeper.signers import open_signers
from keeper.types import Included
from keeper.units import Address, Wei, to_hex
from tests.desk import GWEI, desk_on
from tests.line import Play, assert_clean, playing

pytestmark = pytest.mark.chain

PAIRS = (("WETH", "USDC"), ("WBTC", "USDC"))

APART = ("sUSDe", "DAI")
"""Sold in pools that those of the others do not touch."""


def crash(net: Devnet) -> None:
    """Let every collateral fall in one block."""
    net.set_prices({name: net.price(name) * 92 // 100 for name, _ in PAIRS})


def senders(play: Play) -> list[Address]:
    """Return who sent each transaction."""
    return [plan.sender for report in play.stage.reports for plan in report.sent]


async def test_independent_plans_go_side_by_side_and_dependent_ones_in_line(
    net: Devnet, tmp_path: Path
) -> None:
    large = net.borrowers(4, health=1.03, size_usd=(60_000, 60_000), seed=1)
    small = net.borrowers(
        4, collateral=APART[0], debt=APART[1], health=1.03, size_usd=(9_000, 9_000), seed=2
    )
    few = "[chains.devnet.fees]\ngas_cap = 1_700_000\n"
    async with playing(net, tmp_path, lanes=3, extra=few) as play:
        fallen = {name: net.price(name) * 93 // 100 for name in ("WETH", APART[0])}
        await play.stage.step(lambda: net.set_prices(fallen))
        plans = [plan for report in play.stage.reports for plan in report.sent]
        of = {
            quote.opportunity.position.borrower: plan.sender
            for plan in plans
            for quote in plan.quotes
        }
        assert len(plans) > 2
        assert len({of[Address(who)] for who in large}) == 1
        assert len({of[Address(who)] for who in small}) == 1
        assert of[Address(large[0])] != of[Address(small[0])]
        await play.stage.mine()
        play.assert_taken([*large, *small])
        assert_clean(play.tally)


@pytest.mark.parametrize(("lanes", "count"), [(1, 20), (4, 20), (4, 100)])
async def test_a_storm_is_over_within_two_blocks(
    net: Devnet, tmp_path: Path, lanes: int, count: int
) -> None:
    crowd = [
        who
        for number, (collateral, debt) in enumerate(PAIRS)
        for who in net.borrowers(
            count // 2,
            collateral=collateral,
            debt=debt,
            health=(1.01, 1.05),
            seed=count + number,
        )
    ]
    async with playing(net, tmp_path, lanes=lanes) as play:
        await play.stage.step(lambda: crash(net))
        assert len(play.under(crowd)) == count
        await play.stage.mine(2)
        used = senders(play)
        play.assert_taken(crowd)
        assert play.under(crowd) == set()
        assert_clean(play.tally)
        assert all(used), "the lane is chosen before the plan is proven"
        assert await play.audit() == []
        page = play.stage.keeper.status()["chains"]["devnet"]["lanes"]
        assert [lane["pending"] for lane in page] == [0] * lanes


async def test_a_stuck_lane_takes_no_plans_and_the_other_does(net: Devnet, tmp_path: Path) -> None:
    policy = Policy(replace_after=1, final_depth=4, max_fee=Wei(6 * GWEI))
    async with desk_on(net, tmp_path, lanes=2) as desk:
        executor = await desk.executor(policy)
        await executor.send([await desk.proven(desk.borrowers[:1], "one")])
        (first, second) = executor.lanes
        stuck, other = sorted((first, second), key=lambda lane: -lane.pending)
        assert [stuck.pending, other.pending] == [1, 0]
        for _ in range(3):
            assert not await executor.follow(await desk.mine(base_fee=8 * GWEI))
        (blocked,) = [lane.address for lane in executor.lanes if lane.is_blocked]
        assert blocked == stuck.address
        await desk.mine(base_fee=GWEI // 8)
        await desk.rpc.request("anvil_dropAllTransactions", [])
        sent, _ = await executor.send([await desk.proven(desk.borrowers[1:], "two")])
        assert [plan.sender for plan in sent] == [other.address]
        receipts = list(await executor.follow(await desk.mine()))
        assert [type(receipt) for receipt in receipts] == [Included]


async def test_every_lane_has_a_nonce_line_of_its_own_across_a_restart(
    net: Devnet, tmp_path: Path
) -> None:
    async with desk_on(net, tmp_path, lanes=2) as desk:
        executor = await desk.executor()
        for number, borrower in enumerate(desk.borrowers):
            plan = await desk.proven([borrower], f"plan-{number}")
            assert len((await executor.send([plan]))[0]) == 1
        assert {lane.pending for lane in executor.lanes} == {1}, "the one with fewer took it"
        restarted = await desk.executor()
        assert {lane.pending for lane in restarted.lanes} == {1}
        assert len(restarted.in_flight()) == 2
        receipts = await restarted.follow(await desk.mine())
        assert [type(receipt) for receipt in receipts] == [Included, Included]
        for wallet in desk.operator.wallets:
            account = to_hex(Address(wallet.address))
            count = await desk.rpc.request("eth_getTransactionCount", [account, "latest"])
            assert int(count, 16) >= 1


async def test_a_lane_with_code_or_without_its_role_is_refused(net: Devnet, tmp_path: Path) -> None:
    def set_up() -> Path:
        operator = deploy_operator(net, lanes=2)
        second = operator.wallets[1].address
        net.rpc("anvil_setCode", to_hex(Address(second)), "0xef0100" + "11" * 20)
        arguments = [second, False]
        net.send(operator.owner, operator.contract, "set_operator(address,bool)", arguments)
        return write_settings(net, operator, tmp_path)

    loaded = load([await asyncio.to_thread(set_up)])
    failed = {
        check.name: check.detail
        async for check in examine(loaded, chain="devnet")
        if check.state is State.FAIL
    }
    assert failed.keys() == {"account 1", "roles 1"}
    assert "delegation" in failed["account 1"]
    assert "not operated by this wallet" in failed["roles 1"]
    with pytest.raises(ConfigError, match="has code"):
        async with staged(net, loaded.settings, live=True):
            pass


async def test_two_keystores_of_one_key_are_refused(net: Devnet, tmp_path: Path) -> None:
    operator = await asyncio.to_thread(deploy_operator, net, lanes=2)
    path = write_settings(net, operator, tmp_path)
    shutil.copyfile(tmp_path / "operator.json", tmp_path / "operator1.json")
    chain = load([path]).settings.chains["devnet"]
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match=r"x\.wallets\[0\] and x\.wallets\[1\] hold the same"):
            await open_signers(chain.lanes, "x", {}, stack)
    with pytest.raises(ConfigError, match="hold the same key"):
        async with staged(net, load([path]).settings, live=True):
            pass
