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


def step_down(
    price: int, target: int, liquidity: int, remaining: int, fee: int
) -> tuple[int, int, int]:
    """Sell token0 from `price` towards a lower `target`: price reached, input with fee, output.

    Source: SwapMath.sol: computeSwapStep, exact input, zero for one.
    """
    less_fee = remaining * (PIPS - fee) // PIPS
    amount_in = amount0_up(target, price, liquidity)
    if less_fee >= amount_in:
        spent = amount_in + mul_div_up(amount_in, fee, PIPS - fee)
        return target, spent, amount1_down(target, price, liquidity)
    reached = price_down(price, liquidity, less_fee)
    out = amount1_down(reached, price, liquidity)
    if reached == target:
        return reached, amount_in + mul_div_up(amount_in, fee, PIPS - fee), out
    return reached, remaining, out


def step_up(
    price: int, target: int, liquidity: int, remaining: int, fee: int
) -> tuple[int, int, int]:
    """Sell token1 from `price` towards a higher `target`: price reached, input with fee, output.

    Source: SwapMath.sol: computeSwapStep, exact input, one for zero.
    """
    less_fee = remaining * (PIPS - fee) // PIPS
    amount_in = amount1_up(price, target, liquidity)
    if less_fee >= amount_in:
        spent = amount_in + mul_div_up(amount_in, fee, PIPS - fee)
        return target, spent, amount0_down(price, target, liquidity)
    # SqrtPriceMath.sol: getNextSqrtPriceFromAmount1RoundingDown, add = true
    reached = price + (less_fee << 96) // liquidity
    out = amount0_down(price, reached, liquidity)
    if reached == target:
        return reached, amount_in + mul_div_up(amount_in, fee, PIPS - fee), out
    return reached, remaining, out
