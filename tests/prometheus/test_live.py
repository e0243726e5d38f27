"""Every query of every dashboard answers with data from a keeper that lived through a crash."""

import asyncio
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from grafana.rules import rules
from keeper.app.survey import HEADS
from keeper.chain.endpoint import connect
from keeper.cli.grafana_checks import asked
from keeper.devnet import Devnet
from tests.line import playing
from tests.prometheus.server import JOB, scraping
from tests.prometheus.watching import watching
from tests.relay_stand_in import RelayStandIn

FOLDER = Path(__file__).resolve().parents[2] / "grafana" / "dashboards"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
FILLED = {
    "job": JOB,
    "chain": ".*",
    "strategy": ".*",
    "protocol": ".*",
    "instance": ".*",
    "__range": "10m",
}
POSITIVE = {
    "Borrowers",
    "Debt at risk",
    "Funnel",
    "Gas left",
    "Head",
    "Net profit in range",
    "Net profit by instance",
    "Liquidatable",
    "Liquidatable now",
    "Their debt",
    "Positions by distance",
    "Stress curve: debt after a fall",
    "Debt within a fall",
    "Reached by strategy",
    "Scraped",
    "Revenue",
    "Revenue by protocol",
    "Costs",
    "Skips by reason",
    "Transactions by outcome",
    "Head to send",
    "Stage p50 and p99",
    "RPC p95",
    "Feeds: age in heartbeats",
    "Feeds: away from the pools",
    "Relays: time to answer, 95 of 100",
    "Relays: what came of it",
    "Relays: what they answered",
    "Wallet",
    "Watched positions by level",
    "Watched debt by level",
    "Messages",
}
"""Panels in which at least one series must be above zero after a liquidation."""
FEED = """
[chains.devnet.feeds.WETH]
heartbeat_seconds = 3600
"""
RELAY = """
[chains.devnet.relays.builder]
kind = 'bundle'
url = '{}'
identity = 'file:{}'
"""


def panels(nodes: list[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Yield the title and unit of each panel with each of its queries, rows opened."""
    for node in nodes:
        for target in node.get("targets", ()):
            yield node["title"], node["fieldConfig"]["defaults"]["unit"], target["expr"]
        yield from panels(node.get("panels", []))


def plausible(unit: str, value: float) -> bool:
    """Say whether a panel of this unit can show a value."""
    if math.isnan(value):
        return False
    match unit:
        case "bool_yes_no":
            return value in {0.0, 1.0}
        case "short" | "bytes" | "ops" | "s" | "percentunit":
            return value >= 0 and math.isfinite(value)
        case _:
            return math.isfinite(value)


def filled(query: str) -> str:
    """Put in what Grafana would: the variables' values and intervals."""
    text = re.sub(r"\$__(?:rate_)?interval", "2m", query)
    text = re.sub(r"\$(\w+)", lambda match: FILLED[match[1]], text)
    assert "$" not in text
    return text


@pytest.mark.chain
async def test_every_panel_shows_data(net: Devnet, tools: Path, tmp_path: Path) -> None:
    net.borrowers(4, health=(1.01, 1.05), seed=3)
    net.borrowers(1, health=(1.01, 1.05), size_usd=(20, 60), seed=4)
    key = tmp_path / "relay.key"
    key.write_text("11" * 32, encoding="utf-8")
    async with (
        connect(net.rpc_url, "devnet") as rpc,
        RelayStandIn(rpc) as relay,
        watching(tmp_path) as watch,
        playing(net, tmp_path, extra=RELAY.format(relay.url, key) + watch + FEED) as play,
    ):
        target = urlsplit(play.stage.keeper.server.address).netloc
        async with scraping(tools, tmp_path, target, rules=rules()) as prometheus:
            await prometheus.scraped(2)
            await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
            await prometheus.scraped(1)
            assert await relay.build(await asyncio.to_thread(net.chain.block_number) + 1) > 0
            await play.stage.mine(HEADS)
            await prometheus.scraped(2)
            assert len(play.count().liquidated) == 4

            silent, odd, flat = [], [], set(POSITIVE)
            for board in BOARDS.values():
                for title, unit, query in panels(board["panels"]):
                    values = await prometheus.query(filled(query))
                    if not values:
                        silent.append((title, query))
                    odd += [(title, value) for value in values if not plausible(unit, value)]
                    if any(value > 0 for value in values):
                        flat.discard(title)
                for mark in board["annotations"]["list"]:
                    await prometheus.query(filled(mark["expr"]))
                for variable in board["templating"]["list"]:
                    if inside := re.fullmatch(
                        r"label_values\((.+), \w+\)", variable.get("definition", "")
                    ):
                        assert await prometheus.query(filled(inside[1])), variable["name"]
            assert silent == []
            assert odd == []
            assert flat == set()

            checked = await asyncio.to_thread(asked, prometheus.url, JOB)
            assert [each for each in checked if each.state == "fault"] == []

            async def total(metric: str) -> float:
                return math.fsum(await prometheus.query(f"sum({metric})"))

            assert await total('keeper_health_positions{fall="1"}') == await total(
                "keeper_positions"
            )
            whole = await total('keeper_health_debt_usd{fall="1"}')
            assert 0 < await total('keeper_health_debt_usd{fall="0"}') < whole
