"""Every query of the dashboard answers with data from a keeper that lived through a crash."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from keeper.chain.endpoint import connect
from keeper.devnet import Devnet
from tests.line import playing
from tests.prometheus.server import JOB, scraping
from tests.relay_stand_in import RelayStandIn

BOARD = json.loads(
    (Path(__file__).resolve().parents[2] / "grafana" / "dashboards" / "keeper.json").read_text()
)
FILLED = {"job": JOB, "chain": ".*", "strategy": ".*", "__range": "10m"}
POSITIVE = {
    "Borrowers",
    "Debt at risk",
    "Funnel",
    "Gas left",
    "Head",
    "Net profit in range",
    "Revenue",
    "Revenue by protocol",
    "Costs",
    "Skips by reason",
    "Transactions by outcome",
    "Head to send",
    "Stage p50 and p99",
    "RPC p95",
    "Relays: time to answer, 95 of 100",
    "Relays: what came of it",
    "Relays: what they answered",
    "Wallet",
}
"""Panels in which at least one series must be above zero after a liquidation."""
RELAY = """
[chains.devnet.relays.builder]
kind = 'bundle'
url = '{}'
identity = 'file:{}'
"""


def panels(nodes: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with each of its queries, rows opened."""
    for node in nodes:
        for target in node.get("targets", ()):
            yield node["title"], target["expr"]
        yield from panels(node.get("panels", []))


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
        playing(net, tmp_path, extra=RELAY.format(relay.url, key)) as play,
    ):
        target = urlsplit(play.stage.keeper.server.address).netloc
        async with scraping(tools, tmp_path, target) as prometheus:
            await prometheus.scraped(2)
            await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
            await prometheus.scraped(1)
            assert await relay.build(await asyncio.to_thread(net.chain.block_number) + 1) > 0
            await play.stage.mine(2)
            await prometheus.scraped(2)
            assert len(play.count().liquidated) == 4

            silent, flat = [], set(POSITIVE)
            for title, query in panels(BOARD["panels"]):
                values = await prometheus.query(filled(query))
                if not values:
                    silent.append((title, query))
                if any(value > 0 for value in values):
                    flat.discard(title)
            assert silent == []
            assert flat == set()
            for mark in BOARD["annotations"]["list"]:
                await prometheus.query(filled(mark["expr"]))
            for variable in BOARD["templating"]["list"]:
                if inside := re.fullmatch(
                    r"label_values\((.+), \w+\)", variable.get("definition", "")
                ):
                    assert await prometheus.query(filled(inside[1])), variable["name"]
