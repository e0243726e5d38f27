"""The rules of Aave v3.0 to v3.4 where later revisions round or decide otherwise.

Read in core-v3 1.19.3 and, up to v3.4, in aave-v3-origin: the same functions as in `v36`, with the
rounding and the close factor of their time.
"""

from keeper.protocols.aave_v3.fixed import (
    percent_mul_half_up,
    ray_div_half_up,
    ray_mul_half_up,
    wad_div_half_up,
)
from keeper.protocols.aave_v3.v36 import (
    CLOSE_FACTOR_BPS,
    CLOSE_FACTOR_HEALTH,
    SECONDS_PER_YEAR,
)
from keeper.units import MAX_UINT256, RAY, Wad


def compounded_interest(rate: int, seconds: int) -> int:
    """Return growth by three terms of the binomial expansion, up to v3.3.

    MathUtils.calculateCompoundedInterest, which reads a time of zero as no growth.
    """
    less_one, less_two = max(seconds - 1, 0), max(seconds - 2, 0)
    square = ray_mul_half_up(rate, rate) // (SECONDS_PER_YEAR * SECONDS_PER_YEAR)
    cube = ray_mul_half_up(square, rate) // SECONDS_PER_YEAR
    second = seconds * less_one * square // 2
    third = seconds * less_one * less_two * cube // 6
    return RAY + rate * seconds // SECONDS_PER_YEAR + second + third


def balance_half_up(scaled: int, index: int) -> int:
    """Return a balance of an aToken or a debt token (AToken.balanceOf), up to v3.4."""
    return ray_mul_half_up(scaled, index)


def scaled_half_up(balance: int, index: int) -> int:
    """Return the only scaled amount whose balance is this one, and what a burn takes of it.

    ScaledBalanceTokenBase._burnScaled. An index is at least one ray, so that the rounding of the
    balance moves the quotient by less than a half.
    """
    return ray_div_half_up(balance, index)


def debt_value_down(amount: int, price: int, unit: int) -> int:
    """Return the base value of a debt (GenericLogic._getUserDebtInBaseCurrency), up to v3.4."""
    return amount * price // unit


def least_debt_up(value: int, price: int, unit: int) -> int:
    """Return the least debt that `debt_value_down` values at this or more."""
    return -(-value * unit // price)


def health_factor(value: int, weighted: int, debt_value: int) -> Wad:
    """Return health through the average threshold in whole bps, up to v3.4.

    GenericLogic.calculateUserAccountData; `value` is Σ value, `weighted` Σ value·threshold.
    """
    if debt_value == 0:
        return Wad(MAX_UINT256)
    threshold = weighted // value if value else 0
    return Wad(wad_div_half_up(percent_mul_half_up(value, threshold), debt_value))


def repay_cap(
    reserve_debt: int,
    reserve_debt_value: int,
    collateral_value: int,
    total_debt_value: int,
    health: int,
    debt_price: int,
    debt_unit: int,
) -> int:
    """Return the debt the close factor allows to repay, up to v3.2 (LiquidationLogic._calculateDebt).

    Half of the borrower's debt in this one reserve, or all of it at a health of 0.95 or less.
    """
    del reserve_debt_value, collateral_value, total_debt_value, debt_price, debt_unit
    if health > CLOSE_FACTOR_HEALTH:
        return percent_mul_half_up(reserve_debt, CLOSE_FACTOR_BPS)
    return reserve_debt
