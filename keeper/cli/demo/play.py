"""The demo's course: build, open borrowers, start the keeper, crash, add up."""

import asyncio
import copy
import signal
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from eth_utils.address import to_checksum_address

from keeper import log
from keeper.cli.demo.purse import Purse, weigh
from keeper.cli.demo.screen import Screen
from keeper.cli.demo.stage import SETTLE_SECONDS, Stage, staged
from keeper.cli.demo.street import build, settle_in
from keeper.cli.demo.tally import Summary, Tally
from keeper.cli.screen import console
from keeper.config import Settings
from keeper.devnet import Devnet
from keeper.devnet.chain import BLOCK_SECONDS
from keeper.devnet.lending.street import Street
from keeper.devnet.operator import CHAIN_NAME, Operator, deploy_operator
from keeper.errors import TransientError
from keeper.journal.report import summarise
from keeper.types import Reason
from keeper.units import WAD

PICTURE_WIDTH = 104
GAS_CAP = 4_000_000
"""Most gas of one batch where several wallets send: with room for all, one would do all the work."""
QUIET_HEADS = 5
"""Heads without anything to do, no transaction to follow either, on which requests are counted."""
IDLE_HEADS = 2
"""Heads in a row on which nothing is sent, after which no more is expected of a crash."""
MOST_HEADS = 150
"""Heads after the crash for what is left of it."""
AUCTION_SECONDS = 90
"""Between two heads while auctions alone go on: the time of one of their prices."""
FAR_SECONDS = 5 * AUCTION_SECONDS
"""The same while all of them ask for more than they would bring."""
SETTLED_PER_SECOND = 20
"""Borrowers for whom a head may take another second, on a machine with much else to do."""
FOR_EVER = 2**40
"""A time after all others, in seconds."""
GAS_OF_ONE = 600_000
"""Gas of a liquidation in a batch of its own: what pays for no more is not missed."""


