"""A crowd of watched positions through a slow slide and a crash, every message held to the chain."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from keeper.chain.listener import Tick
from keeper.devnet import Devnet
from keeper.engine import Engine
from keeper.units import WAD
from tests.line import Play, playing
from tests.webhook import Hook

ORDER = ("warning", "call", "critical", "liquidatable", "liquidated")
WATCH = """
[margin.watch.everyone]
channels = ["desk"]
warning = 1.2
call = 1.1
critical = 1.03
"""
SLIDE = (0.985,) * 9
CRASH = (0.93, 0.94)


@dataclass(slots=True)
class Slide:
    """What was told, what the protocol's own account said at each head, and when heads came."""

    crowd: Sequence[bytes]
    notes: list[dict[str, Any]]
    healths: list[dict[bytes, int]] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """From a head's arrival to each message at the webhook, of those about that head."""


def level_of(health: int) -> str:
    """Return a health's level by the settings above, "" for one that is safe."""
    if health < WAD:
        return "liquidatable"
    for name, threshold in (("critical", 103), ("call", 110), ("warning", 120)):
        if health * 100 <= threshold * WAD:
            return name
    return ""


async def told(play: Play) -> None:
    """Wait until the caller is done with the last head."""
    caller = play.stage.line.margin
    assert caller is not None
    head = play.stage.reports[-1].view.head.number
    async with asyncio.timeout(60):
        while caller.done_at < head:  # noqa: ASYNC110 - it works beside the line
            await asyncio.sleep(0.002)


async def delivered(play: Play) -> None:
    """Wait until the webhook has everything."""
    async with asyncio.timeout(60):
        while play.stage.keeper.dispatcher.waiting("desk"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def by_borrower(notes: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return what was told of each borrower, in order."""
    found = defaultdict(list)
    for note in notes:
        found[note["data"]["borrower"].lower()].append(note["data"])
    return found


def by_position(notes: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return what was told of each position, by its market and borrower, in order."""
    found = defaultdict(list)
    for note in notes:
        found[note["data"]["market"], note["data"]["borrower"].lower()].append(note["data"])
    return found


def crowded(net: Devnet, count: int, health: tuple[float, float]) -> list[bytes]:
    """Open so many positions, a fifth of them of several assets."""
    crowd = net.borrowers(count * 4 // 5, health=health, seed=21)
    return crowd + net.borrowers(
        count - len(crowd),
        collateral=("WETH", "WBTC"),
        debt=("USDC", "DAI"),
        health=health,
        seed=22,
    )


def healths(net: Devnet, crowd: Sequence[bytes]) -> dict[bytes, int]:
    """Return the healths that the protocol itself gives at the chain's head."""
    calls = [(net.market.pool, "getUserAccountData(address)", [who]) for who in crowd]
    answers = net.chain.call_many(calls, ["uint256"] * 6, "latest")
    return {who: answer[5] for who, answer in zip(crowd, answers, strict=True)}


async def slide(
    net: Devnet,
    home: Path,
    count: int,
    shares: Sequence[float],
    *,
    health: tuple[float, float] = (1.02, 1.5),
    live: bool = True,
) -> Slide:
    """Let prices fall by these shares, a head each, with so many borrowers watched."""
    arrivals: dict[int, float] = {}
    tick = Engine.tick

    async def ticked(engine: Engine, of: Tick[Any]) -> None:
        arrivals[of.head.number] = of.received_at
        await tick(engine, of)

    crowd = crowded(net, count, health)
    Engine.tick = ticked  # type: ignore[assignment,method-assign]
    try:
        with Hook() as hook:
            found = Slide(crowd, hook.notes)
            async with playing(net, home, live=live, extra=hook.table + WATCH) as play:
                await told(play)
                for share in (1.0, *shares, 1.0):
                    price = int(net.price("WETH") * share)
                    await play.stage.step(partial(net.set_price, "WETH", price))
                    await told(play)
                    await delivered(play)
                    found.heads.append(play.stage.reports[-1].view.head.number)
                    found.healths.append(healths(net, crowd))
            for note, arrived in zip(hook.notes, hook.arrived, strict=True):
                found.seconds.append(arrived - arrivals[note["data"]["head"]])
    finally:
        Engine.tick = tick  # type: ignore[method-assign]
    return found


def check(found: Slide) -> int:
    """Assert that each level was told once, in order, and before a liquidation; return how many were."""
    keys = [note["key"] for note in found.notes]
    assert len(keys) == len(set(keys))
    messages = by_borrower(found.notes)
    liquidations = 0
    for who in found.crowd:
        levels = [each["level"] for each in messages.get("0x" + who.hex(), [])]
        # until it is liquidated a position only gets worse here
        end = levels.index("liquidated") if "liquidated" in levels else len(levels)
        before = levels[:end]
        assert before == sorted(set(before), key=ORDER.index), levels
        # at each head the chain's own account shows one level: those, in that order, were told
        shown = [level_of(health[who]) for health in found.healths]
        if end == len(levels):
            assert before == [each for each in dict.fromkeys(shown) if each], (levels, shown)
        else:
            liquidations += 1
            assert before, "liquidated, and nobody was told before"
            assert set(before) <= set(shown)
    return liquidations
