"""A full pass of the screen, next to reading the same bytes."""

import gc
import time
from collections.abc import Callable
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


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of a call."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return median(taken)


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
        ours = milliseconds(lambda table=table, excess=excess: table.under(excess), rounds)  # type: ignore[misc]
        least = milliseconds(lambda table=table: floor.read(table.arrays()), rounds)  # type: ignore[misc]
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
