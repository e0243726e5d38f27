"""The rules of Aave v3.6 (POOL_REVISION 10): interest, balances, health and close factor.

Plain functions of integers: rates and indexes are in ray, amounts in token units, values in the
oracle's base currency. `eras` says since when each of them holds, `early` what held before.
"""

from keeper.protocols.aave_v3.fixed import (
    percent_mul_half_up,
    ray_div_down,
    ray_div_up,
    ray_mul_down,
    ray_mul_half_up,
    ray_mul_up,
    wad_div_half_up,
)
from keeper.units import BPS, MAX_UINT256, RAY, WAD, Wad

POOL_REVISION = 10
SUPPLY_TOKEN_REVISIONS = frozenset({5})
"""ATokenInstance.ATOKEN_REVISION, ATokenWithDelegationInstance's too."""
DEBT_TOKEN_REVISIONS = frozenset({5, 6})
"""VariableDebtTokenInstance.DEBT_TOKEN_REVISION, and VariableDebtTokenMainnetInstanceGHO's."""
SECONDS_PER_YEAR = 365 * 24 * 3600
HEALTHY = WAD
"""ValidationLogic.HEALTH_FACTOR_LIQUIDATION_THRESHOLD."""
CLOSE_FACTOR_HEALTH = 95 * WAD // 100
"""LiquidationLogic.CLOSE_FACTOR_HF_THRESHOLD; also ValidationLogic's minimum for the sentinel."""
CLOSE_FACTOR_BPS = 5_000
"""LiquidationLogic.DEFAULT_LIQUIDATION_CLOSE_FACTOR."""
FULL_CLOSE_BASE = 2_000 * 10**8
"""LiquidationLogic.MIN_BASE_MAX_CLOSE_FACTOR_THRESHOLD."""
LEFTOVER_BASE = FULL_CLOSE_BASE // 2
"""LiquidationLogic.MIN_LEFTOVER_BASE."""


def linear_interest(rate: int, seconds: int) -> int:
    """Return growth at simple interest (MathUtils.calculateLinearInterest)."""
    return RAY + rate * seconds // SECONDS_PER_YEAR


def compounded_interest(rate: int, seconds: int) -> int:
    """Return growth by a third-order expansion (MathUtils.calculateCompoundedInterest)."""
    x = rate * seconds // SECONDS_PER_YEAR
    return RAY + x + ray_mul_half_up(x, x // 2 + ray_mul_half_up(x, x // 6))


def liquidity_index(index: int, rate: int, seconds: int) -> int:
    """Return the supply index after a time (ReserveLogic.getNormalizedIncome)."""
    return ray_mul_half_up(linear_interest(rate, seconds), index) if seconds else index


def supply_balance_down(scaled: int, index: int) -> int:
    """Return an aToken balance (TokenMath.getATokenBalance)."""
    return ray_mul_down(scaled, index)


def debt_balance_up(scaled: int, index: int) -> int:
    """Return a variable debt (TokenMath.getVTokenBalance)."""
    return ray_mul_up(scaled, index)


def scaled_supply(balance: int, index: int) -> int:
    """Return the only scaled amount whose balance is this one, if there is one.

    Inverts `supply_balance_down`; an index is at least one ray, so no two amounts share a balance.
    """
    return ray_div_up(balance, index)


def scaled_debt(balance: int, index: int) -> int:
    """Return the only scaled amount whose debt is this one, if there is one.

    Inverts `debt_balance_up`.
    """
    return ray_div_down(balance, index)


def collateral_value_down(amount: int, price: int, unit: int) -> int:
    """Return the base value of a collateral (GenericLogic._getUserBalanceInBaseCurrency)."""
    return amount * price // unit


def debt_value_up(amount: int, price: int, unit: int) -> int:
    """Return the base value of a debt (GenericLogic._getUserDebtInBaseCurrency)."""
    return -(-amount * price // unit)


def least_debt_above(value: int, price: int, unit: int) -> int:
    """Return the least debt that `debt_value_up` values at this or more."""
    return (value - 1) * unit // price + 1


def health_factor(value: int, weighted: int, debt_value: int) -> Wad:
    """Return health from Σ value·threshold (bps) and Σ debt (GenericLogic.calculateUserAccountData).

    Σ value is of no account since v3.5. Without debt it is the largest uint256.
    """
    del value
    if debt_value == 0:
        return Wad(MAX_UINT256)
    return Wad(wad_div_half_up(weighted, debt_value) // BPS)


def repay_cap(
    reserve_debt: int,
    reserve_debt_value: int,
    collateral_value: int,
    total_debt_value: int,
    health: int,
    debt_price: int,
    debt_unit: int,
) -> int:
    """Return the debt the close factor allows to repay (LiquidationLogic.executeLiquidationCall).

    `collateral_value` and `reserve_debt_value` are those of the two reserves in question, the cap
    is half of the borrower's debt in all reserves.
    """
    if (
        collateral_value >= FULL_CLOSE_BASE
        and reserve_debt_value >= FULL_CLOSE_BASE
        and health > CLOSE_FACTOR_HEALTH
    ):
        half = percent_mul_half_up(total_debt_value, CLOSE_FACTOR_BPS)
        if reserve_debt_value > half:
            return half * debt_unit // debt_price
    return reserve_debt
