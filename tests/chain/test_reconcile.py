"""Every liquidation on the chain is on record: who had it, what it paid, and why it was not ours."""

from pathlib import Path

import pytest

from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.journal.liquidations import read_liquidations
from keeper.units import to_hex
from tests.line import Play

GWEI = 10**9


async def test_ours_and_others_are_judged_and_a_reorg_takes_them_back(
    net: Devnet, tmp_path: Path
) -> None:
    ours = net.borrowers(2, health=1.03, size_usd=(20_000, 20_000), seed=71)
    raced = net.borrowers(1, health=1.03, size_usd=(20_000, 20_000), seed=72)
    dust = net.borrowers(1, health=1.03, size_usd=(20, 20), seed=73)
    path = write_settings(net, deploy_operator(net), tmp_path)
    overrides = [f"chains.devnet.rivals.swift={to_hex(Cast.RIVAL)}"]
    settings = load([path], overrides).settings
    async with staged(net, settings, live=True) as stage:
        play = Play(stage)
        await stage.step(lambda: net.set_price("WETH", 2_350_00000000))

        def first() -> None:
            net.liquidate_as_rival(raced[0], "WETH", "USDC", put=True, max_fee=350 * GWEI)
            net.liquidate_as_rival(dust[0], "WETH", "USDC", put=True, max_fee=340 * GWEI)
            net.mine()

        await stage.step(first)
        await stage.mine()
        play.assert_taken(ours)
        await stage.line.reconciler.close()
        rows = read_liquidations(settings.journal_file, 0, 2**40)
        told = {row.borrower: (row.reason, row.winner, row.state) for row in rows}
        assert told == {
            **{to_hex(who): ("ours", "ours", "included") for who in ours},
            to_hex(raced[0]): ("late", "swift", "included"),
            to_hex(dust[0]): ("unprofitable", "swift", "included"),
        }
        (lost,) = [row for row in rows if row.borrower == to_hex(raced[0])]
        receipt = net.rpc("eth_getTransactionReceipt", lost.hash)
        assert lost.transaction_index == int(receipt["transactionIndex"], 16) == 0
        assert lost.gas_used == int(receipt["gasUsed"], 16)
        price = int(receipt["effectiveGasPrice"], 16)
        base = int(net.rpc("eth_getBlockByHash", lost.block_hash, False)["baseFeePerGas"], 16)
        assert (int(lost.gas_price), int(lost.tip)) == (price, (price - base) * lost.gas_used)
        assert int(lost.repaid_usd or 0) == pytest.approx(int(lost.repaid) * 100, rel=1e-6)
        assert int(lost.seized_usd or 0) > int(lost.repaid_usd or 0)
        counted = stage.keeper.metrics.registry.get_sample_value(
            "keeper_missed_total",
            {"chain": "devnet", "protocol": "aave-v3", "reason": "late", "winner": "swift"},
        )
        assert counted == 1

        block = net.chain.block_number()
        await stage.step(lambda: net.rpc("anvil_reorg", block - lost.block_number + 1, []))
        await stage.mine()
        await stage.line.reconciler.close()
        after = read_liquidations(settings.journal_file, 0, 2**40)
        undone = {row.borrower for row in after if row.block_hash == lost.block_hash}
        assert undone == told.keys()
        assert {r.state for r in after if r.block_hash == lost.block_hash} == {"orphaned"}
        again = {row.borrower for row in after if row.state == "included"}
        assert not play.under(who for who in (*ours, *raced, *dust) if to_hex(who) in again)
