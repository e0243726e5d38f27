"""Feeds beside real pools: one follows behind them, then falls silent, and nothing is sent under it."""

from pathlib import Path

import pytest

from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.types import Reason
from keeper.units import BPS
from tests.line import Play, playing

pytestmark = pytest.mark.chain
FEED = """
[chains.devnet.feeds.WETH]
heartbeat_seconds = 60
deviation_bps = 50
"""
BEATS = 3
ETHER = {"chain": "devnet", "market": "aave", "asset": "WETH"}


def metric(play: Play, name: str, labels: dict[str, str]) -> float:
    value = play.stage.keeper.metrics.registry.get_sample_value(name, labels)
    assert value is not None
    return value


def sell(net: Devnet) -> None:
    """Sell so much ether that every pool of it gives some percent less."""
    ether = net.tokens["WETH"].address
    for pool in net.uniswap.pools:
        if ether in {pool.token0, pool.token1} and (held := net.balance(ether, pool.address)):
            net.trade(pool, ether, held // 50)


async def test_a_feed_follows_then_falls_silent_then_speaks(net: Devnet, tmp_path: Path) -> None:
    (who,) = net.borrowers(1, health=1.02, size_usd=(20_000, 20_000), seed=71)
    async with playing(net, tmp_path, extra=FEED) as play:
        await play.stage.mine()
        assert metric(play, "keeper_oracle_deviation_ratio", ETHER) == pytest.approx(0, abs=0.005)

        await play.stage.step(lambda: sell(net))
        first = metric(play, "keeper_oracle_deviation_ratio", ETHER)
        assert first > 0.005
        left = net.chain.timestamp()
        await play.stage.mine(2)
        assert metric(play, "keeper_oracle_lag_seconds_count", ETHER) == 0
        fallen = int(net.price("WETH") / (1 + first))
        await play.stage.step(lambda: net.set_price("WETH", fallen, move_pools=False))
        assert metric(play, "keeper_oracle_lag_seconds_count", ETHER) == 1
        behind = net.chain.timestamp() - left
        seconds = metric(play, "keeper_oracle_lag_seconds_sum", ETHER)
        assert behind <= seconds <= behind + 12 * len(net.uniswap.pools)
        assert abs(metric(play, "keeper_oracle_deviation_ratio", ETHER)) < 1 / BPS
        assert metric(play, "keeper_oracle_age_seconds", ETHER) == 0

        await play.stage.step(lambda: net.mine(1, 60 * BEATS))
        await play.stage.step(lambda: net.set_price("USDC", 1_06000000, move_pools=False))
        assert play.under([who]) == {who}
        assert play.reasons([who]) == {Reason.STALE_ORACLE}
        assert play.count().liquidated == set()
        labels = {"chain": "devnet", "protocol": "aave-v3", "strategy": "none"}
        assert metric(play, "keeper_skips_total", {**labels, "reason": "stale_oracle"}) == 1
        shown = play.stage.line.status.as_json()
        (feed,) = [each for each in shown["feeds"] if each["asset"] == "WETH"]
        assert feed["age_seconds"] == metric(play, "keeper_oracle_age_seconds", ETHER) > 180
        assert feed["stale"].endswith("with a heartbeat of 60 s")
        assert [each for each in shown["feeds"] if each["stale"]] == [feed] == shown["feeds"][:1]
        assert shown["state"] == "warn"

        await play.stage.step(lambda: net.set_price("WETH", fallen - 1, move_pools=False))
        await play.stage.mine()
        play.assert_taken([who])
        (before,) = [each.feed for each in play.stage.line.status.feeds() if each.asset == "WBTC"]

    # the next process goes on with what this one had written
    path = tmp_path / "keeper.toml"
    async with staged(net, load([path]).settings, live=True) as stage:
        (feed,) = [each.feed for each in stage.line.status.feeds() if each.asset == "WBTC"]
    assert feed.updated == before.updated < before.looked <= feed.looked
