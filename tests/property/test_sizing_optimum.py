"""Sizes against all that a brute force tries: grids, kinks, legal jumps, every wei of small pools.

A size is short when it earns less than the best tried by more than a billionth of it and by more
than what one unit of collateral costs: pools and protocol round to whole units, so that between two
sizes a unit apart profit is a sawtooth of that height.
"""

import random

from tests.brute.search import Best, best_cover
from tests.sizing_cases import Case, draw, draw_small, every_wei

CASES = 1_000
TWO_POOLS = 100
SMALL = 60

Short = list[tuple[int, Best, Best]]


def is_short(case: Case, planned: Best, best: Best) -> bool:
    """Say whether a planned size earns less than it could."""
    done = case.debtor.call(best.cover)
    if done is None:
        return False
    unit = -(-done.repaid // done.received)
    return planned.profit < min(best.profit * (1 - 1e-9), best.profit - unit)


def test_no_legal_repay_of_a_grid_earns_more() -> None:
    short: Short = []
    paying = strictly = 0
    for seed in range(CASES):
        case = draw(random.Random(seed))
        best = best_cover(case.debtor, case.curves, case.premium, steps=False)
        planned = case.planned()
        paying += best.profit > 0
        strictly += planned.profit < best.profit * (1 - 1e-9)
        if is_short(case, planned, best):
            short.append((seed, planned, best))
    print(f"{paying} of {CASES} seeds pay, {strictly} are short of the best by rounding")
    assert paying > CASES * 3 // 4
    assert short == []


def test_no_repay_over_two_pools_earns_more() -> None:
    short: Short = []
    for seed in range(TWO_POOLS):
        case = draw(random.Random(seed), pools=2)
        best = best_cover(case.debtor, case.curves, case.premium, points=400, steps=False)
        planned = case.planned()
        if is_short(case, planned, best):
            short.append((seed, planned, best))
    assert short == []


def test_no_wei_more_or_less_earns_more_in_a_small_pool() -> None:
    short: Short = []
    for seed in range(SMALL):
        case = draw_small(random.Random(seed))
        best, planned = every_wei(case), case.planned()
        if is_short(case, planned, best):
            short.append((seed, planned, best))
    assert short == []
