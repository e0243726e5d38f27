"""What screening a market and folding its logs cost, measured alike for every protocol."""

import time
from collections.abc import Sequence
from statistics import median

from keeper.book.columns import Columns
from keeper.book.legs import excess_table
from keeper.ports import LendingProtocol
from keeper.types import Log, NextBlock, Prices

ROUNDS = 21


def screened_ms(market: LendingProtocol, prices: Prices, at: NextBlock) -> tuple[float, float]:
    """Return the median milliseconds of a head's factors, and of the pass over everybody with them."""
    columns = Columns.filled(market.all_legs()())
    factors, passes = [], []
    for _ in range(ROUNDS):
        started = time.thread_time()
        made = market.factors(prices, at)
        between = time.thread_time()
        columns.table.under(excess_table(*made, 1.0))
        factors.append(1000 * (between - started))
        passes.append(1000 * (time.thread_time() - between))
    return median(factors), median(passes)


def folded_us(market: LendingProtocol, logs: Sequence[Log]) -> float:
    """Return the microseconds that folding one of these logs takes."""
    started = time.thread_time()
    for log in logs:
        market.fold(log)
    return 1e6 * (time.thread_time() - started) / len(logs)
