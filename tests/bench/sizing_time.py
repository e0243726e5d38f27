"""How long it takes to size a position: from pools held locally, and by asking QuoterV2."""

import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from keeper.devnet import Devnet, Pool
from tests.bench.judge import Drawn, Judge
from tests.brute.debtor import Debtor
from tests.brute.search import GOLDEN

SYMBOLS = ("WETH", "WBTC", "USDC", "USDT", "DAI")
"""Tokens that ten of the local chain's pools connect."""
HOPS = 3
HEADS = 12
ASKED = 3
"""Positions of a head sized through the quoter: each takes dozens of calls."""
QUOTE = "quoteExactInput(bytes,uint256)"
STEPS = 20
TIMES = 9
"""Times each head is quoted, of which the least counts."""


def figures(net: Devnet) -> dict[str, float]:
    """Return microseconds per position over heads of their own; what a head costs once is apart."""
    judge = Judge(net)
    whole = judge.scenes[1]
    tokens = {whole.market.tokens[symbol].address for symbol in SYMBOLS}
    pools = tuple(pool for pool in whole.pools if {pool.token0, pool.token1} <= tokens)
    scene = replace(whole, venue=judge.venue(whole.market, *SYMBOLS), pools=pools, max_hops=HOPS)
    each: list[float] = []
    alone: list[float] = []
    asked: list[float] = []
    for head in range(HEADS):
        with judge.drawn(scene, 10_000 + head, len(scene.crowd)) as drawn:
            if len(drawn.choices) < 4:
                continue
            one, every = _seconds(judge, drawn, 1), _seconds(judge, drawn, len(drawn.choices))
            alone.append(one)
            each.append((every - one) / (len(drawn.choices) - 1))
            for debtor in drawn.debtors[:ASKED]:
                start = time.perf_counter()
                _ask(judge, drawn, pools, debtor)
                asked.append(time.perf_counter() - start)
    print(f"sizing: {len(pools)} pools, {HOPS} hops, {len(each)} heads, {len(asked)} by the quoter")
    return {
        "sizing_us_p50": 1e6 * median(each),
        "sizing_first_us_p50": 1e6 * median(alone),
        "sizing_quoter_us": 1e6 * median(asked),
        "sizing_vs_quoter": median(asked) / median(each),
    }


def _seconds(judge: Judge, drawn: Drawn, count: int) -> float:
    """Return the least of some times to quote the first positions of a head."""
    planner = judge.planner(drawn.scene)
    taken = []
    for _ in range(TIMES):
        start = time.perf_counter()
        planner.quote(drawn.view, drawn.choices[:count])
        taken.append(time.perf_counter() - start)
    return min(taken)


def _ask(judge: Judge, drawn: Drawn, pools: tuple[Pool, ...], debtor: Debtor) -> int:
    """Size one position by calls alone: every path at the largest repay, then steps on the best."""
    tokens = drawn.scene.market.tokens
    sold, bought = (tokens[name].address for name in (drawn.scene.collateral, drawn.scene.debt))

    def brought(path: bytes, cover: int) -> int:
        done = debtor.call(cover)
        if done is None:
            return 0
        args = [path, done.received]
        returns = ["uint256", "uint160[]", "uint32[]", "uint256"]
        out = int(judge.net.call(judge.net.uniswap.quoter, QUOTE, args, returns)[0])
        return out - done.repaid

    low, high = 0, debtor.cap()
    best = max(_paths(pools, sold, bought, HOPS), key=lambda path: brought(path, high))
    left, right = high - int(high * GOLDEN), int(high * GOLDEN)
    at_left, at_right = brought(best, left), brought(best, right)
    for _ in range(STEPS):
        if at_left < at_right:
            low, left, at_left = left, right, at_right
            right = low + int((high - low) * GOLDEN)
            at_right = brought(best, right)
        else:
            high, right, at_right = right, left, at_left
            left = high - int((high - low) * GOLDEN)
            at_left = brought(best, left)
    return left


def _paths(pools: tuple[Pool, ...], sold: bytes, bought: bytes, hops: int) -> Iterator[bytes]:
    """Yield every path as the quoter reads it: token, fee, token, fee, token."""
    for pool in pools:
        if sold in {pool.token0, pool.token1}:
            got = pool.token1 if sold == pool.token0 else pool.token0
            head = sold + pool.fee.to_bytes(3, "big")
            if got == bought:
                yield head + bought
            elif hops > 1:
                rest = tuple(each for each in pools if sold not in {each.token0, each.token1})
                for tail in _paths(rest, got, bought, hops - 1):
                    yield head + tail
