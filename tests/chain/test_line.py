"""The whole line on the real contracts: from a price, a block or a second to a receipt."""

import asyncio
from pathlib import Path

import pytest

from keeper.cli import main
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import allow_market, deploy_operator, write_settings
from keeper.devnet.prices import put_prices
from keeper.types import Cause, Reason
from tests.line import Play, assert_clean, playing

CENT = 10**6


@pytest.mark.parametrize("count", [1, 20, 100])
async def test_a_storm_is_over_within_two_blocks(net: Devnet, tmp_path: Path, count: int) -> None:
    tiny = max(count // 10, 1)
    crowd = net.borrowers(count, health=(1.01, 1.05), seed=count)
    dust = net.borrowers(tiny, health=(1.01, 1.05), size_usd=(20, 60), seed=count + 1)
    async with playing(net, tmp_path) as play:
        await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
        assert len(play.under([*crowd, *dust])) == count + tiny
        await play.stage.mine(2)
        play.assert_taken(crowd)
        tally = play.tally
        assert play.under(crowd) == set()
        assert play.reasons(dust) == {Reason.UNPROFITABLE}
        assert_clean(tally)
        assert await play.audit() == []


async def test_two_feeds_that_only_together_take_a_position_under(
    net: Devnet, tmp_path: Path
) -> None:
    def open_one() -> list[bytes]:
        return net.borrowers(1, collateral=("WETH", "WBTC"), health=1.04, seed=7)

    for one_alone in ("WETH", "WBTC"):
        before = net.snapshot()
        who = open_one()
        net.set_price(one_alone, net.price(one_alone) * 94 // 100)
        assert net.account_data(who[0])[5] > 10**18
        net.revert(before)
    who = open_one()
    async with playing(net, tmp_path) as play:
        fallen = {symbol: net.price(symbol) * 94 // 100 for symbol in ("WETH", "WBTC")}
        await play.stage.step(lambda: net.set_prices(fallen))
        assert play.under(who) == set(who)
        await play.stage.mine()
        play.assert_taken(who)
        assert_clean(play.tally)


async def test_interest_alone_takes_a_position_under(net: Devnet, tmp_path: Path) -> None:
    who = net.borrowers(3, debt="USDC", collateral="WBTC", health=1.0005, seed=9)
    async with playing(net, tmp_path) as play:
        assert play.under(who) == set()
        causes: set[Cause] = set()
        for _ in range(60):
            await play.stage.step(lambda: net.mine(seconds=86_400))
            causes = {
                risk.cause
                for report in play.stage.reports
                for risk in report.view.at_risk
                if risk.position.borrower in who
            }
            if causes:
                break
        assert causes == {Cause.INTEREST}
        # Sent at the head before, because at the next block it is under.
        await play.stage.mine()
        play.assert_taken(who)
        assert_clean(play.tally)


@pytest.mark.parametrize("symbol", ["wstETH", "sUSDe", "PT"])
async def test_a_source_that_emits_nothing_is_read_all_the_same(
    net: Devnet, tmp_path: Path, symbol: str
) -> None:
    who = net.borrowers(2, collateral=symbol, debt="DAI", health=1.03, seed=11)
    async with playing(net, tmp_path) as play:
        await play.stage.mine()
        await play.stage.step(lambda: net.set_price(symbol, net.price(symbol) * 93 // 100))
        assert play.under(who) == set(who)
        await play.stage.mine()
        play.assert_taken(who)
        assert_clean(play.tally)


async def test_a_rotated_aggregator_is_followed(net: Devnet, tmp_path: Path) -> None:
    who = net.borrowers(2, health=1.03, seed=12)
    async with playing(net, tmp_path) as play:
        await play.stage.step(lambda: net.rotate_aggregator("WETH"))
        await play.stage.step(lambda: net.set_price("WETH", 2_350_00000000))
        await play.stage.mine()
        play.assert_taken(who)
        assert_clean(play.tally)


async def test_a_market_deployed_at_run_time_needs_four_facts(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endpoint, pool, keystore and contract: the rest is read from the chain."""
    market = net.deploy_market()
    who = net.borrowers(5, collateral="LINK", debt="USDC", health=1.04, seed=13, market=market)
    operator = deploy_operator(net)
    allow_market(net, operator.contract, operator.owner, market)
    write_settings(net, operator, tmp_path)
    monkeypatch.setenv("KEEPER_PASSWORD", (tmp_path / "password").read_text())
    path = tmp_path / "four.toml"
    command = [
        *("keeper", "init", str(path), "--yes", "--no-check", "--chain", "devnet"),
        *("--endpoint", net.ws_url, "--pool", "0x" + market.pool.hex()),
        *("--keystore", str(tmp_path / "operator.json")),
        *("--contract", "0x" + operator.contract.hex()),
    ]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(main)
    assert not ended.value.code
    overrides = ["mode=live", "http.port=0", f"journal.home={tmp_path}"]
    overrides.append("breakers.stale_head_blocks=1000000000")  # the chain's clock is stepped
    async with staged(net, load([path], overrides).settings, live=True) as stage:
        play = Play(stage)
        fallen = net.price("LINK", market) * 93 // 100
        await stage.step(lambda: net.set_prices({"LINK": fallen}, market=market))
        await stage.mine()
        play.assert_taken(who)
        assert_clean(play.tally)
        assert await play.audit() == []


async def test_dry_mode_proves_and_sends_nothing(net: Devnet, tmp_path: Path) -> None:
    who = net.borrowers(3, health=1.03, seed=14)
    async with playing(net, tmp_path, live=False) as play:
        await play.stage.step(lambda: net.set_price("WETH", 2_350_00000000))
        await play.stage.mine(2)
        dry = [event for event in play.stage.events if event.name == "plan.dry"]
        assert len(dry) == 1
        assert play.count().transactions == 0
        assert play.under(who) == set(who)
        page = play.stage.keeper.status()
        assert page["mode"] == "dry"
    nonce = net.rpc("eth_getTransactionCount", "0x" + net.users[0].address.hex(), "latest")
    assert nonce == "0x0"


async def test_the_kill_file_stops_sending_and_its_removal_resumes(
    net: Devnet, tmp_path: Path
) -> None:
    who = net.borrowers(2, health=1.03, seed=15)
    async with playing(net, tmp_path) as play:
        (tmp_path / "KILL").touch()
        await play.stage.step(lambda: net.set_price("WETH", 2_350_00000000))
        await play.stage.mine()
        assert play.reasons(who) == {Reason.BREAKER}
        assert play.stage.keeper.status()["state"] == "fail"
        (tmp_path / "KILL").unlink()
        await play.stage.mine(2)
        play.assert_taken(who)


async def test_a_rival_who_was_first_costs_no_revert(net: Devnet, tmp_path: Path) -> None:
    who = net.borrowers(4, health=1.03, seed=16)
    async with playing(net, tmp_path) as play:
        await play.stage.step(lambda: net.set_price("WETH", 2_350_00000000))

        def rival_first() -> None:
            for victim in who[:2]:
                net.liquidate_as_rival(victim, "WETH", "USDC", put=True, max_fee=350 * 10**9)
            net.mine()

        await play.stage.step(rival_first)
        tally = play.count()
        assert tally.reverted == 0
        assert tally.liquidated == set(who[2:])
        assert play.under(who) == set()


@pytest.mark.parametrize("taken", [7, 19])
async def test_those_a_rival_took_of_twenty_cost_little(
    net: Devnet, tmp_path: Path, taken: int
) -> None:
    """What is left goes through in the same block; each lost item costs at most 25,000 gas."""
    who = net.borrowers(20, health=1.03, size_usd=(20_000, 40_000), seed=18)
    before = net.snapshot()

    def rival() -> None:
        for victim in who[:taken]:
            net.liquidate_as_rival(victim, "WETH", "USDC", put=True, max_fee=350 * 10**9)

    async with playing(net, tmp_path / "alone") as play:

        def fall_and_rival() -> None:
            with net.one_block():
                put_prices(net.chain, net.market, {"WETH": 2_350_00000000})
                rival()

        await play.stage.step(fall_and_rival)
        await play.stage.mine()
        play.assert_taken(who[taken:])
        alone = play.tally.gas
    net.automine(False)
    net.revert(before)
    async with playing(net, tmp_path / "raced") as play:
        await play.stage.step(lambda: net.set_price("WETH", 2_350_00000000, move_pools=False))

        def rival_first() -> None:
            rival()
            net.mine()

        await play.stage.step(rival_first)
        play.assert_taken(who[taken:])
        assert play.tally.rejected_sends == play.tally.reverted == 0
        assert play.tally.transactions == 1
        assert play.tally.gas <= alone + taken * 25_000
        assert play.under(who) == set()


async def test_a_dead_first_endpoint_is_passed_over(net: Devnet, tmp_path: Path) -> None:
    who = net.borrowers(2, health=1.03, seed=17)
    operator = deploy_operator(net)
    path = write_settings(net, operator, tmp_path)
    text = path.read_text().replace(
        f'endpoints = ["{net.ws_url}"]',
        f'endpoints = ["ws://127.0.0.1:9", "{net.ws_url}", "{net.rpc_url}"]',
    )
    path.write_text(text)
    async with staged(net, load([path]).settings, live=True) as stage:
        play = Play(stage)
        await stage.step(lambda: net.set_price("WETH", 2_350_00000000))
        await stage.mine()
        play.assert_taken(who)
        assert_clean(play.tally)
