"""Compound's arithmetic: fixed point with 18 decimals, every step truncated.

Source: Exponential.sol, CToken.sol (accrueInterest, exchangeRateStoredInternal,
borrowBalanceStoredInternal), Comptroller.sol or ComptrollerLens.sol (_calculateAccountPosition,
_calculateSeizeTokens), and Venus' Liquidator.sol (_splitLiquidationIncentive).
"""

from dataclasses import dataclass

from keeper.units import WAD


@dataclass(frozen=True, slots=True)
class Accrued:
    """A cToken's totals after interest: index in wad, the others in units of the underlying."""

    index: int
    borrows: int
    reserves: int


def accrue_down(
    index: int, borrows: int, reserves: int, rate: int, elapsed: int, reserve_factor: int
) -> Accrued:
    """Return the totals after `elapsed` blocks (or seconds) at a simple rate per one of them."""
    factor = rate * elapsed
    interest = factor * borrows // WAD
    return Accrued(
        factor * index // WAD + index,
        interest + borrows,
        reserve_factor * interest // WAD + reserves,
    )


def exchange_rate_down(cash: int, borrows: int, reserves: int, supply: int) -> int:
    """Return units of the underlying for a cToken unit, in wad; 0 while there is no cToken."""
    return (cash + borrows - reserves) * WAD // supply if supply else 0


def borrow_balance_down(principal: int, index: int, account_index: int) -> int:
    """Return a debt with interest from the index it was written at to another."""
    return principal * index // account_index if principal else 0


def tokens_to_denom_down(factor: int, rate: int, price: int) -> int:
    """Return what a cToken unit counts for, in wad: its factor, exchange rate and price."""
    return factor * rate // WAD * price // WAD


def value_down(amount: int, price: int) -> int:
    """Return an amount's value; a price is in wad for each smallest unit."""
    return price * amount // WAD


def seize_ratio_down(incentive: int, borrow_price: int, collateral_price: int, rate: int) -> int:
    """Return cToken units seized for each unit repaid, in wad; 0 when the divisor is."""
    divisor = collateral_price * rate // WAD
    return incentive * borrow_price // WAD * WAD // divisor if divisor else 0


def seize_down(ratio: int, repay: int) -> int:
    """Return the cToken units that a repay seizes."""
    return ratio * repay // WAD


def repay_for_down(ratio: int, seized: int) -> int:
    """Return the largest repay that seizes no more than so many cToken units."""
    return ((seized + 1) * WAD - 1) // ratio


def protocol_seize_down(seized: int, share: int) -> int:
    """Return what a cToken keeps of a seizure for its reserves (CToken.seizeInternal)."""
    return seized * share // WAD


def treasury_seize_down(seized: int, incentive: int, share: int) -> int:
    """Return what Venus' Liquidator keeps: a share of the bonus within what was seized."""
    return seized * (incentive - WAD) // incentive * share // WAD


def redeem_down(tokens: int, rate: int, fee: int) -> int:
    """Return the underlying that cTokens bring, less Venus' treasury fee (VToken.redeemFresh)."""
    amount = rate * tokens // WAD
    return amount - amount * fee // WAD
