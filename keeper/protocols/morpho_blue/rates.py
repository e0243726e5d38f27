"""What a Morpho market charges between two accruals.

Source: AdaptiveCurveIrm.sol and ExpLib.sol of morpho-blue-irm. Any other rate model is asked at each
head instead: what it answers holds until the next accrual unless it depends on the time gone by.
"""

from keeper.protocols.morpho_blue.fixed import compounded_down, wad_div_down, wad_mul_down
from keeper.units import WAD

YEAR = 365 * 86_400
TARGET = 9 * WAD // 10
STEEPNESS = 4 * WAD
SPEED = 50 * WAD // YEAR
INITIAL = 4 * WAD // 100 // YEAR
LEAST = WAD // 1_000 // YEAR
MOST = 2 * WAD // YEAR
_LN_2 = 693_147_180_559_945_309
_LN_WEI = -41_446_531_673_892_822_312
_EXP_BOUND = 93_859_467_695_000_404_319
_EXP_MOST = 57716089161558943949701069502944508345128422502756744429568


def _div_to_zero(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)


def _wad_mul_to_zero(a: int, b: int) -> int:
    return _div_to_zero(a * b, WAD)


def exp_to_zero(x: int) -> int:
    """Return e^x in wad (ExpLib.wExp): powers of two, and two terms of the series for the rest."""
    if x < _LN_WEI:
        return 0
    if x >= _EXP_BOUND:
        return _EXP_MOST
    half = _LN_2 // 2
    power = _div_to_zero(x + (half if x >= 0 else -half), _LN_2)
    rest = x - power * _LN_2
    base = WAD + rest + rest * rest // WAD // 2
    return base << power if power >= 0 else base >> -power


def adaptive_rate(
    supplied: int, borrowed: int, rate_at_target: int, elapsed: int
) -> tuple[int, int]:
    """Return the average rate per second (wad) over a time, and the rate at target behind it.

    AdaptiveCurveIrm._borrowRate; a `rate_at_target` of 0 is a market's first interaction.
    """
    use = wad_div_down(borrowed, supplied) if supplied else 0
    room = WAD - TARGET if use > TARGET else TARGET
    error = _div_to_zero((use - TARGET) * WAD, room)
    if not rate_at_target:
        average = end = INITIAL
    else:
        change = _wad_mul_to_zero(SPEED, error) * elapsed
        average = end = rate_at_target
        if change:
            end = _moved(rate_at_target, change)
            middle = _moved(rate_at_target, _div_to_zero(change, 2))
            average = (rate_at_target + end + 2 * middle) // 4
    slope = WAD - wad_div_down(WAD, STEEPNESS) if error < 0 else STEEPNESS - WAD
    return _wad_mul_to_zero(_wad_mul_to_zero(slope, error) + WAD, average), end


def _moved(rate: int, change: int) -> int:
    return min(max(_wad_mul_to_zero(rate, exp_to_zero(change)), LEAST), MOST)


def interest_down(borrowed: int, rate: int, elapsed: int) -> int:
    """Return the interest of a time at a rate per second (Morpho._accrueInterest)."""
    return wad_mul_down(borrowed, compounded_down(rate, elapsed))
