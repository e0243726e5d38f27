"""One pair of two legs, by the rules of any era."""

from keeper.protocols.aave_v3.eras import Era
from keeper.protocols.aave_v3.terms import AaveTerms
from keeper.protocols.aave_v3.v36 import collateral_value_down
from keeper.types import Token
from keeper.units import RAY, Address, Bps

WETH = Token(Address(b"\x01" * 20), "WETH", 18)
USDC = Token(Address(b"\x02" * 20), "USDC", 6)


def terms(
    era: Era,
    balance: int,
    owed: int,
    price: int,
    *,
    threshold: int = 8_300,
    supply_index: int = RAY,
    debt_index: int = RAY,
    bonus: int = 10_500,
) -> AaveTerms:
    """Return WETH against USDC, the only two legs of a borrower."""
    value = collateral_value_down(balance, price, 10**18)
    debt = era.debt_value(owed, 10**8, 10**6)
    health = era.health(value, value * threshold, debt)
    cap = era.repay_cap(owed, debt, value, debt, health, 10**8, 10**6)
    return AaveTerms(
        collateral=WETH,
        debt=USDC,
        bonus=Bps(bonus),
        fee=Bps(1_000),
        collateral_price=price,
        debt_price=10**8,
        collateral_unit=10**18,
        debt_unit=10**6,
        balance=balance,
        scaled=era.scaled_supply(balance, supply_index),
        supply_index=supply_index,
        owed=owed,
        debt_index=debt_index,
        available=10**40,
        cap=cap,
        era=era,
    )
