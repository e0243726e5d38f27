"""Morpho Blue's arithmetic on integers; every rounding is in the function's name.

Sources: MathLib.sol, SharesMathLib.sol and Morpho.sol (morpho-blue 1.0.0). Operands are non-negative.
"""

from keeper.units import WAD, mul_div_down, mul_div_up

PRICE_SCALE = 10**36
"""ConstantsLib.ORACLE_PRICE_SCALE: loan units for a unit of collateral."""
MAX_INCENTIVE = 115 * WAD // 100
"""ConstantsLib.MAX_LIQUIDATION_INCENTIVE_FACTOR."""
CURSOR = 3 * WAD // 10
"""ConstantsLib.LIQUIDATION_CURSOR."""
VIRTUAL_SHARES = 10**6
VIRTUAL_ASSETS = 1


def wad_mul_down(a: int, b: int) -> int:
    """Return a·b in wad (MathLib.wMulDown)."""
    return a * b // WAD


def wad_div_down(a: int, b: int) -> int:
    """Return a/b in wad (MathLib.wDivDown)."""
    return a * WAD // b


def wad_div_up(a: int, b: int) -> int:
    """Return a/b in wad (MathLib.wDivUp)."""
    return -(-a * WAD // b)


def compounded_down(rate: int, seconds: int) -> int:
    """Return e^(rate·seconds) - 1 in wad by three terms of its series (MathLib.wTaylorCompounded)."""
    first = rate * seconds
    second = first * first // (2 * WAD)
    third = second * first // (3 * WAD)
    return first + second + third


def assets_up(shares: int, total_assets: int, total_shares: int) -> int:
    """Return the assets shares stand for (SharesMathLib.toAssetsUp)."""
    return mul_div_up(shares, total_assets + VIRTUAL_ASSETS, total_shares + VIRTUAL_SHARES)


def assets_down(shares: int, total_assets: int, total_shares: int) -> int:
    """Return the assets shares stand for (SharesMathLib.toAssetsDown)."""
    return mul_div_down(shares, total_assets + VIRTUAL_ASSETS, total_shares + VIRTUAL_SHARES)


def shares_up(assets: int, total_assets: int, total_shares: int) -> int:
    """Return the shares of an amount of assets (SharesMathLib.toSharesUp)."""
    return mul_div_up(assets, total_shares + VIRTUAL_SHARES, total_assets + VIRTUAL_ASSETS)


def shares_down(assets: int, total_assets: int, total_shares: int) -> int:
    """Return the shares of an amount of assets (SharesMathLib.toSharesDown)."""
    return mul_div_down(assets, total_shares + VIRTUAL_SHARES, total_assets + VIRTUAL_ASSETS)


def quoted_down(collateral: int, price: int) -> int:
    """Return what collateral is worth in loan units."""
    return mul_div_down(collateral, price, PRICE_SCALE)


def most_borrowed_down(collateral: int, price: int, lltv: int) -> int:
    """Return the most that collateral lets owe (Morpho._isHealthy)."""
    return wad_mul_down(quoted_down(collateral, price), lltv)


def incentive_down(lltv: int) -> int:
    """Return what a liquidator receives for one unit repaid, in wad (Morpho.liquidate)."""
    return min(MAX_INCENTIVE, wad_div_down(WAD, WAD - wad_mul_down(CURSOR, WAD - lltv)))


def seized_down(assets: int, price: int, incentive: int) -> int:
    """Return the collateral a repay in assets takes (Morpho.liquidate with repaidShares)."""
    return mul_div_down(wad_mul_down(assets, incentive), PRICE_SCALE, price)


def repaid_up(collateral: int, price: int, incentive: int) -> int:
    """Return the assets to repay for collateral (Morpho.liquidate with seizedAssets)."""
    return wad_div_up(mul_div_up(collateral, price, PRICE_SCALE), incentive)
