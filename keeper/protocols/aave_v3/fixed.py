"""Aave's fixed-point arithmetic on integers; every rounding is in the function's name.

Sources: WadRayMath.sol, PercentageMath.sol and MathUtils.sol (aave-v3-origin v3.7). Operands are
non-negative; Solidity's overflow checks have no counterpart because Python integers do not wrap.
"""

from keeper.units import BPS, RAY, WAD

HALF_RAY = RAY // 2
HALF_BPS = BPS // 2


def ray_mul_half_up(a: int, b: int) -> int:
    """Return a·b in ray (WadRayMath.rayMul)."""
    return (a * b + HALF_RAY) // RAY


def ray_mul_down(a: int, b: int) -> int:
    """Return a·b in ray (WadRayMath.rayMulFloor)."""
    return a * b // RAY


def ray_mul_up(a: int, b: int) -> int:
    """Return a·b in ray (WadRayMath.rayMulCeil)."""
    return -(-a * b // RAY)


def ray_div_down(a: int, b: int) -> int:
    """Return a/b in ray (WadRayMath.rayDivFloor)."""
    return a * RAY // b


def ray_div_up(a: int, b: int) -> int:
    """Return a/b in ray (WadRayMath.rayDivCeil)."""
    return -(-a * RAY // b)


def wad_div_half_up(a: int, b: int) -> int:
    """Return a/b in wad (WadRayMath.wadDiv)."""
    return (a * WAD + b // 2) // b


def percent_mul_half_up(value: int, bps: int) -> int:
    """Return a share of a value (PercentageMath.percentMul)."""
    return (value * bps + HALF_BPS) // BPS


def percent_mul_up(value: int, bps: int) -> int:
    """Return a share of a value (PercentageMath.percentMulCeil)."""
    return -(-value * bps // BPS)


def percent_div_half_up(value: int, bps: int) -> int:
    """Return what a value is a share of (PercentageMath.percentDiv)."""
    return (value * BPS + bps // 2) // bps


def percent_div_up(value: int, bps: int) -> int:
    """Return what a value is a share of (PercentageMath.percentDivCeil)."""
    return -(-value * BPS // bps)


def ray_div_half_up(a: int, b: int) -> int:
    """Return a/b in ray (WadRayMath.rayDiv)."""
    return (a * RAY + b // 2) // b


def percent_mul_down(value: int, bps: int) -> int:
    """Return a share of a value (PercentageMath.percentMulFloor)."""
    return value * bps // BPS


def percent_div_down(value: int, bps: int) -> int:
    """Return what a value is a share of (PercentageMath.percentDivFloor)."""
    return value * BPS // bps
