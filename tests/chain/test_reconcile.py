"""Every liquidation on the chain is on record: who had it, what it paid, and why it was not ours."""

import asyncio
from pathlib import Path

import pytest

from keeper.cli import main
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.journal.liquidations import LiquidationRow, read_liquidations
from keeper.journal.report import summarise
from keeper.units import to_hex
from tests.line import Play

GWEI = 10**9


def assert_sums(
    net: Devnet, journal: Path, operator: Operator, ether: int, rows: list[LiquidationRow]
) -> None:
    """Assert that a report's sums are what balances on the chain changed by."""
    found = summarise(journal, 0, 2**40)
    total = found.total()
    spent = ether - balance(net, operator.wallet.address)
    assert total.gas == spent
    earned = net.balance(net.tokens["USDC"].address, operator.contract) * net.price("USDC")
    assert total.net_usd + total.gas_usd == pytest.approx(earned // 10**6, abs=2)
    assert total.gas_usd == pytest.approx(spent * net.price("WETH") / 10**18, rel=1e-6)
    assert (total.included, total.failed, total.liquidated) == (1, 0, 2)
    assert found.funnel == {"chosen": 3, "planned": 3, "sent": 3, "liquidated": 2}
    assert found.ours == 2
    assert {(each.winner, each.reason, each.count) for each in found.missed} == {
        ("swift", "late", 1),
        ("swift", "unprofitable", 1),
    }
    bonus = sum(int(r.seized_usd or 0) - int(r.repaid_usd or 0) for r in rows if not r.is_ours)
    assert sum(each.won_usd for each in found.missed) == bonus > 0
    assert found.decided is not None
    assert found.decided.p50 > 0


def balance(net: Devnet, account: bytes) -> int:
    return int(net.rpc("eth_getBalance", to_hex(account), "latest"), 16)


async def test_ours_and_others_are_judged_and_a_reorg_takes_them_back(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = net.borrowers(2, health=1.03, size_usd=(20_000, 20_000), seed=71)
    raced = net.borrowers(1, health=1.03, size_usd=(20_000, 20_000), seed=72)
    dust = net.borrowers(1, health=1.03, size_usd=(20, 20), seed=73)
    operator = deploy_operator(net)
    path = write_settings(net, operator, tmp_path)
    ether = balance(net, operator.wallet.address)
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

        assert_sums(net, settings.journal_file, operator, ether, rows)
        page = tmp_path / "report.html"
        command = ["keeper", "report", "-c", str(path), "--html", str(page), "--each"]
        monkeypatch.setattr("sys.argv", [*command, *(f"--set={each}" for each in overrides)])
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main)
        assert not ended.value.code
        text = page.read_text()
        assert text.count("<svg") == 7
        assert text.count("<td>swift</td>") == 2 + 2, "by reason, and each"
        assert "2 liquidations were ours, 2 others'" in text
        assert "swift" in text

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
