"""From a head's notification to the transactions' hand-over, simulation and journal included."""

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from keeper.chain.endpoint import connect
from keeper.cli.demo.tally import milliseconds
from keeper.devnet import Devnet
from tests.line import Play, playing
from tests.relay_stand_in import RelayStandIn

ROUNDS = {1: 30, 20: 20, 100: 6}
"""Rounds for each number of borrowers liquidatable in one block."""
QUIET_HEADS = 20
PRICE = 2_500_00000000
FALLEN = 2_350_00000000


async def _rounds(
    play: Play, count: int, rounds: int, relay: RelayStandIn | None = None
) -> tuple[list[float], dict[str, float]]:
    """Return head-to-send seconds of each round, and the mean milliseconds of each stage."""
    sent: list[float] = []
    stages: dict[str, float] = {}
    net, stage = play.net, play.stage
    for number in range(rounds):
        opening = partial(net.borrowers, count, health=(1.01, 1.04))
        crowd = await stage.step(opening)
        play.count()
        await stage.step(partial(net.set_price, "WETH", FALLEN))
        report = stage.reports[-1]
        if relay is not None:
            await relay.build(report.view.head.number + 1)
        await stage.mine(2)
        play.count()
        left = play.under(crowd)
        if left:
            raise RuntimeError(f"{len(left)} of {count} left in round {number}")
        if report.head_to_send is None:
            raise RuntimeError(f"nothing was sent in round {number}")
        sent.append(report.head_to_send)
        for name, seconds in report.stages.items():
            stages[name] = stages.get(name, 0.0) + 1000 * seconds / rounds
        await stage.step(partial(net.set_price, "WETH", PRICE))
    return sent, stages


def _requests(play: Play) -> float:
    return sum(
        sample.value
        for metric in play.stage.keeper.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "keeper_rpc_requests_total"
    )


async def _quiet(play: Play) -> dict[str, float]:
    """Return requests per head: nothing in it, and somebody else's supplies and swaps in it."""
    net, stage = play.net, play.stage
    before = _requests(play)
    await stage.mine(QUIET_HEADS)
    empty = (_requests(play) - before) / QUIET_HEADS
    pool, weth = net.uniswap.pools[0], net.tokens["WETH"].address
    before = _requests(play)
    for _ in range(QUIET_HEADS):
        await stage.step(partial(net.trade, pool, weth, 10**16))
    busy = (_requests(play) - before) / QUIET_HEADS
    return {"rpc_requests_per_quiet_head": busy, "rpc_requests_per_empty_head": empty}


async def _measure(net: Devnet, home: Path) -> tuple[dict[str, float], list[str]]:
    figures: dict[str, float] = {}
    lines = []
    async with playing(net, home) as play:
        for count, rounds in ROUNDS.items():
            await _rounds(play, count, 2)
            sent, stages = await _rounds(play, count, rounds)
            figures[f"head_to_send_ms_p50_{count}"] = milliseconds(sent, 0.5)
            figures[f"head_to_send_ms_p95_{count}"] = milliseconds(sent, 0.95)
            shares = "  ".join(f"{name} {value:.1f}" for name, value in stages.items())
            lines.append(f"{count:>4} borrowers, mean ms by stage: {shares}")
        figures |= await _quiet(play)
        tally = play.count()
        figures["storm_rejected_sends"] = tally.rejected_sends
        figures["storm_reverted"] = tally.reverted
        figures["storm_estimate_error_bps"] = tally.worst_error_bps
    return figures, lines


async def _measure_private(net: Devnet, home: Path) -> dict[str, float]:
    """Measure with bundles to a relay that stands in this very process."""
    (home / "relay.key").write_text("11" * 32, encoding="utf-8")
    async with connect(net.rpc_url, "bench") as rpc, RelayStandIn(rpc) as relay:
        extra = (
            f"[chains.devnet.relays.builder]\nkind = 'bundle'\nurl = '{relay.url}'\n"
            f"identity = 'file:{home / 'relay.key'}'\n"
        )
        async with playing(net, home, extra=extra) as play:
            await _rounds(play, 20, 2, relay)
            sent, _ = await _rounds(play, 20, ROUNDS[20], relay)
    return {
        "head_to_send_private_ms_p50_20": milliseconds(sent, 0.5),
        "head_to_send_private_ms_p95_20": milliseconds(sent, 0.95),
    }


def figures(net: Devnet) -> tuple[dict[str, float], list[str]]:
    """Measure on a chain, which is left changed; return figures and lines to print."""
    with tempfile.TemporaryDirectory() as home:
        found, lines = asyncio.run(_measure(net, Path(home)))
    with tempfile.TemporaryDirectory() as home:
        found |= asyncio.run(_measure_private(net, Path(home)))
    return found, lines
