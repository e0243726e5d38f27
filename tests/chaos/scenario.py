"""Play one scenario: chain, faults and keeper side by side, and the verdict at the end."""

import asyncio
import gc
import random
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from eth_utils.address import to_checksum_address

from keeper.chain.endpoint import connect
from keeper.chain.listener import Count
from keeper.chain.reader import ChainReader
from keeper.config import Settings, load
from keeper.types import Head
from tests.chaos.plan import Fault, Plan, Step, strike
from tests.chaos.proxy import FaultProxy
from tests.chaos.rig import NAME, SETTLE_SECONDS, Rig, rigged
from tests.chaos.verdict import Chain, leaks, open_files
from tests.chaos.world import FEES, World


@dataclass(slots=True)
class Outcome:
    """What came of one scenario; `problems` is empty when everything held."""

    seed: int
    problems: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    deepest: int = 0
    seconds: float = 0.0
    trace: str = ""


class Play:
    """What the parts of a scenario share."""

    def __init__(self, world: World, chain: Chain, plan: Plan, outcome: Outcome) -> None:
        self.world = world
        self.chain = chain
        self.plan = plan
        self.outcome = outcome
        self.lowest = self.highest = world.net.chain.block_number()
        self.proxies: list[FaultProxy] = []

    async def step(self, step: Step, lowest: int) -> None:
        """Let the chain do something; nothing at or below block `lowest` is replaced."""
        rng = random.Random(step.seed)
        tip = await asyncio.to_thread(self.world.net.chain.block_number)
        depth = min(step.size, tip - lowest)
        match step.kind:
            case "reorg" | "emptied" if depth > 0:
                self.outcome.faults["reorg"] += 1
                self.outcome.deepest = max(self.outcome.deepest, depth)
                if step.kind == "reorg":
                    await asyncio.to_thread(self.world.reorg, rng, depth, rng.randint(-2, 3))
                else:
                    await asyncio.to_thread(self.world.swap_tail, depth)
            case "list_pool":
                await asyncio.to_thread(self.world.list_pool, rng)
            case "rotate_feed":
                await asyncio.to_thread(self.world.rotate_feed, rng)
            case _:
                busy, most = (0.1, 2) if step.size > 8 else (0.8, 4)
                await asyncio.to_thread(self.world.blocks, rng, step.size, busy, most)

        tip = await asyncio.to_thread(self.world.net.chain.block_number)
        self.highest = max(self.highest, tip)

    async def mine(self) -> Head:
        """Make one block, and more until the chain is as high as it ever was; return the last."""
        head = None
        while head is None or head.number < self.highest:
            await asyncio.to_thread(self.world.net.mine)
            head = await self.chain.reader.head()
        return head


Run = Callable[[Play, Settings, Path], Awaitable[None]]


async def play(world: World, plan: Plan, home: Path, run_killed: Run) -> Outcome:
    """Play a scenario from the world's first block, and set the chain back to it."""
    outcome = Outcome(plan.seed)
    started = time.monotonic()
    with world.played():
        # Begin on a block never made before: the node forgets states in the order it first had them.
        world.net.mine(1, seconds=12 + plan.seed % 50_000)
        try:
            async with connect(world.net.ws_url, "direct", timeout=30) as direct:
                settings = write_settings(world, home, "ws://127.0.0.1:9")
                reader = ChainReader(direct, settings.chains[NAME].multicall)
                chain = Chain(reader, world.market.pool, world.borrowers, settings)
                await reader.head()
                complaints: list[str] = []
                asyncio.get_running_loop().set_exception_handler(
                    lambda _, context: complaints.append(str(context))
                )
                before, files = asyncio.all_tasks(), open_files()
                playing = Play(world, chain, plan, outcome)
                await (run_killed if plan.killed else run_in_process)(playing, settings, home)
                outcome.problems += await leaks(before, files)
                gc.collect()
                outcome.problems += complaints
        except Exception as error:  # noqa: BLE001 - the next scenario is played all the same
            outcome.problems.append(f"{type(error).__name__}: {error}")
            outcome.trace = traceback.format_exc()
    outcome.seconds = time.monotonic() - started
    return outcome


