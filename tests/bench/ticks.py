"""A tick costs the hits: a thousand cross at one feed's tick, among a million and among 10,000.

The hits are a tenth of the small market, so its bands would be made of them; it is under
`LEAST_ROWS` and has none: each of its ticks reads all 10,000 rows and nothing is ever made anew.
What maintaining bands costs falls on the million alone. Positions are those of `Crowd`, not of a
real market: computing those exactly takes thirty times as long on both sides, which would bring
the ratio to one whatever the screen does.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any, cast

import numpy as np

from keeper.book.band import LEAST_ROWS
from keeper.book.legs import Rows
from keeper.book.market import MarketBook
from keeper.ports import LendingProtocol
from keeper.types import NextBlock
from keeper.units import Wei
from tests.bench.crowd import ASSETS, Crowd, priced

SIZES = (10_000, 1_000_000)
HITS = 1_000
TICKS = 500
"""Falls of the first feed, each after a rise: a path of twice as many ticks on all feeds."""
COMMON, OWN = 0.0007, 0.0004
"""Standard deviation of one tick, shared by all feeds and of each alone."""
FALL = 0.995
AT = NextBlock(1, 12, Wei(1))


@dataclass
class Taken:
    """Seconds of the ticks of a path, of their screens alone, and what they came to."""

    ticks: list[float] = field(default_factory=list)
    screens: list[float] = field(default_factory=list)
    found: int = 0
    full_passes: int = 0


def _timed(screen: Callable[..., Rows], seconds: list[float]) -> Callable[..., Rows]:
    def screened(*arguments: object) -> Rows:
        started = time.perf_counter()
        rows = screen(*arguments)
        seconds.append(time.perf_counter() - started)
        return rows

    return screened


async def _path(size: int) -> Taken:
    """Walk all feeds together, and let the first fall and rise at every other tick."""
    crowd: Any = Crowd(size, seed=2, planted=HITS)
    market = MarketBook(cast("LendingProtocol", crowd))
    await market.load()
    draw = np.random.default_rng(3)
    shared, walk = 0.0, np.zeros(ASSETS)
    taken = Taken()
    columns: Any = market._columns
    columns.candidates = _timed(columns.candidates, taken.screens)
    for tick in range(2 * TICKS):
        # A pull back to the start keeps the number that crosses the same over the whole path.
        shared = 0.98 * shared + draw.normal(0, COMMON)
        walk = 0.98 * walk + draw.normal(0, OWN, ASSETS)
        # The legs of those planted move as one, so that exactly they cross.
        values = np.exp(shared + np.concatenate([np.zeros(5), walk[5:]]))
        if tick % 2:
            values[0] *= FALL
        market.prices = priced(values)
        full = columns.work(*crowd.factors(market.prices, AT), 1.00001) == size
        started = time.perf_counter()
        judged = await market.at_risk(AT, lambda: True)
        taken.ticks.append(time.perf_counter() - started)
        assert judged is not None
        taken.full_passes += full
        taken.found += len(judged[0])
    return taken


def _reading(size: int, taken: Taken) -> str:
    """Say what the ticks read."""
    if size <= LEAST_ROWS:
        return f"no bands under {LEAST_ROWS:,} rows: each tick reads all of them"
    banded = len(taken.ticks) - taken.full_passes
    return f"{banded} ticks read bands alone, {taken.full_passes} all rows and made bands anew"


def figures() -> dict[str, float]:
    """Walk the same path in both markets; every tick counts whole, bands made anew included."""
    found: dict[str, float] = {}
    for size in SIZES:
        taken = asyncio.run(_path(size))
        name = "1m" if size > 100_000 else "10k"
        found[f"tick_hits_us_{name}"] = 1e6 * fmean(taken.ticks)
        found[f"tick_screen_us_{name}"] = 1e6 * fmean(taken.screens)
        found[f"tick_full_passes_{name}"] = taken.full_passes
        judging = (sum(taken.ticks) - sum(taken.screens)) / max(taken.found, 1)
        found[f"tick_judging_us_a_hit_{name}"] = 1e6 * judging
        print(
            f"{size:>9,} borrowers: {len(taken.ticks):,} ticks of all feeds, "
            f"{taken.found / TICKS:,.0f} hits at every other one: {1e6 * fmean(taken.ticks):,.0f} µs "
            f"a tick (median {1e6 * median(taken.ticks):,.0f}), the screen alone "
            f"{1e6 * fmean(taken.screens):,.0f} (median {1e6 * median(taken.screens):,.0f}), "
            f"{1e6 * judging:,.1f} µs to judge a hit; {_reading(size, taken)}"
        )
    found["tick_hits_ratio"] = found["tick_hits_us_1m"] / found["tick_hits_us_10k"]
    found["tick_screen_ratio"] = found["tick_screen_us_1m"] / found["tick_screen_us_10k"]
    print(
        f"1,000,000 against 10,000: {found['tick_hits_ratio']:.2f}× whole, "
        f"{found['tick_screen_ratio']:.2f}× the screen alone, "
        f"{found['tick_judging_us_a_hit_1m'] / found['tick_judging_us_a_hit_10k']:.2f}× judging a hit"
    )
    return found


if __name__ == "__main__":
    figures()