def play(
    *,
    borrowers: int,
    seed: int,
    protocols: Sequence[str],
    lanes: int,
    hold: bool,
    svg: Path | None,
    quiet: bool,
) -> Summary:
    """Play the story to its end and return its figures; SIGTERM ends it as an interrupt does."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    terminal = console()
    if svg is not None:
        terminal.record, terminal.width = True, PICTURE_WIDTH
    screen = Screen(terminal, quiet=quiet)
    screen.title(protocols)
    log.configure("error", "auto")
    # before there is a loop: an interrupt ends a slow build at once, not when its thread is done
    with (
        Devnet.start(seed=seed, progress=screen.progress) as net,
        tempfile.TemporaryDirectory(prefix="keeper-demo-") as home,
    ):
        operator = deploy_operator(net, lanes=lanes)
        street = build(net, operator, protocols, screen.progress)
        screen.done(
            "chain", f"{net.ws_url}, {len(net.tokens)} reserves, {len(net.uniswap.pools)} pools"
        )
        screen.done("contract", f"{to_checksum_address(operator.contract)}, owned by another")
        if lanes > 1:
            screen.done("wallets", f"{lanes} send beside each other")
        opened = street.gather(borrowers, seed)
        screen.done("borrowers", f"{opened} opened, one in ten of them tiny")
        few = f"[chains.{CHAIN_NAME}.fees]\ngas_cap = {GAS_CAP}\n" if lanes > 1 else ""
        path, settings = settle_in(street, operator, Path(home), few)
        return asyncio.run(
            _keep(street, operator, path, settings, screen, started, hold=hold, svg=svg)
        )


async def _keep(
    street: Street,
    operator: Operator,
    path: Path,
    settings: Settings,
    screen: Screen,
    started: float,
    *,
    hold: bool,
    svg: Path | None,
) -> Summary:
    """Run a keeper through the crash."""
    net = street.net
    crowd = sum(len(each.accounts) for each in street.lending)
    patience = SETTLE_SECONDS + crowd / SETTLED_PER_SECOND
    async with staged(net, settings, live=True, patience=patience) as stage:
        screen.done("keeper", f"live, {stage.keeper.server.address}/metrics")
        story = Story(stage, street, screen)
        purse = await asyncio.to_thread(weigh, street, operator)
        await story.crash()
        await stage.mine(max(chain.final_depth for chain in settings.chains.values()))
        requests = await _quiet(stage)
        await stage.step(street.beat)
        story.take()
        left = await asyncio.to_thread(street.rewards)
        tally = story.tally
        changed = (await asyncio.to_thread(weigh, street, operator)).since(purse)
        summary = tally.summary(
            {each.market: (each.protocol, len(each.accounts)) for each in street.lending},
            story.liquidatable,
            [key for key, usd in left.items() if usd > _worth(net, settings)],
            requests,
            time.monotonic() - started,
            [lane.address for lane in stage.line.executor.lanes],
            profit_is_held=changed == Purse(tally.gains, -tally.gas_paid),
            ledger_agrees=await asyncio.to_thread(_agrees, settings.journal_file, tally),
        )
        everybody = set().union(*story.liquidatable.values())
        screen.summary(summary, tally.reasons(everybody), await _audit(stage))
        if svg is not None:
            await asyncio.to_thread(svg.write_text, screen.picture(), encoding="utf-8")
        if hold:
            screen.hold(net.rpc_url, net.ws_url, stage.keeper.server.address, path)
            await _hold(stage, street)
    return summary


class Story:
    """The crash as it goes: whom the contracts called liquidatable, and what the keeper did."""

    def __init__(self, stage: Stage, street: Street, screen: Screen) -> None:
        self.tally = Tally()
        self.liquidatable: dict[str, set[bytes]] = {each.market: set() for each in street.lending}
        self._stage = stage
        self._street = street
        self._screen = screen
        self._near: set[bytes] = set()

    async def crash(self) -> None:
        """Step through the crash, and on until nothing is left to do, auctions included."""
        stage, street = self._stage, self._street
        self._screen.heading(list(self.liquidatable))
        self.take()
        steps = street.crash()
        while (prices := await stage.step(partial(next, steps, None))) is not None:
            self._look(await asyncio.to_thread(street.rewards))
            self._show(prices)
            await self._settle()
        idle = 1
        for _ in range(MOST_HEADS):
            waiting = await asyncio.to_thread(street.waiting)
            if idle >= IDLE_HEADS and not waiting:
                break
            # While nothing was sent, nobody counts on when the next block comes.
            pause = AUCTION_SECONDS if self._near & {who for _, who in waiting} else FAR_SECONDS
            seconds = pause if idle >= IDLE_HEADS else BLOCK_SECONDS
            await stage.step(partial(street.beat, seconds))
            self._look(waiting)
            idle = 0 if self._show(None, terse=True) else idle + 1
        await stage.mine()
        self.take()

    async def _settle(self) -> None:
        """Make heads until one has nothing to send: what was sent for these prices is then mined."""
        for _ in range(MOST_HEADS):
            await self._stage.step(self._street.beat)
            if not self._show(None):
                return

    def take(self) -> None:
        """Count what was reported."""
        for heap in (self._stage.events, self._stage.reports):
            while heap:
                self.tally.take(heap.popleft())

    def _look(self, found: Iterable[tuple[str, bytes]]) -> None:
        for market, who in found:
            self.liquidatable[market].add(who)

    def _show(self, prices: Mapping[str, int] | None, *, terse: bool = False) -> bool:
        """Print the last head, a terse one only when something came of it; return whether it was busy."""
        report, before = self._stage.reports[-1], copy.copy(self.tally)
        self._near = {risk.position.borrower for risk in report.view.at_risk}
        self.tally.recent.clear()
        self.take()
        if not terse or report.sent or self.tally.recent:
            self._screen.head(report, prices, self.tally, before)
        # a strategy that was late on a machine with other work is asked again
        return bool(report.sent) or any(skip.reason is Reason.TIMEOUT for skip in report.skips)


def _worth(net: Devnet, settings: Settings) -> int:
    """Return the most a liquidation may bring that nobody would send (USD, 8 decimals)."""
    gas = GAS_OF_ONE * net.chain.base_fee() * net.price("WETH") // WAD
    return settings.limits.minimum_profit + gas


def _agrees(journal: Path, tally: Tally) -> bool:
    """Say whether the journal adds up to what was reported: one ledger for every protocol."""
    booked = summarise(journal, 0, FOR_EVER).total()
    told = tally.net_usd, tally.transactions, tally.liquidations
    return told == (booked.net_usd, booked.included + booked.failed, booked.liquidated)


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


async def _hold(stage: Stage, street: Street) -> None:
    while True:
        await asyncio.sleep(2)
        await stage.step(street.beat)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do what an interrupt does at this moment: end a build, or stop what runs in the loop."""
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(number, frame)
