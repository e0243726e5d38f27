"""A full pass of the screen, next to reading the same bytes."""

import gc
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np

from keeper.book.columns import Columns
from keeper.book.legs import excess_table
from keeper.types import NextBlock
from keeper.units import Wei
from tests.bench import floor
from tests.bench.crowd import ASSETS, Crowd, priced

SIZES = {1_000_000: "", 100_000: "_100k", 10_000: "_10k"}
THRESHOLD = 1.05
AT = NextBlock(1, 12, Wei(1))


def milliseconds(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Return the median processor time of each call.

    Both take turns and run in this thread alone: what else the machine does counts for neither.
    """
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, times in zip(works, taken, strict=True):
            started = time.thread_time()
            work()
            times.append(1000 * (time.thread_time() - started))
    return [median(times) for times in taken]


def figures() -> dict[str, float]:
    """Screen markets of three sizes; print bytes and times, return them and the ratios."""
    found: dict[str, float] = {}
    for size, suffix in SIZES.items():
        crowd = Crowd(size, seed=1)
        gather = crowd.all_legs()
        legs = gather()
        started = time.perf_counter()
        columns = Columns.filled(legs)
        load = time.perf_counter() - started
        del legs
        excess = excess_table(*crowd.factors(priced(np.ones(ASSETS)), AT), THRESHOLD)
        gc.collect()
        rounds = 15 if size > 500_000 else 101
        table = columns.table
        ours, least = milliseconds(
            rounds, partial(table.under, excess), partial(floor.read, list(table.arrays()))
        )
        print(
            f"screen of {size:>9,} borrowers: {table.nbytes:,} bytes, pass {ours:.2f} ms, "
            f"floor {least:.2f} ms, {ours / least:.2f}×, {len(table.under(excess)):,} under "
            f"{THRESHOLD}, columns built in {load:.2f} s"
        )
        found[f"screen_full_vs_floor{suffix}"] = ours / least
        found[f"screen_full_ms{suffix}"] = ours
        found[f"screen_floor_ms{suffix}"] = least
        found[f"screen_bytes{suffix}"] = table.nbytes
        found[f"screen_build_seconds{suffix}"] = load
    return found


if __name__ == "__main__":
    figures()
