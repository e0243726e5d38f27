"""What a liquidation leaves of a position, exact to the wei.

Source: LiquidationLogic.executeLiquidationCall, _burnDebtTokens, _burnCollateralATokens and
_burnBadDebt. Within one block no index moves, so what the call leaves is what it starts
from less what it burns, and every other leg stands as it was.
"""

from dataclasses import replace

from keeper.protocols.aave_v3.terms import AaveTerms
from keeper.protocols.aave_v3.v36 import collateral_value_down
from keeper.types import CollateralLeg, DebtLeg, Position


def after(position: Position, terms: AaveTerms, repay: int) -> Position:
    """Return the position behind a legal call with this `debtToCover`, in the same block.

    Legs that are used up are gone, as they are from a position read then. When what is taken is all
    the collateral there is by value, the protocol writes every debt off, since v3.3.
    """
    seizure = terms.seize(repay)
    taken = collateral_value_down(terms.taken(repay), terms.collateral_price, terms.collateral_unit)
    collateral = tuple(
        left
        for leg in position.collateral
        if (left := _collateral(leg, terms, seizure.received, seizure.protocol_fee)) is not None
    )
    debt: tuple[DebtLeg, ...] = ()
    if taken != position.collateral_value or not terms.era.writes_off:
        debt = tuple(
            owed
            for each in position.debt
            if (owed := _debt(each, terms, seizure.repaid)) is not None
        )
    total = sum(leg.value for leg in debt)
    value = sum(leg.value for leg in collateral)
    weighted = sum(leg.value * leg.threshold for leg in collateral)
    return replace(
        position,
        collateral=collateral,
        debt=debt,
        collateral_value=value,
        debt_value=total,
        health=terms.era.health(value, weighted, total),
    )


def _collateral(
    leg: CollateralLeg, terms: AaveTerms, received: int, fee: int
) -> CollateralLeg | None:
    if leg.token.address != terms.collateral.address:
        return leg
    era = terms.era
    scaled = terms.scaled - era.supply_burn(received, terms.supply_index)
    scaled -= era.supply_burn(fee, terms.supply_index)
    if scaled <= 0:
        return None
    amount = era.supply_balance(scaled, terms.supply_index)
    value = collateral_value_down(amount, terms.collateral_price, terms.collateral_unit)
    return replace(leg, amount=amount, value=value)


def _debt(leg: DebtLeg, terms: AaveTerms, repaid: int) -> DebtLeg | None:
    if leg.token.address != terms.debt.address:
        return leg
    era = terms.era
    scaled = terms.scaled_debt - era.debt_burn(repaid, terms.debt_index)
    if scaled <= 0:
        return None
    amount = era.debt_balance(scaled, terms.debt_index)
    value = era.debt_value(amount, terms.debt_price, terms.debt_unit)
    return replace(leg, amount=amount, value=value)
