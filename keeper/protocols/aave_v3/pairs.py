"""Which debt/collateral pairs may be liquidated at the next block, and why the others may not."""

from collections.abc import Sequence
from typing import NamedTuple

from keeper.protocols.aave_v3 import v36
from keeper.protocols.aave_v3.eras import Era
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.sentinel import Sentinel
from keeper.protocols.aave_v3.terms import AaveTerms
from keeper.types import CollateralLeg, DebtLeg, Position, Prices, Reason, Skip
from keeper.units import Bps


def refusal(reserve: Reserve, timestamp: int) -> tuple[Reason, str] | None:
    """Return why a reserve takes no liquidation (ValidationLogic.validateLiquidationCall)."""
    symbol = reserve.token.symbol if reserve.token else ""
    if not reserve.is_active:
        return Reason.PAUSED, f"{symbol} is inactive"
    if reserve.is_paused:
        return Reason.PAUSED, f"{symbol} is paused"
    if reserve.grace_until >= timestamp:
        return Reason.GRACE, f"{symbol} is in its grace period until {reserve.grace_until}"
    return None


def pairs(
    ledger: Ledger, position: Position, prices: Prices, timestamp: int, sentinel: Sentinel | None
) -> tuple[list[AaveTerms], list[Skip]]:
    """Return the terms of every pair that may be liquidated and a refusal for what may not.

    All of it follows from the position, so it may be one that a call of the same block leaves.
    """
    if position.health >= v36.HEALTHY:
        return [], []

    def skip(why: tuple[Reason, str]) -> Skip:
        return Skip(position.market, position.protocol, position.borrower, *why)

    era = ledger.era
    if sentinel is not None and era.has_sentinel and position.health >= v36.CLOSE_FACTOR_HEALTH:
        why = sentinel.refusal(timestamp)
        if why is not None:
            return [], [skip(why)]
    skips: list[Skip] = []
    debts = _open(ledger, position.debt, timestamp)
    collaterals = _open(ledger, position.collateral, timestamp)
    skips.extend(skip(why) for _, _, why in (*debts, *collaterals) if why is not None)
    owing = [
        _Owed(owed, prices.get(debt.asset), debt.unit, debt.borrow_index_at(timestamp))
        for debt, owed, shut in debts
        if shut is None and isinstance(owed, DebtLeg)
    ]
    found: list[AaveTerms] = []
    for collateral, seized, closed in collaterals:
        if closed is not None or not isinstance(seized, CollateralLeg) or not seized.amount:
            continue
        if not seized.bonus:
            skips.append(skip((Reason.DENIED, f"{seized.token.symbol} has no liquidation bonus")))
            continue
        available = collateral.available
        if not available:
            skips.append(skip(_dry(collateral, seized)))
            continue
        supply_index = collateral.supply_index_at(timestamp)
        held = _Held(
            seized,
            prices.get(collateral.asset),
            collateral.unit,
            supply_index,
            era.scaled_supply(seized.amount, supply_index),
            collateral.protocol_fee,
            available,
        )
        for owed in owing:
            terms = _terms(position, held, owed, era)
            if terms is None:
                skips.append(skip((Reason.NO_PRICE, "a price of the pair was not read")))
            elif terms.legal_down(terms.maximum):
                found.append(terms)
            elif terms.seize(terms.maximum).received > available:
                skips.append(skip(_dry(collateral, seized)))
            else:
                pair = f"{owed.leg.token.symbol} against {seized.token.symbol}"
                skips.append(skip((Reason.DUST, f"no repay of {pair} is legal")))
    if not found and not skips:
        skips.append(skip((Reason.DUST, "no collateral is left to seize")))
    return found, skips


class _Held(NamedTuple):
    """One collateral and what its reserve adds; `scaled` is the aToken units behind it."""

    leg: CollateralLeg
    price: int | None
    unit: int
    supply_index: int
    scaled: int
    fee: Bps
    available: int


class _Owed(NamedTuple):
    """One debt and what its reserve adds."""

    leg: DebtLeg
    price: int | None
    unit: int
    debt_index: int


def _open(
    ledger: Ledger, legs: Sequence[CollateralLeg | DebtLeg], timestamp: int
) -> list[tuple[Reserve, CollateralLeg | DebtLeg, tuple[Reason, str] | None]]:
    found = []
    for leg in legs:
        reserve = ledger.by_asset[leg.token.address]
        found.append((reserve, leg, refusal(reserve, timestamp)))
    return found


def _dry(reserve: Reserve, leg: CollateralLeg) -> tuple[Reason, str]:
    if reserve.available is None:
        return Reason.NO_LIQUIDITY, f"{leg.token.symbol}'s liquidity was not read"
    return Reason.NO_LIQUIDITY, f"{reserve.available} of {leg.token.symbol} can be withdrawn"


def _terms(position: Position, held: _Held, owed: _Owed, era: Era) -> AaveTerms | None:
    if held.price is None or owed.price is None:
        return None
    seized, debt = held.leg, owed.leg
    cap = era.repay_cap(
        debt.amount,
        debt.value,
        seized.value,
        position.debt_value,
        position.health,
        owed.price,
        owed.unit,
    )
    return AaveTerms(
        collateral=seized.token,
        debt=debt.token,
        bonus=seized.bonus,
        fee=held.fee,
        collateral_price=held.price,
        debt_price=owed.price,
        collateral_unit=held.unit,
        debt_unit=owed.unit,
        balance=seized.amount,
        scaled=held.scaled,
        supply_index=held.supply_index,
        owed=debt.amount,
        debt_index=owed.debt_index,
        available=held.available,
        cap=cap,
        era=era,
    )
