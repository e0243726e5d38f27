"""Powers of numbers with 18 decimals, rounded as Balancer rounds them.

LogExpMath.sol: a logarithm and an exponential from tables and short series, whose every division
cuts towards zero. FixedPoint.sol: the error that `pow_up` adds, and the shortcuts of later pools.
"""

from enum import IntEnum

ONE = 10**18
_ONE_20 = 10**20
_ONE_36 = 10**36
_LEAST_EXPONENT, _MOST_EXPONENT = -41 * ONE, 130 * ONE
_MILD = 2**254 // _ONE_20
_LOW, _HIGH = ONE * 9 // 10, ONE * 11 // 10
_RELATIVE_ERROR = 10_000

_LARGE = (
    (128 * ONE, 38877084059945950922200000000000000000000000000000000000),
    (64 * ONE, 6235149080811616882910000000),
)
"""Exponents with 18 decimals and their powers of e without any."""
_STEPS = (
    (32 * _ONE_20, 7896296018268069516100000000000000),
    (16 * _ONE_20, 888611052050787263676000000),
    (8 * _ONE_20, 298095798704172827474000),
    (4 * _ONE_20, 5459815003314423907810),
    (2 * _ONE_20, 738905609893065022723),
    (_ONE_20, 271828182845904523536),
    (_ONE_20 // 2, 164872127070012814685),
    (_ONE_20 // 4, 128402541668774148407),
    (_ONE_20 // 8, 113314845306682631683),
    (_ONE_20 // 16, 106449445891785942956),
)
"""Halving exponents and their powers of e, all with 20 decimals."""
_EXP_STEPS = _STEPS[:8]


class Powers(IntEnum):
    """How a pool takes powers: by logarithm always, or by multiplying where it can."""

    LOGARITHM = 1
    SHORTCUTS = 2


def pow_up(base: int, exponent: int, powers: Powers) -> int:
    """Return base^exponent, not below the true value (FixedPoint.sol: powUp).

    Raises `ArithmeticError` where the contract reverts.
    """
    if powers is Powers.SHORTCUTS:
        if exponent == ONE:
            return base
        if exponent == 2 * ONE:
            return mul_up(base, base)
        if exponent == 4 * ONE:
            square = mul_up(base, base)
            return mul_up(square, square)
    raw = power(base, exponent)
    return raw + mul_up(raw, _RELATIVE_ERROR) + 1


def mul_up(a: int, b: int) -> int:
    """Return a product of two numbers with 18 decimals, rounded up."""
    return -(-a * b // ONE)


def div_up(a: int, b: int) -> int:
    """Return a quotient of two numbers with 18 decimals, rounded up."""
    return -(-a * ONE // b)


def power(base: int, exponent: int) -> int:
    """Return base^exponent as LogExpMath.sol: pow finds it; raise `ArithmeticError` out of range."""
    if exponent == 0:
        return ONE
    if base == 0:
        return 0
    if base >> 255 or exponent >= _MILD:
        raise ArithmeticError("out of range")
    if _LOW < base < _HIGH:
        log = _ln_36(base)
        whole = _cut(log, ONE)
        product = whole * exponent + _cut((log - whole * ONE) * exponent, ONE)
    else:
        product = _ln(base) * exponent
    product = _cut(product, ONE)
    if not _LEAST_EXPONENT <= product <= _MOST_EXPONENT:
        raise ArithmeticError("out of range")
    return _exp(product)


def _exp(x: int) -> int:
    if x < 0:
        return ONE * ONE // _exp(-x)
    first = 1
    for exponent, value in _LARGE:
        if x >= exponent:
            x -= exponent
            first = value
            break
    x *= 100
    product = _ONE_20
    for exponent, value in _EXP_STEPS:
        if x >= exponent:
            x -= exponent
            product = product * value // _ONE_20
    term, series = x, _ONE_20 + x
    for number in range(2, 13):
        term = term * x // _ONE_20 // number
        series += term
    return product * series // _ONE_20 * first // 100


def _ln(x: int) -> int:
    if x < ONE:
        return -_ln(ONE * ONE // x)
    total = 0
    for exponent, value in _LARGE:
        if x >= value * ONE:
            x //= value
            total += exponent
    total *= 100
    x *= 100
    for exponent, value in _STEPS:
        if x >= value:
            x = x * _ONE_20 // value
            total += exponent
    z = (x - _ONE_20) * _ONE_20 // (x + _ONE_20)
    squared, term, series = z * z // _ONE_20, z, z
    for divisor in (3, 5, 7, 9, 11):
        term = term * squared // _ONE_20
        series += term // divisor
    return (total + 2 * series) // 100


def _ln_36(x: int) -> int:
    """Return the logarithm of a number near one, with 36 decimals."""
    x *= ONE
    z = _cut((x - _ONE_36) * _ONE_36, x + _ONE_36)
    squared, term, series = z * z // _ONE_36, z, z
    for divisor in (3, 5, 7, 9, 11, 13, 15):
        term = _cut(term * squared, _ONE_36)
        series += _cut(term, divisor)
    return 2 * series


def _cut(a: int, b: int) -> int:
    """Divide by a positive number, towards zero."""
    return a // b if a >= 0 else -(-a // b)
