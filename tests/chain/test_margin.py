"""Margin calls on the real contracts: a slow slide, a crash, and kills."""

import asyncio
import json
import os
from functools import partial
from pathlib import Path

import pytest

from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator
from tests.forked import run_command
from tests.line import playing
from tests.live import living
from tests.margin_killed import fall
from tests.margin_slide import CRASH, SLIDE, WATCH, check, slide, told
from tests.webhook import Hook

pytestmark = pytest.mark.chain


async def test_each_level_is_told_once_in_order_and_before_a_liquidation(
    net: Devnet, tmp_path: Path
) -> None:
    found = await slide(net, tmp_path, 100, (*SLIDE[:5], *CRASH))
    assert check(found) > 10
    print(f"{len(found.notes)} messages")


async def test_a_message_says_what_the_chain_says(net: Devnet, tmp_path: Path) -> None:
    (who,) = net.borrowers(1, health=1.3, seed=31)
    table = WATCH + f'addresses = ["0x{who.hex()}"]\ntarget_health = 1.4\n'
    with Hook() as hook:
        async with playing(net, tmp_path, live=False, extra=hook.table + table) as play:
            await play.stage.step(partial(net.set_price, "WETH", int(net.price("WETH") * 0.84)))
            await told(play)
            await asyncio.to_thread(hook.until, 1)
            (note,) = hook.notes
            data = note["data"]
            assert data["level"] == "call"
            assert data["borrower"].lower() == "0x" + who.hex()
            (crossing,) = [e for e in data["liquidated_when"] if e["token"] == "WETH"]
            at = int(crossing["price"])
            assert f"WETH ≤ {at // 10**8:,}.{at // 10**6 % 100:02d} (" in note["text"]
            # a cent over that price nobody may liquidate, a cent under it anybody may
            await play.stage.step(partial(net.set_price, "WETH", at + 10**6))
            assert play.under([who]) == set()
            await play.stage.step(partial(net.set_price, "WETH", at - 10**6))
            assert play.under([who]) == {who}
            await told(play)
            await asyncio.to_thread(hook.until, 3)
            held = hook.notes[-1]["data"]["collateral"]
            assert [each["token"] for each in held] == ["WETH"]
    assert [each["data"]["level"] for each in hook.notes] == ["call", "critical", "liquidatable"]


async def test_operators_are_told_of_every_opening_of_a_breaker(
    net: Devnet, tmp_path: Path
) -> None:
    with Hook() as hook:
        extra = hook.table + '[notify]\nevents = ["desk"]\n'
        async with playing(net, tmp_path, extra=extra) as play:
            await play.stage.mine()
            for _ in range(3):
                play.stage.keeper.desk.pause("keeper pause")
                play.stage.keeper.desk.resume("keeper resume")
            await asyncio.to_thread(hook.until, 7)
    titles = [note["title"].partition(" on ")[0] for note in hook.notes]
    days = [title for title in titles if title.startswith("20")]
    breakers = [title for title in titles if title not in days]
    assert breakers == ["breaker operator_pause opened", "breaker operator_pause closed"] * 3
    assert len(days) == 1


def test_no_kill_loses_or_repeats_a_message(net: Devnet, tmp_path: Path) -> None:
    """The process dies with messages made, posted or under way; every one arrives, by its key once."""
    operator = deploy_operator(net)
    crowd = net.borrowers(60, health=(1.05, 1.3), seed=41)
    with Hook() as hook, living(net, operator, tmp_path, extra=hook.table + WATCH) as live:
        found = fall(live, hook, crowd, (0.95, 0.9), seed=41)
        head = net.chain.block_number()
        env = {**os.environ, "KEEPER_HOME": str(tmp_path)}
        answer = run_command(["margin", "list", "--json", *live.options], tmp_path, env)
        (worst, *_) = json.loads(answer.stdout)["positions"]
        assert worst["head"] == head
        shown = run_command(["margin", "list", "--limit", "1", *live.options], tmp_path, env)
        assert "more: --limit shows them" in shown.stdout
        seen = run_command(["margin", "ack", worst["borrower"], *live.options], tmp_path, env)
        assert seen.stdout == f"acknowledged: 1 open calls to {worst['borrower']}\n", seen.stderr
        assert live.rows("SELECT count(*) FROM margin_standings WHERE acknowledged") == [(1,)]
    print(f"{len(found.notes)} messages in {len(hook.notes)} deliveries, {hook.requests} requests")
    assert check(found) > 5
