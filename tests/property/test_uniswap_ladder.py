"""Quotes from kept price ranges equal a swap made step by step, at and beside every boundary."""

import random

from hypothesis import given, settings, strategies as st

from keeper.units import Address
from keeper.venues.uniswap_v3.ladder import Ladder
from keeper.venues.uniswap_v3.pool import Point, Pool
from keeper.venues.uniswap_v3.tick_math import sqrt_ratio_at_tick

FEES = {1: 100, 10: 500, 60: 3_000, 200: 10_000}
LAST = 887_272


def drawn(rng: random.Random) -> Pool:
    """Return a pool of up to six ranges with gaps between them, at a price inside or on a tick."""
    spacing = rng.choice(list(FEES))
    low, high = (Address(bytes([number]) * 20) for number in (1, 2))
    pool = Pool(Address(b"\x03" * 20), low, high, FEES[spacing], spacing)
    tick = rng.randint(-300_000, 300_000)
    active = 0
    for _ in range(rng.randint(1, 6)):
        start = (tick + rng.randint(-6_000, 5_000)) // spacing * spacing
        end = start + spacing * rng.randint(1, 6_000 // spacing)
        if rng.random() < 0.2:
            start, end = -LAST // spacing * spacing + spacing, LAST // spacing * spacing
        liquidity = int(10 ** rng.uniform(0, 24))
        pool.add_liquidity(start, liquidity, liquidity)
        pool.add_liquidity(end, liquidity, -liquidity)
        active += liquidity if start <= tick < end else 0
    price = sqrt_ratio_at_tick(tick)
    if rng.random() < 0.8:
        price = rng.randrange(price, sqrt_ratio_at_tick(tick + 1))
    pool.at = Point(price, tick, active)
    return pool


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    token0=st.booleans(),
    steps=st.sampled_from([1, 3, 200]),
    amounts=st.lists(st.integers(1, 10**30), min_size=3, max_size=8),
)
def test_a_kept_range_gives_what_a_swap_gives(
    seed: int, token0: bool, steps: int, amounts: list[int]
) -> None:
    pool = drawn(random.Random(seed))
    ladder = Ladder(pool, pool.at, token0=token0, steps=steps)
    bounds: list[int] = []
    at, total = pool.at, 0
    while (rung := pool.rung(at, token0=token0)) and len(bounds) < 8 and not rung.is_last:
        total, at = total + rung.spent, rung.after
        bounds += [total - 1, total, total + 1]
    for amount in (*amounts, *bounds):
        filled = pool.sell(pool.at, amount, token0=token0, steps=steps)
        assert ladder.out(amount) == (0 if filled.left else filled.out)


def test_a_pool_without_a_price_fills_nothing() -> None:
    pool = Pool(Address(b"\x03" * 20), Address(b"\x01" * 20), Address(b"\x02" * 20), 500, 10)
    ladder = Ladder(pool, pool.at, token0=True, steps=200)
    assert [ladder.out(amount) for amount in (-1, 0, 1, 10**20, 2**255)] == [0] * 5
