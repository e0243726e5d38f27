"""The ledger as the float screen takes it: legs by class, and what one unit of a class adds.

Collateral classes are a cToken under a pool's terms, `256 × pool + id`; debt classes are cTokens, and
behind them VAI.
A debt's amount is its principal over the index it was written at, in 1e36ths. Collateral stands at the
stored exchange rate and debt at the index to come, so that no pair's health is below the screen's.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keeper.ports import LegArrays, LegRow
from keeper.protocols.compound_v2.ctoken import Debt
from keeper.protocols.compound_v2.ledger import CORE, Ledger
from keeper.protocols.compound_v2.vai import Minted
from keeper.protocols.compound_v2.valuation import members, price_of
from keeper.types import Prices
from keeper.units import WAD, Address

CTOKENS = 256
"""Bits of a mask, and so ids, at most."""
SCALE = 10**36


def legs(ledger: Ledger, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
    """Return the collateral by class and the debt by id; none without debt."""
    owing = ledger.owing.get(borrower, 0)
    if not owing:
        return (), ()
    first = CTOKENS * ledger.chosen.get(borrower, CORE)
    collateral = [
        (first + ctoken.id, balance)
        for ctoken in members(ledger, ledger.entered.get(borrower, 0))
        if (balance := ctoken.balances.get(borrower, 0))
    ]
    debt = [(ctoken.id, _scaled(ctoken.debts[borrower])) for ctoken in members(ledger, owing)]
    minted = ledger.minters.get(borrower)
    if isinstance(minted, Minted) and ledger.vai is not None:
        debt.append((len(ledger.ctokens), minted.owed(max(ledger.vai.shown, minted.since))))
    return collateral, debt


def gather(ledger: Ledger) -> LegArrays:
    """Return every borrower's legs; a row is a borrower, and rows ascend."""
    borrowers = list(ledger.owing)
    collateral: list[tuple[int, int, float]] = []
    debt: list[tuple[int, int, float]] = []
    for row, borrower in enumerate(borrowers):
        held, owed = legs(ledger, borrower)
        collateral.extend((row, number, float(amount)) for number, amount in held)
        debt.extend((row, number, float(amount)) for number, amount in owed)
    return LegArrays(borrowers, *_columns(collateral), *_columns(debt))


def factors(
    ledger: Ledger, prices: Prices, until: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return dollars for each cToken unit, weighted by its threshold, and for each scaled debt."""
    pools = max((CORE, *ledger.pools, *ledger.chosen.values())) + 1
    collateral = np.full(pools * CTOKENS, np.nan)
    debt = np.full(len(ledger.ctokens) + 1, np.nan)
    debt[-1] = 1.0
    for ctoken in ledger.ctokens:
        price = price_of(ctoken, prices)
        if price is None or not ctoken.is_read:
            continue
        unit = ctoken.exchange_rate(ctoken.stored) / WAD * (price / WAD)
        for pool in range(pools):
            threshold = ledger.terms_of(pool, ctoken).threshold
            collateral[pool * CTOKENS + ctoken.id] = threshold / WAD * unit
        debt[ctoken.id] = ctoken.accrued(until).index * (price / WAD) / SCALE
    return collateral, debt


def _scaled(debt: Debt) -> int:
    principal, index = debt
    return principal * SCALE // index


def _columns(
    entries: list[tuple[int, int, float]],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    if not entries:
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    rows, numbers, amounts = zip(*entries, strict=True)
    return np.array(rows, np.intp), np.array(numbers, np.intp), np.array(amounts)
