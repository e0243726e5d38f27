"""Watched positions through a slide and a crash, with the keeper killed at every head.

python -m tests.margin_killed 1000 7 plays it with a thousand positions under the seed 7. Each kill
falls into the middle of what a head has told: before, among or behind its messages.
"""

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator
from tests.live import Live, living
from tests.margin_slide import (
    CRASH,
    ORDER,
    SLIDE,
    WATCH,
    Slide,
    by_borrower,
    check,
    crowded,
    healths,
    level_of,
)
from tests.webhook import Hook

LIQUIDATED = "0xe413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286"
"""LiquidationCall of an Aave pool."""


def fall(
    live: Live, hook: Hook, crowd: Sequence[bytes], shares: Sequence[float], seed: int
) -> Slide:
    """Let prices fall by these shares, a head and a kill each, and return what was told."""
    draw, net = random.Random(seed), live.net
    begin = net.chain.block_number()
    found = Slide(crowd, hook.notes)
    look(live)
    found.healths.append(healths(net, crowd))
    for number, share in enumerate(shares):
        hook.refusals = number % 2
        told = len(hook.notes)
        live._pin()
        net.set_price("WETH", int(net.price("WETH") * share))
        now, before = healths(net, crowd), found.healths[-1]
        worse = sum(rank(now[who]) > rank(before[who]) for who in crowd)
        if worse and number % 3:
            hook.until(told + draw.randint(1, worse))
        live.kill()
        live.start()
        live.settle()
        look(live)
        found.healths.append(now)
    live.blocks(3)
    look(live)
    open_ones = "SELECT count(*) FROM notices WHERE delivered IS NULL"
    live.until(lambda: live.rows(open_ones) == [(0,)])
    posted = {key for (key,) in live.rows("SELECT key FROM notices")}
    assert {note["key"] for note in hook.notes} == posted
    # what was under way at a kill may arrive twice, by the same key
    found.notes = list({note["key"]: note for note in hook.notes}.values())
    last = dict(live.rows("SELECT borrower, level FROM margin_standings"))
    messages = by_borrower(found.notes)
    for who in crowd:
        text = "0x" + who.hex()
        told_last = messages[text][-1]["level_now"] if text in messages else "safe"
        assert told_last == last.get(text, "safe")
    assert told_of(messages) == taken(net, begin), "a liquidation went untold"
    return found


def look(live: Live) -> None:
    """Wait until the keeper has told what there is to tell of the chain's head."""
    head = live.net.chain.block_number()
    live.until(lambda: live.rows("SELECT block_number FROM margin_heads") == [(head,)])


def rank(health: int) -> int:
    """Return how bad a health is, by the levels' order; 0 for safe."""
    level = level_of(health)
    return ORDER.index(level) + 1 if level else 0


def told_of(messages: dict[str, list[dict[str, object]]]) -> set[tuple[str, int]]:
    """Return transaction and index of each liquidation that was told."""
    told = [
        each["liquidation"]
        for all_of in messages.values()
        for each in all_of
        if "liquidation" in each
    ]
    return {(each["transaction"], each["log_index"]) for each in told}  # type: ignore[index]


def taken(net: Devnet, begin: int) -> set[tuple[str, int]]:
    """Return transaction and index of each liquidation since a block, as the chain has them."""
    wanted = {
        "address": "0x" + net.market.pool.hex(),
        "fromBlock": hex(begin),
        "toBlock": "latest",
        "topics": [LIQUIDATED],
    }
    logs = net.rpc("eth_getLogs", wanted)
    return {(log["transactionHash"], int(log["logIndex"], 16)) for log in logs}


def main() -> None:
    """Play it once and print what came of it."""
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    with Devnet.start() as net, tempfile.TemporaryDirectory() as home, Hook() as hook:
        operator = deploy_operator(net)
        crowd = crowded(net, count, (1.02, 1.5))
        start = time.monotonic()
        settings = {"extra": hook.table + WATCH}
        with living(net, operator, Path(home), **settings) as live:
            found = fall(live, hook, crowd, (*SLIDE, *CRASH), seed)
        liquidated = check(found)
        print(
            f"{count} watched positions, {len(SLIDE) + len(CRASH)} kills (seed {seed}): "
            f"{len(found.notes)} messages in {len(hook.notes)} deliveries, {liquidated} liquidated, "
            f"none missed, {time.monotonic() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
