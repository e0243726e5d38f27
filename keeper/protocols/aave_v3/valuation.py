"""What a borrower's collateral and debt are worth, exact."""

from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.v36 import collateral_value_down
from keeper.types import CollateralLeg, DebtLeg, Position, Prices
from keeper.units import Address, Bps

NO_CATEGORY = Category()


def collateral_terms(category: Category, reserve: Reserve) -> tuple[Bps, Bps]:
    """Return threshold and bonus: the category's where it lists the reserve as collateral.

    GenericLogic.calculateUserAccountData and LiquidationLogic.executeLiquidationCall. Up to v3.5 a
    reserve whose own threshold is zero counts for nothing, in a category neither.
    """
    if not (reserve.threshold or reserve.era.counts_unweighted):
        return Bps(0), reserve.bonus
    if category.collateral >> reserve.id & 1:
        return category.threshold, category.bonus
    return reserve.threshold, reserve.bonus


def position(
    ledger: Ledger, protocol: str, borrower: Address, prices: Prices, timestamp: int
) -> Position | None:
    """Return a borrower's position with interest to `timestamp`, None without a price it needs.

    Equals GenericLogic.calculateUserAccountData in a block of that timestamp. Like the contract it
    needs the price of every reserve flagged as collateral, even of an empty one.
    """
    account = ledger.account(borrower)
    category = ledger.categories.get(account.category, NO_CATEGORY)
    era = ledger.era
    values = prices.values
    collateral = []
    total = weighted = 0
    flags = account.flags
    while flags:
        bit = flags & -flags
        flags ^= bit
        reserve = ledger.reserves.get(bit.bit_length() - 1)
        if reserve is None:
            continue
        price = values.get(reserve.asset)
        if price is None or reserve.token is None:
            return None
        scaled = account.supplied.get(reserve.id)
        if scaled is None or not (reserve.threshold or era.counts_unweighted):
            continue
        threshold, bonus = collateral_terms(category, reserve)
        amount = era.supply_balance(scaled, reserve.supply_index_at(timestamp))
        value = collateral_value_down(amount, price, reserve.unit)
        total += value
        weighted += value * threshold
        collateral.append(CollateralLeg(reserve.token, amount, value, threshold, bonus))
    debt = []
    owed = 0
    borrowed, stable = account.borrowed, ledger.stable.get(borrower)
    for number in sorted(borrowed if stable is None else {*borrowed, *stable}):
        reserve = ledger.reserves[number]
        price = values.get(reserve.asset)
        if price is None or reserve.token is None:
            return None
        scaled = borrowed.get(number, 0)
        amount = era.debt_balance(scaled, reserve.borrow_index_at(timestamp)) if scaled else 0
        if stable is not None and number in stable:
            amount += stable[number].owed(era.compounded, timestamp)
        value = era.debt_value(amount, price, reserve.unit)
        owed += value
        debt.append(DebtLeg(reserve.token, amount, value))
    return Position(
        market=ledger.market,
        protocol=protocol,
        borrower=borrower,
        collateral=tuple(collateral),
        debt=tuple(debt),
        collateral_value=total,
        debt_value=owed,
        health=era.health(total, weighted, owed),
        category=account.category,
    )
