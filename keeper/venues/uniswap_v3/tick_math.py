"""Prices at ticks, as v3-core's TickMath.sol computes them."""

import math
from functools import lru_cache

MIN_TICK = -887272
MAX_TICK = 887272
MIN_SQRT_RATIO = 4295128739
MAX_SQRT_RATIO = 1461446703485210103287273052203988822378723970342

_Q96 = 2**96
_LOG_STEP = math.log(1.0001) / 2

# sqrt(1.0001^-(2^i)) as Q128.128, in TickMath.sol: getSqrtRatioAtTick
_FACTORS = (
    0xFFFCB933BD6FAD37AA2D162D1A594001,
    0xFFF97272373D413259A46990580E213A,
    0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0,
    0xFFCB9843D60F6159C9DB58835C926644,
    0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861,
    0xFE5DEE046A99A2A811C461F1969C3053,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54,
    0xF3392B0822B70005940C7A398E4B70F3,
    0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E5,
    0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6,
    0x9AA508B5B7A84E1C677DE54F3E99BC9,
    0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE98,
    0x48A170391F7DC42444E8FA2,
)


@lru_cache(maxsize=1 << 17)
def sqrt_ratio_at_tick(tick: int) -> int:
    """Return the Q64.96 square root of 1.0001^tick, rounded up (TickMath.sol: getSqrtRatioAtTick)."""
    magnitude = abs(tick)
    if magnitude > MAX_TICK:
        raise ValueError(f"tick {tick} is out of range")
    ratio = 1 << 128
    for bit, factor in enumerate(_FACTORS):
        if magnitude >> bit & 1:
            ratio = ratio * factor >> 128
    if tick > 0:
        ratio = (2**256 - 1) // ratio
    return (ratio >> 32) + (ratio & 0xFFFFFFFF != 0)


def tick_at_sqrt_ratio(ratio: int) -> int:
    """Return the greatest tick whose price is at most this one (TickMath.sol: getTickAtSqrtRatio)."""
    if not MIN_SQRT_RATIO <= ratio < MAX_SQRT_RATIO:
        raise ValueError(f"sqrt ratio {ratio} is out of range")
    # The float lands within one tick; the integer comparisons decide.
    tick = min(max(math.floor(math.log(ratio / _Q96) / _LOG_STEP), MIN_TICK), MAX_TICK - 1)
    while sqrt_ratio_at_tick(tick) > ratio:
        tick -= 1
    while sqrt_ratio_at_tick(tick + 1) <= ratio:
        tick += 1
    return tick
