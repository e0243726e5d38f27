"""Margin calls on every lending protocol's real contracts, through one crash they share."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from keeper.chain.words import uint
from keeper.cli.demo.stage import staged
from keeper.cli.demo.street import build, settle_in
from keeper.config import Settings
from keeper.devnet import Devnet
from keeper.devnet.lending import LENDING
from keeper.devnet.operator import deploy_operator
from keeper.doctor.check import State
from keeper.doctor.feeds import examine_feeds
from keeper.protocols.morpho_blue import MorphoBlue
from keeper.units import WAD, Bps, to_hex
from tests.line import Play
from tests.margin_slide import ORDER, WATCH, by_position, delivered, told
from tests.webhook import Hook

pytestmark = pytest.mark.chain

CROWD = 20
PATIENCE = 120.0


async def test_everybody_is_told_whatever_the_protocol(
    net: Devnet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = deploy_operator(net)
    street = build(net, operator, tuple(LENDING), lambda *_: None)
    street.gather(CROWD, seed=3)
    with Hook() as hook:
        tables = hook.table + WATCH
        _, settings = await asyncio.to_thread(settle_in, street, operator, tmp_path, tables)
        async with staged(net, settings, live=True, patience=PATIENCE) as stage:
            play = Play(stage)
            await check_feeds(stage, settings, net)
            crash = street.crash()
            for _ in range(4):
                await stage.step(lambda: next(crash, None))
                await told(play)
                await delivered(play)
            await stage.step(street.beat)
            await stage.step(street.beat)
            await told(play)
            await delivered(play)
            taken = {
                quote.opportunity.key
                for report in stage.reports
                for plan in report.sent
                for quote in plan.quotes
                if quote.opportunity.position.protocol != "maker-clip"
            }
            prices = net.prices()
            listed, _ = await stage.line.margin.listing(whole=True)  # type: ignore[union-attr]
    assert "margin." not in capsys.readouterr().out
    keys = [note["key"] for note in hook.notes]
    assert len(keys) == len(set(keys))
    found = by_position(hook.notes)
    protocols = defaultdict[str, set[str]](set)
    for position, messages in found.items():
        levels = [each["level"] for each in messages]
        end = levels.index("liquidated") if "liquidated" in levels else len(levels)
        assert levels[:end] == sorted(set(levels[:end]), key=ORDER.index), position
        protocols[messages[0]["protocol"]] |= set(levels)
        for each in messages:
            check_crossing(each)
            assert int(each["debt_usd"]) == 0 or int(each["liquidation_cost_usd"]) > 0
    # an auction is of somebody who was liquidated already
    assert protocols.keys() == LENDING.keys() - {"maker-clip"}
    assert all("liquidated" in levels for levels in protocols.values())
    assert all(len(levels) > 2 for levels in protocols.values())
    liquidated = {position for position, messages in found.items() if "liquidation" in messages[-1]}
    mined = {(market, "0x" + who.hex()) for market, who in taken}
    assert liquidated <= mined
    assert len(liquidated) > 4
    assert all(each["debt_usd"] > 1 for each in listed)
    print({name: sorted(levels) for name, levels in protocols.items()}, prices["WETH"])


async def check_feeds(stage: Any, settings: Settings, net: Devnet) -> None:
    """Assert that the doctor reads the prices of every market, and their ages, before any is loaded."""
    reader, journal = stage.line.reader, settings.journal_file
    chain = settings.chains["devnet"]
    found = examine_feeds(reader, "devnet", chain, await reader.head(), Bps(100), journal)
    checks = {check.name: check async for check in found}
    assert checks.keys() == {"pools uniswap", *(f"feeds {name}" for name in chain.markets)}
    assert {check.state for check in checks.values()} == {State.OK}
    assert checks["feeds aave"].detail.startswith(f"{len(net.tokens)} read, the oldest round ")
    assert "bps off the pools (" in checks["feeds venus"].detail
    assert checks["feeds morpho"].detail == "its prices are told of once it is loaded"
    head = await reader.head()
    book = stage.line.book.markets["morpho"]
    options = {
        **chain.markets["morpho"].options,
        "ids": [to_hex(i) for i in book.protocol._ledger.pools],
    }
    named = MorphoBlue("morpho", MorphoBlue.Config(**options))
    pairs = [each for each in await named.sources(reader, head) if each.against is not None]
    rates = book.protocol.rates(book.prices).values()
    assert len(pairs) == len(rates) > 1
    for token, loan, rate in rates:
        (source,) = [e for e in pairs if (e.token, e.against) == (token, loan)]
        answer = await reader.call(source.call, head.hash)
        assert uint(answer) * WAD // source.unit == rate


def check_crossing(data: dict[str, Any]) -> None:
    """Assert that at the price named the health is one, all else as it is."""
    if len(data["collateral"]) != 1 or len(data["debt"]) != 1 or int(data["health"]) < 10**17:
        return
    (held,) = data["collateral"]
    falls = [each for each in data["liquidated_when"] if each["is"] == "at_most"]
    (fall,) = falls
    assert fall["token"] == held["token"], data
    now = int(data["collateral_usd"]) * 10 ** held["decimals"] / int(held["amount"]) / 10**8
    assert int(fall["price"]) / int(fall["unit"]) * int(data["health"]) / 1e18 == pytest.approx(
        now, rel=1e-5
    )
