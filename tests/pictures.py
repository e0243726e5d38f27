"""Draw what the README shows of `keeper report` and `keeper stress`, from ten days on a local chain.

python -m tests.pictures
"""

import asyncio
import random
import re
import sys
import tempfile
from pathlib import Path

from keeper.cli import main
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.devnet.prices import put_prices
from keeper.units import to_hex

FOLDER = Path(__file__).resolve().parents[1] / ".github"
DAYS = 10
DAY = 86_400
GWEI = 10**9
PRICE = 2_500_00000000
WIDTH, HEIGHT = 760, 200


async def play(net: Devnet, home: Path) -> Path:
    """Let a keeper and a rival race for ten days, and leave a crowd for the stress."""
    draw = random.Random(7)
    path = write_settings(net, deploy_operator(net), home)
    overrides = [
        f"chains.devnet.rivals.swift={to_hex(Cast.RIVAL)}",
        # Days pass in a blink, and half of them are lost to the rival.
        "breakers.stale_head_blocks=1000000000",
    ]
    async with staged(net, load([path], overrides).settings, live=True) as stage:
        for day in range(DAYS):
            crowd = net.borrowers(draw.randint(2, 9), health=(1.01, 1.04), seed=100 + day)
            net.borrowers(2, health=1.03, size_usd=(20, 60), seed=200 + day)
            raced = crowd[: draw.randint(0, 2)]
            await stage.mine()

            def fall(raced: list[bytes] = raced) -> None:
                with net.one_block():
                    put_prices(net.chain, net.market, {"WETH": PRICE * 94 // 100})
                    net._put_arbitrage(net.market)
                    for victim in raced[:1]:
                        net.liquidate_as_rival(victim, "WETH", "USDC", put=True, max_fee=GWEI * 9)

            def race(raced: list[bytes] = raced) -> None:
                for victim in raced[1:]:
                    net.liquidate_as_rival(victim, "WETH", "USDC", put=True, max_fee=GWEI * 350)
                net.mine()

            await stage.step(fall)
            await stage.step(race)
            await stage.mine(2)
            await stage.step(lambda: net.set_price("WETH", PRICE))
            await stage.step(lambda: net.mine(seconds=DAY))
        await stage.line.reconciler.close()
    net.borrowers(60, health=(1.02, 1.6), size_usd=(200_000, 900_000), seed=300)
    return path


def told(*command: str) -> None:
    """Run one of the keeper's commands, which must succeed."""
    sys.argv = ["keeper", *command]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise


def pictures(page: str) -> str:
    """Return the page's pictures below each other, as one."""
    found = re.findall(r"<h2>([^<]*)</h2>(?:<p>[^<]*</p>)?\s*(<svg.*?</svg>)", page, re.DOTALL)
    parts = [
        f'<text x="8" y="{k * (HEIGHT + 30) + 20}" font-weight="bold">{title}</text>'
        f'<g transform="translate(0 {k * (HEIGHT + 30) + 28})">{drawn}</g>'
        for k, (title, drawn) in enumerate(found)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
        f'height="{len(found) * (HEIGHT + 30)}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def draw_all() -> None:
    """Write the pictures."""
    with Devnet.start() as net, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        path = str(asyncio.run(play(net, home)))
        told("stress", "-c", path, "--shock", "WETH=-20%", "--plot", str(FOLDER / "stress.png"))
        told("report", "-c", path)
        told("report", "-c", path, "--html", str(home / "report.html"))
        (FOLDER / "report.svg").write_text(pictures((home / "report.html").read_text()))


if __name__ == "__main__":
    draw_all()
