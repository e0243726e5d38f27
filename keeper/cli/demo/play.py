"""The demo's course: build, open borrowers, start the keeper, crash, add up."""

import asyncio
import copy
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from types import FrameType

from eth_utils.address import to_checksum_address

from keeper import log
from keeper.cli.demo.screen import Screen
from keeper.cli.demo.stage import Stage, staged
from keeper.cli.demo.tally import Summary, Tally
from keeper.cli.screen import console
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import CHAIN_NAME, deploy_operator, write_settings
from keeper.devnet.scenario import Crowd, crash, gather, underwater
from keeper.errors import TransientError

PICTURE_WIDTH = 104
GAS_CAP = 4_000_000
"""Most gas of one batch where several wallets send: with room for all, one would do all the work."""
QUIET_HEADS = 5
"""Heads without anything to do, no transaction to follow either, on which requests are counted."""


def play(
    *, borrowers: int, seed: int, lanes: int, hold: bool, svg: Path | None, quiet: bool
) -> Summary:
    """Play the story to its end and return its figures; SIGTERM ends it as an interrupt does."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    terminal = console()
    if svg is not None:
        terminal.record, terminal.width = True, PICTURE_WIDTH
    screen = Screen(terminal, quiet=quiet)
    screen.title()
    log.configure("error", "auto")
    # before there is a loop: an interrupt ends a slow build at once, not when its thread is done
    with (
        Devnet.start(seed=seed, progress=screen.progress) as net,
        tempfile.TemporaryDirectory(prefix="keeper-demo-") as home,
    ):
        screen.done(
            "chain", f"{net.ws_url}, {len(net.tokens)} reserves, {len(net.uniswap.pools)} pools"
        )
        operator = deploy_operator(net, lanes=lanes)
        screen.done(
            "contract",
            f"{to_checksum_address(operator.contract)}, owned by another",
        )
        if lanes > 1:
            screen.done("wallets", f"{lanes} send beside each other")
        crowd = gather(net, borrowers, seed)
        screen.done("borrowers", f"{len(crowd.all)} opened, {len(crowd.tiny)} of them tiny")
        few = f"[chains.{CHAIN_NAME}.fees]\ngas_cap = {GAS_CAP}\n" if lanes > 1 else ""
        path = write_settings(net, operator, Path(home), extra=few)
        return asyncio.run(_keep(net, crowd, path, screen, started, hold=hold, svg=svg))


async def _keep(
    net: Devnet,
    crowd: Crowd,
    path: Path,
    screen: Screen,
    started: float,
    *,
    hold: bool,
    svg: Path | None,
) -> Summary:
    """Run a keeper through the crash."""
    settings = load([path]).settings
    async with staged(net, settings, live=True) as stage:
        screen.done("keeper", f"live, {stage.keeper.server.address}/metrics")
        tally = Tally()
        liquidatable = await _crash(stage, crowd, tally, screen)
        await stage.mine(max(chain.final_depth for chain in settings.chains.values()))
        requests = await _quiet(stage)
        summary = tally.summary(
            len(crowd.all),
            liquidatable,
            requests,
            time.monotonic() - started,
            [lane.address for lane in stage.line.executor.lanes],
        )
        screen.summary(summary, tally.reasons(), await _audit(stage))
        if svg is not None:
            await asyncio.to_thread(svg.write_text, screen.picture(), encoding="utf-8")
        if hold:
            screen.hold(net.rpc_url, net.ws_url, stage.keeper.server.address, path)
            await _hold(stage)
    return summary


async def _crash(stage: Stage, crowd: Crowd, tally: Tally, screen: Screen) -> int:
    """Step through the crash; return how many borrowers the protocol called liquidatable."""
    screen.heading()
    steps = crash(stage.net)
    liquidatable: set[bytes] = set()
    _take(stage, tally)
    while True:
        before = copy.copy(tally)
        prices = await stage.step(partial(next, steps, None))
        if prices is None:
            break
        liquidatable |= await asyncio.to_thread(underwater, stage.net, crowd.all)
        _show(stage, tally, screen, prices, before)
        before = copy.copy(tally)
        await stage.mine()
        _show(stage, tally, screen, None, before)
    await stage.mine()
    _take(stage, tally)
    return len(liquidatable)


def _show(
    stage: Stage, tally: Tally, screen: Screen, prices: dict[str, int] | None, before: Tally
) -> None:
    report = stage.reports[-1]
    _take(stage, tally)
    screen.head(report, prices, tally, before)


def _take(stage: Stage, tally: Tally) -> None:
    for heap in (stage.events, stage.reports):
        while heap:
            tally.take(heap.popleft())


async def _quiet(stage: Stage) -> float:
    """Return the requests one head costs when there is nothing to do."""
    before = _requests(stage)
    await stage.mine(QUIET_HEADS)
    return (_requests(stage) - before) / QUIET_HEADS


def _requests(stage: Stage) -> float:
    return sum(
        sample.value
        for metric in stage.keeper.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "keeper_rpc_requests_total"
    )


async def _audit(stage: Stage) -> str:
    """Compare the whole book with the chain."""
    drifts = await stage.line.book.audit(stage.line.reader, sample=10_000, seed=1)
    if drifts:
        first = drifts[0]
        raise TransientError(
            f"the book drifted: {first.subject} held {first.held}, chain {first.actual}"
        )
    return "book equals the chain to the wei"


async def _hold(stage: Stage) -> None:
    while True:
        await asyncio.sleep(2)
        await stage.mine()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do what an interrupt does at this moment: end a build, or stop what runs in the loop."""
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(number, frame)
