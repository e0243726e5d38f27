"""How many blocks a storm takes with one wallet and with several, and what it costs."""

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from keeper.cli.demo.tally import Tally
from keeper.devnet import Devnet
from tests.line import Play, playing

COUNTS = (1, 20, 100, 400)
LANES = (1, 4)
MOST_BLOCKS = 8
SIZE = (8_000, 24_000)
"""Dollars of collateral each; the pools stand a storm of four hundred."""
PAIRS = (("WETH", "USDC"), ("WBTC", "USDC"))


async def _storm(play: Play, count: int, lanes: int) -> dict[str, float]:
    """Let everybody fall in one block and count the blocks until nobody is under water."""
    net, stage = play.net, play.stage
    play.count()
    play.tally = Tally()
    crowd: list[bytes] = []
    for number, (collateral, debt) in enumerate(PAIRS):
        share = (count + number) // len(PAIRS)
        if share:
            opening = partial(net.borrowers, share, health=(1.01, 1.05), size_usd=SIZE)
            crowd += await stage.step(partial(opening, collateral=collateral, debt=debt))
    prices = {name: net.price(name) for name, _ in PAIRS}
    await stage.step(
        partial(net.set_prices, {name: price * 92 // 100 for name, price in prices.items()})
    )
    if len(play.under(crowd)) != count:
        raise RuntimeError(f"{len(play.under(crowd))} of {count} fell")
    used = len({plan.sender for report in stage.reports for plan in report.sent})
    blocks = 0
    while play.under(crowd) and blocks < MOST_BLOCKS:
        await stage.mine()
        blocks += 1
    await stage.mine()
    tally = play.count()
    if tally.liquidated != set(crowd):
        raise RuntimeError(f"{len(tally.liquidated)} of {count} liquidated")
    await stage.step(partial(net.set_prices, prices))
    name = f"storm_{count}_lanes_{lanes}"
    return {
        f"{name}_blocks": blocks,
        f"{name}_rejected": tally.rejected_sends,
        f"{name}_reverted": tally.reverted,
        f"{name}_gas_per_liquidation": tally.gas // tally.liquidations,
        f"{name}_used": used,
    }


async def _storms(net: Devnet, home: Path, lanes: int) -> dict[str, float]:
    """Play all storms, the prices back where they were after each, before one keeper."""
    found: dict[str, float] = {}
    async with playing(net, home, lanes=lanes) as play:
        for count in COUNTS:
            found |= await _storm(play, count, lanes)
    return found


def figures(net: Devnet) -> dict[str, float]:
    """Play every storm on the chain, which is left as it was."""
    found: dict[str, float] = {}
    for lanes in LANES:
        before = net.snapshot()
        with tempfile.TemporaryDirectory() as home:
            found |= asyncio.run(_storms(net, Path(home), lanes))
        net.revert(before)
    return found
