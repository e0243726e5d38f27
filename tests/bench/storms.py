"""How many blocks a storm takes with one wallet and with several, and what it costs."""

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from keeper.devnet import Devnet
from tests.line import playing

COUNTS = (1, 20, 100, 400)
LANES = (1, 4)
MOST_BLOCKS = 8
SIZE = (8_000, 24_000)
"""Dollars of collateral each; the pools stand a storm of four hundred."""
PAIRS = (("WETH", "USDC"), ("WBTC", "USDC"))


async def _measure(net: Devnet, home: Path, count: int, lanes: int) -> dict[str, float]:
    """Let everybody fall in one block and count the blocks until nobody is under water."""
    crowd = []
    for number, (collateral, debt) in enumerate(PAIRS):
        share = (count + number) // len(PAIRS)
        if share:
            opened = partial(net.borrowers, share, health=(1.01, 1.05), size_usd=SIZE)
            crowd += await asyncio.to_thread(opened, collateral=collateral, debt=debt)
    fallen = {name: net.price(name) * 92 // 100 for name, _ in PAIRS}
    async with playing(net, home, lanes=lanes) as play:
        await play.stage.step(partial(net.set_prices, fallen))
        if len(play.under(crowd)) != count:
            raise RuntimeError(f"{len(play.under(crowd))} of {count} fell")
        blocks = 0
        while play.under(crowd) and blocks < MOST_BLOCKS:
            await play.stage.mine()
            blocks += 1
        await play.stage.mine()
        tally = play.count()
        if tally.liquidated != set(crowd):
            raise RuntimeError(f"{len(tally.liquidated)} of {count} liquidated")
    name = f"storm_{count}_lanes_{lanes}"
    return {
        f"{name}_blocks": blocks,
        f"{name}_rejected": tally.rejected_sends,
        f"{name}_reverted": tally.reverted,
        f"{name}_gas_per_liquidation": tally.gas // tally.liquidations,
    }


def figures(net: Devnet) -> dict[str, float]:
    """Play every storm on the chain, which is left as it was."""
    found: dict[str, float] = {}
    for count in COUNTS:
        for lanes in LANES:
            before = net.snapshot()
            with tempfile.TemporaryDirectory() as home:
                found |= asyncio.run(_measure(net, Path(home), count, lanes))
            net.revert(before)
    return found
