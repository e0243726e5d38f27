"""Each alert is provoked, and arrives at a webhook through Prometheus and Alertmanager.

The rules are those that are committed, with their durations divided by 60.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from grafana.alerts import ALERTS
from grafana.rules import rules
from keeper.devnet import Devnet
from tests.line import playing
from tests.prometheus.ailing import Ailing, served
from tests.prometheus.delivery import delivering
from tests.prometheus.server import scraping

PATIENCE = 90.0
GONE = {"KeeperInstanceDown", "KeeperDown"}
POOR = {"KeeperWalletLow", "KeeperWalletRunningDry"}
FIRST = {alert.name for alert in ALERTS} - GONE - POOR
HEADS_BETWEEN_LOOKS = 25
"""Heads after which the keeper reads its wallet again."""


@pytest.mark.chain
@pytest.mark.timeout(300)
async def test_every_alert_arrives(net: Devnet, tools: Path, tmp_path: Path) -> None:
    net.borrowers(3, health=(1.01, 1.05), seed=3)
    ailing = Ailing()
    async with (
        delivering(tools, tmp_path) as (manager, inbox),
        AsyncExitStack() as ours,
        AsyncExitStack() as other,
    ):
        play = await ours.enter_async_context(playing(net, tmp_path))
        second = await other.enter_async_context(served(ailing))
        first = urlsplit(play.stage.keeper.server.address).netloc
        fast = rules(faster=60)
        async with scraping(
            tools, tmp_path, first, second, rules=fast, alertmanager=manager
        ) as prometheus:
            await prometheus.scraped(6)
            assert inbox.names() <= {"KeeperHeadStale", "KeeperNotStarted"}

            # the crash comes while somebody has paused the keeper
            kill = tmp_path / "KILL"
            kill.touch()
            worsening = asyncio.create_task(ailing.worsen())
            await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
            await inbox.wait(FIRST, PATIENCE)
            assert play.count().liquidated == set()

            kill.unlink()
            await play.stage.mine(3)
            assert len(play.count().liquidated) == 3
            await inbox.wait({"KeeperPaused", "KeeperNothingSent"}, PATIENCE, "resolved")

            wallet = "0x" + net.users[0].address.hex()
            await asyncio.to_thread(net.rpc, "anvil_setBalance", wallet, hex(10**12))
            await play.stage.mine(HEADS_BETWEEN_LOOKS)
            await inbox.wait(POOR, PATIENCE)

            worsening.cancel()
            await asyncio.wait([worsening])
            assert inbox.names() & GONE == set()
            await other.aclose()
            await inbox.wait({"KeeperInstanceDown"}, PATIENCE)
            await ours.aclose()
            await inbox.wait({"KeeperDown"}, PATIENCE)
    assert inbox.names() == {alert.name for alert in ALERTS}
    for alert in inbox.delivered:
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["runbook_url"].endswith(alert["labels"]["alertname"].lower())
