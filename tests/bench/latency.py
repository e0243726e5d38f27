"""From a head's notification to the transactions' hand-over, simulation and journal included."""

import asyncio
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median

from keeper.cli.demo.tally import milliseconds
from keeper.devnet import Devnet
from tests.bench.relay import RelayProcess
from tests.line import Play, playing

ROUNDS = {1: 30, 20: 20, 100: 6}
"""Rounds for each number of borrowers liquidatable in one block."""
QUIET_HEADS = 60
FINAL_HEADS = 8
"""Heads for which a transaction is followed: whatever was sent before is final after them."""
PRICE = 2_500_00000000
FALLEN = 2_350_00000000


async def _rounds(
    play: Play, count: int, rounds: int, relay: RelayProcess | None = None
) -> tuple[list[float], dict[str, float]]:
    """Return head-to-send seconds of each round, and the mean milliseconds of each stage."""
    sent: list[float] = []
    stages: dict[str, float] = {}
    net, stage = play.net, play.stage
    for number in range(rounds):
        opening = partial(net.borrowers, count, health=(1.01, 1.04))
        crowd = await stage.step(opening)
        play.count()
        await _fall(play)
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


async def _fall(play: Play) -> None:
    """Let the price fall in one block, and ask the node nothing until the keeper has decided on it."""
    net, stage = play.net, play.stage
    decided = threading.Event()

    def fall() -> None:
        with net.chain.one_block(decided.wait):
            net.put_prices({"WETH": FALLEN})

    before = await asyncio.to_thread(net.chain.block_number)
    falling = asyncio.ensure_future(asyncio.to_thread(fall))
    try:
        await stage.reach(before + 1)
    finally:
        decided.set()
    await falling


def _requests(play: Play) -> Counter[str]:
    """Return the requests so far by method."""
    counted: Counter[str] = Counter()
    for metric in play.stage.keeper.metrics.registry.collect():
        for sample in metric.samples:
            if sample.name == "keeper_rpc_requests_total":
                counted[sample.labels["method"]] += int(sample.value)
    return counted


async def _asked(play: Play, name: str, step: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """Take some heads; return what one costs, and what all cost with the looks taken now and then.

    What the line asks is asked at every head: the median head. Audits, the treasury's look, the fee
    history and looks at the endpoint fall on some heads alone, and no decision waits for them.
    """
    started = _requests(play)
    each: list[int] = []
    for _ in range(QUIET_HEADS):
        before = _requests(play).total()
        await step()
        each.append(_requests(play).total() - before)
    methods = _requests(play) - started
    shares = ", ".join(f"{method} {asked}" for method, asked in methods.most_common())
    print(f"requests of {QUIET_HEADS} {name} heads: {shares}; each {each}")
    counted = {
        f"rpc_requests_per_{name}_head": float(median(each)),
        f"rpc_requests_per_{name}_head_mean": methods.total() / QUIET_HEADS,
    }
    return counted | {
        f"rpc_{name}_{method}": asked / QUIET_HEADS for method, asked in methods.items()
    }


async def _quiet(play: Play) -> dict[str, float]:
    """Return requests per head: nothing in it, and somebody else's supplies and swaps in it."""
    net, stage = play.net, play.stage
    await stage.mine(FINAL_HEADS)
    empty = await _asked(play, "empty", stage.mine)
    pool, weth = net.uniswap.pools[0], net.tokens["WETH"].address
    trade = partial(stage.step, partial(net.trade, pool, weth, 10**16))
    return await _asked(play, "quiet", trade) | empty


async def _measure(net: Devnet, home: Path) -> tuple[dict[str, float], list[str]]:
    figures: dict[str, float] = {}
    lines = []
    async with playing(net, home) as play:
        for count, rounds in ROUNDS.items():
            await _rounds(play, count, 2)
            sent, stages = await _rounds(play, count, rounds)
            figures[f"head_to_send_ms_p50_{count}"] = milliseconds(sent, 0.5)
            figures[f"head_to_send_ms_p95_{count}"] = milliseconds(sent, 0.95)
            lines.append(_line(f"{count:>4} borrowers", stages))
        figures |= await _quiet(play)
        tally = play.count()
        figures["storm_rejected_sends"] = tally.rejected_sends
        figures["storm_reverted"] = tally.reverted
        figures["storm_estimate_error_bps"] = tally.worst_error_bps
    return figures, lines


async def _measure_private(net: Devnet, home: Path) -> tuple[dict[str, float], list[str]]:
    """Measure with bundles to a relay of another process on this machine."""
    (home / "relay.key").write_text("11" * 32, encoding="utf-8")
    async with RelayProcess(net.rpc_url) as relay:
        extra = (
            f"[chains.devnet.relays.builder]\nkind = 'bundle'\nurl = '{relay.url}'\n"
            f"identity = 'file:{home / 'relay.key'}'\n"
        )
        async with playing(net, home, extra=extra) as play:
            await _rounds(play, 20, 2, relay)
            sent, stages = await _rounds(play, 20, ROUNDS[20], relay)
    figures = {
        "head_to_send_private_ms_p50_20": milliseconds(sent, 0.5),
        "head_to_send_private_ms_p95_20": milliseconds(sent, 0.95),
    }
    return figures, [_line("  20 borrowers, bundles", stages)]


def _line(what: str, stages: dict[str, float]) -> str:
    shares = "  ".join(f"{name} {value:.1f}" for name, value in stages.items())
    return f"{what}, mean ms by stage: {shares}"


def figures(net: Devnet) -> tuple[dict[str, float], list[str]]:
    """Measure on a chain, which is left changed; return figures and lines to print."""
    with tempfile.TemporaryDirectory() as home:
        found, lines = asyncio.run(_measure(net, Path(home)))
    with tempfile.TemporaryDirectory() as home:
        privately, more = asyncio.run(_measure_private(net, Path(home)))
    return found | privately, lines + more
