"""One step of a swap at constant liquidity, as v3-core's SwapMath and SqrtPriceMath compute it."""

from keeper.units import MAX_UINT256, mul_div_up

PIPS = 1_000_000


def amount0_up(low: int, high: int, liquidity: int) -> int:
    """Return token0 between two prices, rounded up (SqrtPriceMath.sol: getAmount0Delta)."""
    return -(mul_div_up(liquidity << 96, high - low, high) // -low)


def amount0_down(low: int, high: int, liquidity: int) -> int:
    """Return token0 between two prices, rounded down (SqrtPriceMath.sol: getAmount0Delta)."""
    return (liquidity << 96) * (high - low) // high // low


def amount1_up(low: int, high: int, liquidity: int) -> int:
    """Return token1 between two prices, rounded up (SqrtPriceMath.sol: getAmount1Delta)."""
    return -(-liquidity * (high - low) >> 96)


def amount1_down(low: int, high: int, liquidity: int) -> int:
    """Return token1 between two prices, rounded down (SqrtPriceMath.sol: getAmount1Delta)."""
    return liquidity * (high - low) >> 96


def price_down(price: int, liquidity: int, amount: int) -> int:
    """Return the price after adding token0, rounded up.

    Source: SqrtPriceMath.sol: getNextSqrtPriceFromAmount0RoundingUp, add = true.
    """
    if amount == 0:
        return price
    shifted = liquidity << 96
    product = amount * price
    if product + shifted <= MAX_UINT256:
        return -(-shifted * price // (shifted + product))
    return -(shifted // -(shifted // price + amount))


def price_up(price: int, liquidity: int, amount: int) -> int:
    """Return the price after adding token1, rounded down.

    Source: SqrtPriceMath.sol: getNextSqrtPriceFromAmount1RoundingDown, add = true.
    """
    return price + (amount << 96) // liquidity


def cross(price: int, target: int, liquidity: int, fee: int) -> tuple[int, int]:
    """Return what reaching a target price takes, fee included, and gives.

    An exact input that is at least that reaches it (SwapMath.sol: computeSwapStep).
    """
    if liquidity == 0:
        return 0, 0
    if target <= price:
        amount_in = amount0_up(target, price, liquidity)
        out = amount1_down(target, price, liquidity)
    else:
        amount_in = amount1_up(price, target, liquidity)
        out = amount0_down(price, target, liquidity)
    return amount_in + mul_div_up(amount_in, fee, PIPS - fee), out