async def run_in_process(playing: Play, settings: Settings, _: Path) -> None:
    """Follow the chain through proxies while everything goes wrong."""
    plan, outcome = playing.plan, playing.outcome
    async with AsyncExitStack() as stack:
        for number in range(len(plan.shape)):
            world = playing.world
            proxy = FaultProxy(world.net.rpc_url, plan.seed * 7 + number, world.stillness)
            playing.proxies.append(await stack.enter_async_context(proxy))
        urls = [
            proxy.ws_url if scheme == "ws" else proxy.http_url
            for scheme, proxy in zip(plan.shape, playing.proxies, strict=True)
        ]
        await asyncio.to_thread(playing.world.blocks, random.Random(plan.seed), 2, 0.5)
        async with rigged(settings, urls) as rig:
            for each in plan.rounds:
                await _round(playing, rig, each.steps)
            outcome.problems += await _settled_drifts(playing, rig)
            outcome.counts.update(rig.counts)
            outcome.counts["decisions"] += len(rig.seen)
            outcome.counts["undecided"] += len(rig.undecided)
        for proxy in playing.proxies:
            await proxy.until_connections(0)
    for proxy in playing.proxies:
        outcome.faults.update(proxy.injected)


async def _settled_drifts(playing: Play, rig: Rig) -> list[str]:
    """Compare the book with the chain once it stands still.

    Who filled a gap is ahead of what is announced: heads of a branch that was left may come after
    the tip, and are followed until the tip is announced itself.
    """
    while True:
        tip = await playing.chain.reader.head()
        stands = await rig.run_until(partial(_is_at, rig, tip), SETTLE_SECONDS)
        reorgs = rig.counts[Count.REORGS]
        found = await playing.chain.drifts(rig.book, playing.plan.seed)
        if not found or not stands or rig.counts[Count.REORGS] == reorgs:
            return found


def _is_at(rig: Rig, tip: Head) -> bool:
    return rig.book.head == tip


async def _round(playing: Play, rig: Rig, steps: tuple[Fault | Step, ...]) -> None:
    start = playing.lowest
    for step in steps:
        if isinstance(step, Fault):
            await strike(playing.proxies, step, start)
            continue
        await playing.step(step, start)
        tip = await playing.chain.reader.head()
        await rig.run_until(lambda tip=tip: rig.book.head == tip, step.wait)  # type: ignore[misc]
    for proxy in playing.proxies:
        proxy.heal()
    if rig.book.head is not None:
        # Loaded in the midst of a reorg it may stand higher than any step left the chain.
        playing.highest = max(playing.highest, rig.book.head.number)
    first = len(rig.seen)
    if not await rig.decide((await playing.mine()).hash):
        playing.outcome.counts["second_heads"] += 1
        head = await playing.mine()
        assert await rig.decide(head.hash), f"two heads undecided: {rig.undecided[-1][1]}"
    playing.outcome.problems += await playing.chain.unseen(rig.seen[first:])
    playing.outcome.counts["at_risk"] += len(rig.seen[-1].borrowers)


def write_settings(world: World, home: Path, *endpoints: str) -> Settings:
    """Write a configuration without wallet and contract, and return it loaded."""
    net = world.net
    home.mkdir(parents=True, exist_ok=True)
    path = home / "keeper.toml"
    named = ", ".join(f'"{endpoint}"' for endpoint in endpoints)
    path.write_text(
        f"""mode = "dry"

[http]
port = 0

[journal]
home = "{home}"

[chains.{NAME}]
chain_id = {net.chain_id}
endpoints = [{named}]
wrapped_native = "{to_checksum_address(net.tokens["WETH"].address)}"
block_time = 1
poll_seconds = 0.1

[chains.{NAME}.markets.aave]
protocol = "aave-v3"
pool = "{to_checksum_address(net.market.pool)}"

[chains.{NAME}.venues.uniswap]
venue = "uniswap-v3"
factory = "{to_checksum_address(net.uniswap.factory)}"
fees = {list(FEES)}

[strategies.profitability]
use = "profitability"
"""
    )
    return load([path]).settings
