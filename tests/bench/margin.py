"""What margin calls cost: from a head to its messages, and the line with and without them."""

import asyncio
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median

from keeper.cli.demo.tally import milliseconds
from keeper.devnet import Devnet
from tests.line import Play, playing
from tests.margin_slide import CRASH, SLIDE, WATCH, check, delivered, slide, told
from tests.webhook import Hook

WATCHED = 1_000
ROUNDS = 10
AT_RISK = 20
IDLE_SECONDS = 0.05
PRICE = 2_500_00000000
FALLEN = 2_350_00000000


def _messages(net: Devnet, home: Path) -> dict[str, float]:
    """Watch a thousand positions through a slide and a crash; every message is held to the chain.

    In the slide nobody is liquidatable, so that a head is as quick as most are.
    """
    shares = (*SLIDE, *CRASH)
    found = asyncio.run(slide(net, home, WATCHED, shares, health=(1.21, 1.6), live=False))
    check(found)
    last = found.heads[len(SLIDE)]
    slow, crash = list[float](), list[float]()
    heads: dict[int, list[float]] = {}
    for note, seconds in zip(found.notes, found.seconds, strict=True):
        head = note["data"]["head"]
        (slow if head <= last else crash).append(seconds)
        heads.setdefault(head, []).append(seconds)
    print("messages and p95 ms by head:", [_shown(each) for each in heads.values()])
    return {
        "margin_messages": float(len(found.notes)),
        "margin_message_ms_p50": milliseconds(slow, 0.5),
        "margin_message_ms_p95": milliseconds(slow, 0.95),
        "margin_crash_message_ms_p95": milliseconds(crash, 0.95),
    }


def _shown(seconds: list[float]) -> str:
    return f"{len(seconds)}: {milliseconds(seconds, 0.95):.0f}"


async def _line(
    net: Devnet, home: Path, extra: str, seconds: list[float], heads: list[float]
) -> None:
    """Liquidate a score of borrowers a round; keep from head to send, and the time quiet heads took.

    Blocks stand seconds apart: whatever a head has told is told before the next one comes.
    """
    async with playing(net, home, extra=extra) as play:
        stage = play.stage
        for number in range(ROUNDS + 1):
            crowd = await stage.step(partial(net.borrowers, AT_RISK, health=(1.01, 1.04)))
            await _idle(play)
            await stage.step(partial(net.set_price, "WETH", FALLEN))
            report = stage.reports[-1]
            await _idle(play)
            await stage.mine()
            await _idle(play)
            await stage.mine()
            quiet = [sum(stage.reports[-1].stages.values())]
            if play.under(crowd) or report.head_to_send is None:
                raise RuntimeError("a round left somebody under")
            if number:
                seconds.append(report.head_to_send)
                heads.extend(quiet)
            await stage.step(partial(net.set_price, "WETH", PRICE))
            await _idle(play)


async def _idle(play: Play) -> None:
    """Let the last head be told of; without anybody to tell, wait about as long."""
    if play.stage.line.margin is None:
        await asyncio.sleep(IDLE_SECONDS)
    else:
        await told(play)
        await delivered(play)


def _cost(net: Devnet) -> dict[str, float]:
    """Return the line's figures with and without a thousand watched, by turns."""
    net.borrowers(WATCHED, health=(1.15, 1.6), seed=77)
    sent: dict[str, list[float]] = {"with": [], "without": []}
    quiet: dict[str, list[float]] = {"with": [], "without": []}
    # by turns, so that what else the machine does falls on both
    turns = ["with", "without"] * 3
    with Hook() as hook:
        for turn in turns:
            with tempfile.TemporaryDirectory() as home:
                extra = hook.table + WATCH if turn == "with" else ""
                asyncio.run(_line(net, Path(home), extra, sent[turn], quiet[turn]))
    figures: dict[str, float] = {}
    for turn, each in sent.items():
        figures[f"margin_{turn}_head_to_send_ms_p50"] = 1_000 * median(each)
        figures[f"margin_{turn}_head_to_send_ms_p95"] = milliseconds(each, 0.95)
        figures[f"margin_{turn}_quiet_head_ms_p50"] = 1_000 * median(quiet[turn])
    with_, without = (figures[f"margin_{turn}_head_to_send_ms_p50"] for turn in ("with", "without"))
    figures["margin_head_to_send_ratio"] = with_ / without
    return figures


def figures(net: Devnet) -> Mapping[str, float]:
    """Measure on a chain, which is left changed."""
    before = net.snapshot()
    with tempfile.TemporaryDirectory() as home:
        found = _messages(net, Path(home))
    net.revert(before)
    return found | _cost(net)
